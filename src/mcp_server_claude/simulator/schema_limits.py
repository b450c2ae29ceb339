"""The schemas that the API compiles: `output_config.format` and the input schemas of strict tools, together.

Source: platform.claude.com/docs/en/build-with-claude/structured-outputs, as documented by August 2026. The sentences on
optional and union-typed parameters, on `additionalProperties`, on unsupported keywords and on the size of the grammar
are those of the API, quoted in public bug reports of August and September 2026; the others are assumed. The size from
which a grammar is too large is not documented: here it is `MAX_GRAMMAR_NODES` schema nodes.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from mcp_server_claude.simulator.api_errors import rejection
from mcp_server_claude.simulator.json_body import as_list, as_object, as_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mcp_server_claude.simulator.json_body import Json, Object

MAX_STRICT_TOOLS = 20
MAX_OPTIONAL_PROPERTIES = 24
MAX_UNION_PROPERTIES = 16
MAX_GRAMMAR_NODES = 2_000
FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"})
UNSUPPORTED_KEYWORDS = {
    "string": ("minLength", "maxLength"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    "integer": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    "array": ("maxItems", "uniqueItems", "contains", "prefixItems", "minContains", "maxContains"),
    "object": ("patternProperties", "minProperties", "maxProperties", "propertyNames", "dependentRequired"),
}
UNSUPPORTED_ANYWHERE = ("not", "if", "then", "else", "oneOf", "dependentSchemas", "unevaluatedProperties")
UNSUPPORTED_PATTERN_PARTS = ("(?=", "(?!", "(?<=", "(?<!", "\\b", "\\B", "\\1", "\\2")


def check_schemas(body: Object) -> None:
    """Pass a request whose compiled schemas are within the documented limits.

    Raises:
        RequestRejectedError: One of them is not supported, or all of them together are too complex.
    """
    strict = [
        (f"tools.{index}.custom", as_object(tool.get("input_schema")))
        for index, tool in enumerate(map(as_object, as_list(body.get("tools"))))
        if tool.get("strict") is True
    ]
    if len(strict) > MAX_STRICT_TOOLS:
        raise rejection(f"tools: Too many strict tools ({len(strict)}). The maximum is {MAX_STRICT_TOOLS}.")
    schemas = list(strict)
    output_format = as_object(body.get("output_config")).get("format")
    if output_format is not None:
        schemas.append(("output_config.format.schema", _format_schema(as_object(output_format))))
    counts: Counter[str] = Counter()
    for path, schema in schemas:
        _check_schema_references(path, schema)
        for node in _nodes(schema):
            _check_node(path, node)
            _count(node, counts)
    if counts["optional"] > MAX_OPTIONAL_PROPERTIES:
        raise rejection(
            f"Schemas contains too many optional parameters ({counts['optional']}), which would make grammar "
            "compilation inefficient. Reduce the number of optional parameters in your tool schemas (limit: "
            f"{MAX_OPTIONAL_PROPERTIES})."
        )
    if counts["unions"] > MAX_UNION_PROPERTIES:
        raise rejection(
            f"Schemas contains too many parameters with union types ({counts['unions']} parameters with type arrays "
            "or anyOf). This would cause exponential compilation cost. Reduce the number of nullable or union-typed "
            f"parameters (limit: {MAX_UNION_PROPERTIES} parameters with unions)."
        )
    if counts["nodes"] > MAX_GRAMMAR_NODES:
        raise rejection(
            f"{schemas[-1][0]}: Invalid schema: The compiled grammar is too large, which would cause performance "
            "issues. Simplify your tool schemas or reduce the number of strict tools."
        )


def _format_schema(output_format: Object) -> Object:
    if output_format.get("type") != "json_schema":
        raise rejection("output_config.format.type: Input should be 'json_schema'")
    if not isinstance(output_format.get("schema"), dict):
        raise rejection("output_config.format.schema: Field required")
    for name in output_format:
        if name not in {"type", "schema"}:
            raise rejection(f"output_config.format.{name}: Extra inputs are not permitted")
    return as_object(output_format["schema"])


def _nodes(schema: Json) -> Iterator[Object]:
    """The schema and every schema in it; what `const`, `enum` and `default` hold is no schema."""
    if not isinstance(schema, dict):
        return
    yield schema
    for name in ("properties", "$defs", "definitions"):
        for child in as_object(schema.get(name)).values():
            yield from _nodes(child)
    for name in ("anyOf", "allOf", "oneOf"):
        for child in as_list(schema.get(name)):
            yield from _nodes(child)
    yield from _nodes(schema.get("items"))
    yield from _nodes(schema.get("additionalProperties"))


def _count(node: Object, counts: Counter[str]) -> None:
    properties = as_object(node.get("properties"))
    required = {as_text(name) for name in as_list(node.get("required"))}
    counts["nodes"] += 1 + len(as_list(node.get("enum")))
    counts["optional"] += len(set(properties) - required)
    counts["unions"] += sum(
        "anyOf" in child or isinstance(child.get("type"), list) for child in map(as_object, properties.values())
    )


def _check_node(path: str, node: Object) -> None:
    kinds = [as_text(kind) for kind in as_list(node.get("type"))] or [as_text(node.get("type"))]
    if ("object" in kinds or "properties" in node) and node.get("additionalProperties") is not False:
        raise rejection(f"{path}: For 'object' type, 'additionalProperties' must be explicitly set to false")
    for kind in kinds:
        found = sorted(name for name in UNSUPPORTED_KEYWORDS.get(kind, ()) if name in node)
        if found:
            raise rejection(f"{path}: For '{kind}' type, properties {', '.join(found)} are not supported")
    for name in UNSUPPORTED_ANYWHERE:
        if name in node:
            raise rejection(f"{path}: Schema keyword '{name}' is not supported")
    least = node.get("minItems", 0)
    if least not in (0, 1):
        raise rejection(f"{path}: For 'array' type, 'minItems' values other than 0 or 1 are not supported")
    if isinstance(node.get("format"), str) and node["format"] not in FORMATS:
        raise rejection(f"{path}: String format '{as_text(node['format'])}' is not supported")
    if any(part in as_text(node.get("pattern")) for part in UNSUPPORTED_PATTERN_PARTS):
        raise rejection(f"{path}: Pattern is not supported: {as_text(node.get('pattern'))}")
    if any(isinstance(value, dict | list) for value in as_list(node.get("enum"))):
        raise rejection(f"{path}: Enum values must be strings, numbers, booleans or null")


def _check_schema_references(path: str, schema: Object) -> None:
    """Reject references that leave the schema or come back to themselves."""
    definitions = {
        f"#/{name}/{key}": child
        for name in ("$defs", "definitions")
        for key, child in as_object(schema.get(name)).items()
    }

    def visit(node: Json, open_references: frozenset[str]) -> None:
        for child in _nodes(node):
            if "$ref" not in child:
                continue
            reference = as_text(child.get("$ref"))
            if reference == "#" or reference in open_references:
                raise rejection(f"{path}: Recursive schemas are not supported: {reference}")
            if reference not in definitions:
                raise rejection(f"{path}: References must point to definitions of the same schema: {reference}")
            if reference not in visited:
                visited.add(reference)
                visit(definitions[reference], open_references | {reference})

    visited: set[str] = set()
    for reference, definition in definitions.items():
        visit(definition, frozenset({reference}))
    visit({key: value for key, value in schema.items() if key not in {"$defs", "definitions"}}, frozenset())
