"""Rewrites a schema to the part of JSON Schema that Claude's structured outputs take.

The source of the rules is platform.claude.com/docs, "Structured outputs": "JSON Schema limitations" and "Schema
complexity limits" (as of November 2026), with what the SDK's `transform_schema` does and with the API's own messages
where the page is silent: "Schema type 'oneOf' is not supported", "Schema type is missing", "Enum value … does not match
declared type", "For 'array' type, property 'maxItems' is not supported", "For 'object' type, property 'strict' …".
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from mcp_server_claude.errors import RequestError
from mcp_server_claude.frozen_dataclass import frozen_dataclass
from mcp_server_claude.schemas.json_values import (
    as_dict,
    as_int,
    as_list,
    as_strings,
    is_json_type,
    is_one_of,
    json_pointer,
    shorten,
)
from mcp_server_claude.schemas.merge_all_of import AllOfMerger
from mcp_server_claude.schemas.parse_schema import parse_json_schema
from mcp_server_claude.schemas.resolve_references import MAX_SCHEMA_NODES, resolve_reference
from mcp_server_claude.schemas.schema_keywords import (
    ANNOTATIONS,
    GENERAL_KEYWORDS,
    IGNORED_KEYWORDS,
    KEYWORDS_BY_TYPE,
    KNOWN_KEYWORDS,
    NON_CONSTRAINTS,
    SCALAR_TYPES,
    STRUCTURAL_KEYWORDS,
    WRAPPER_KEY,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mcp_server_claude.schemas.json_values import Json, Schema, SchemaPath

API_FORMATS = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"},
)
"""The string formats that the API takes."""
MAX_HINT_CHARS = 300

# Limits on all schemas of a request together ("Schema complexity limits").
MAX_OPTIONAL_PROPERTIES = 24
MAX_UNION_TYPES = 16


@frozen_dataclass(kw_only=True)
class NormalizedSchema:
    """A schema as it is sent; its root is always an object.

    `dropped` are the JSON pointers of the keywords that are not sent: the description names them where they are
    constraints, and `validate_output` enforces them. `wrapped` is true where the answer proper is the property `value`.
    `too_complex` is a sentence that names the limit of the API on compiled schemas which the schema passes, else empty;
    the limits hold for `output_config.format` and strict tools.
    """

    schema: Schema
    dropped: tuple[str, ...] = ()
    wrapped: bool = False
    too_complex: str = ""


def normalize_schema(schema: Mapping[str, object]) -> NormalizedSchema:
    """The schema as the API takes it. Every value that is valid against `schema` and has no other properties than those
    that it lists is valid against the result.

    Raises:
        RequestError: It is not a schema, or has a part that the API has no words for; the message names the place.
    """
    root = parse_json_schema(schema)
    normalizer = _Normalizer(root)
    top = normalizer.merger.inline_references(root, ())
    answer = None if top is None else normalizer.normalize_node(top, ())
    if answer is None:
        raise RequestError("No answer can be valid against the schema.")
    wrapped = answer.get("type") != "object"
    sent: Schema = {
        "type": "object",
        "properties": {WRAPPER_KEY: answer},
        "required": [WRAPPER_KEY],
        "additionalProperties": False,
    }
    if not wrapped:
        sent = answer
    if normalizer.defs:
        sent["$defs"] = normalizer.defs
    return NormalizedSchema(
        schema=sent, dropped=tuple(normalizer.dropped), wrapped=wrapped, too_complex=_complexity_problem(sent)
    )


class _Normalizer:
    """Rewrites one schema. The methods return None for a schema that no value fits."""

    def __init__(self, root: Schema) -> None:
        self.defs: Schema = {}
        self.dropped: dict[str, None] = {}
        self.merger = AllOfMerger(root, self._record_dropped)
        self._root = root
        self._names: dict[str, str | None] = {}
        self._nodes = 0

    def normalize_node(self, schema: Json, at: SchemaPath) -> Schema | None:
        if schema is False:
            return None
        self._nodes += 1
        if self._nodes > MAX_SCHEMA_NODES:
            raise RequestError("The schema is too complex: its alternatives multiply.")
        node = as_dict(schema)
        if set(node) - IGNORED_KEYWORDS == {"$ref"}:
            name = self._definition_name(str(node["$ref"]), at)
            return None if name is None else {"$ref": f"#/$defs/{name}"}
        rules = self.merger.inline_references(node, at)
        if rules is None:
            return None
        for key in rules.keys() - KNOWN_KEYWORDS:
            self._record_dropped(at, key)
        if "enum" in rules or "const" in rules:
            return self._normalize_literals(rules, at)
        if "anyOf" in rules or "oneOf" in rules:
            return self._normalize_alternatives(rules, at)
        return self._normalize_typed(rules, at)

    def _definition_name(self, reference: str, at: SchemaPath) -> str | None:
        """The name under `$defs` of the target of a reference; every target is sent once."""
        if reference not in self._names:
            last = re.sub(r"[^A-Za-z0-9_.-]", "_", reference.rsplit("/", 1)[-1])[:48] or "def"
            name = next(n for n in (last, *(f"{last}_{k}" for k in range(2, MAX_SCHEMA_NODES))) if n not in self.defs)
            self.defs[name] = None  # the name is taken, also for what the target refers to
            target = self.normalize_node(resolve_reference(self._root, reference), (*at, "$ref"))
            if target is None:
                del self.defs[name]
            else:
                self.defs[name] = target
            self._names[reference] = None if target is None else name
        return self._names[reference]

    def _normalize_literals(self, rules: Schema, at: SchemaPath) -> Schema | None:
        choices = [rules["const"]] if "const" in rules else as_list(rules.get("enum"))
        if "const" in rules and "enum" in rules:
            choices = [choice for choice in choices if is_one_of(choice, as_list(rules["enum"]))]
        if "type" in rules:
            types = as_strings(rules["type"])
            choices = [choice for choice in choices if any(is_json_type(choice, name) for name in types)]
        if any(isinstance(choice, dict | list) for choice in choices):
            key = "const" if "const" in rules else "enum"
            where = json_pointer((*at, key))
            raise RequestError(f"The schema may list only strings, numbers, booleans and null at {where}.")
        if not choices:
            return None
        # Without a type: the API refuses an enum beside a list of types, and the type adds nothing.
        sent: Schema = {"const": choices[0]} if "const" in rules else {"enum": choices}
        return self._add_annotations(
            sent, rules, at, expressed={"enum", "const", "type"}, type_names=("object", "array", *SCALAR_TYPES)
        )

    def _normalize_alternatives(self, rules: Schema, at: SchemaPath) -> Schema | None:
        key = "anyOf" if "anyOf" in rules else "oneOf"
        branches = as_list(rules[key])
        rest = {name: value for name, value in rules.items() if name not in {key, *ANNOTATIONS, *NON_CONSTRAINTS}}
        has_structure = rest.keys() & (STRUCTURAL_KEYWORDS | {"required"})
        if has_structure and not any(STRUCTURAL_KEYWORDS & as_dict(branch).keys() for branch in branches):
            return self._normalize_typed(rules, at)  # the alternatives only add conditions
        if key == "oneOf":
            self._record_dropped(at, key)
        sent: list[Json] = []
        for n, branch in enumerate(branches):
            if branch is False:
                continue
            merged: Json = {"allOf": [branch, rest]} if rest.keys() - IGNORED_KEYWORDS else branch
            normalized = self.normalize_node(merged, (*at, key, n))
            if normalized is not None and normalized not in sent:
                sent.append(normalized)
        if not sent:
            return None
        if len(sent) == 1 and isinstance(sent[0], dict) and not rules.keys() & {*ANNOTATIONS, *NON_CONSTRAINTS}:
            return sent[0]
        return self._add_annotations(
            {"anyOf": sent}, rules, at, expressed=set(rules) - {*ANNOTATIONS, *NON_CONSTRAINTS}, type_names=()
        )

    def _normalize_typed(self, rules: Schema, at: SchemaPath) -> Schema | None:
        types = as_strings(rules["type"]) if "type" in rules else _implied_types(rules)
        if "type" not in rules and not types:
            raise RequestError(f"The schema has no type at {json_pointer(at)}; say which one it is.")
        if "number" in types:
            types = [name for name in types if name != "integer"]
        if not types:
            return None
        if len(types) == 1:
            return self._normalize_type(types[0], rules, at)
        if set(types) <= set(SCALAR_TYPES) and not ("string" in types and "format" in rules):
            return self._add_annotations({"type": [*types]}, rules, at, expressed={"type"}, type_names=types)
        bare = {key: value for key, value in rules.items() if key not in {*ANNOTATIONS, *NON_CONSTRAINTS}}
        branches = [self._normalize_type(name, bare, at) for name in types]
        sent: list[Json] = [branch for branch in branches if branch is not None]
        if not sent:
            return None
        return self._add_annotations(
            {"anyOf": sent}, rules, at, expressed=set(rules) - {*ANNOTATIONS, *NON_CONSTRAINTS}, type_names=()
        )

    def _normalize_type(self, type_name: str, rules: Schema, at: SchemaPath) -> Schema | None:
        match type_name:
            case "object":
                return self._normalize_object(rules, at)
            case "array":
                return self._normalize_array(rules, at)
            case "string" if rules.get("format") in API_FORMATS:
                sent: Schema = {"type": type_name, "format": rules["format"]}
                return self._add_annotations(sent, rules, at, expressed={"type", "format"}, type_names=(type_name,))
            case _:
                return self._add_annotations(
                    {"type": type_name}, rules, at, expressed={"type"}, type_names=(type_name,)
                )

    def _normalize_object(self, rules: Schema, at: SchemaPath) -> Schema | None:
        extra, listed = rules.get("additionalProperties", True), as_dict(rules.get("properties"))
        closed = extra is False or rules.get("unevaluatedProperties") is False
        if extra not in (True, False, {}) or rules.get("patternProperties"):
            raise RequestError(
                f"The schema takes properties by any name at {json_pointer(at)}, which Claude cannot be held to; "
                "list the properties, or take an array of objects with a name and a value."
            )
        if not listed and not closed:
            raise RequestError(f"The schema lists no properties of the object at {json_pointer(at)}; list them.")
        required = [name for name in as_list(rules.get("required")) if isinstance(name, str)]
        for name in required:
            if name not in listed and not closed:
                raise RequestError(f"The schema requires a property that it does not list at {json_pointer(at)}.")
        parts = {name: self.normalize_node(part, (*at, "properties", name)) for name, part in listed.items()}
        properties: Schema = {name: part for name, part in parts.items() if part is not None}
        if not properties.keys() >= set(required):
            return None
        sent: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
        if required:
            sent["required"] = [*dict.fromkeys(required)]
        if "additionalProperties" in rules and extra is not False:
            self._record_dropped(at, "additionalProperties")
        expressed = {"type", "properties", "required", "additionalProperties", "patternProperties"}
        if closed:
            expressed.add("unevaluatedProperties")
        return self._add_annotations(sent, rules, at, expressed=expressed, type_names=("object",))

    def _normalize_array(self, rules: Schema, at: SchemaPath) -> Schema | None:
        sent: Schema = {"type": "array"}
        expressed, min_items = {"type", "items"}, as_int(rules.get("minItems", 0))
        parts: list[tuple[SchemaPath, Json]] = [
            ((*at, "prefixItems", n), part) for n, part in enumerate(as_list(rules.get("prefixItems")))
        ]
        if "items" in rules:
            parts.append(((*at, "items"), rules["items"]))
        if parts and not any(part is True or (isinstance(part, dict) and not part) for _, part in parts):
            items: list[Json] = []
            for place, part in parts:
                item = self.normalize_node(part, place)
                if item is not None and item not in items:
                    items.append(item)
            if len(items) == 1:
                sent["items"] = items[0]
            elif items:
                sent["items"] = {"anyOf": items}
            elif min_items > 0:
                return None
        if min_items > 0:
            sent["minItems"] = 1
        if min_items <= 1:
            expressed.add("minItems")
        return self._add_annotations(sent, rules, at, expressed=expressed, type_names=("array",))

    def _add_annotations(
        self, sent: Schema, rules: Schema, at: SchemaPath, *, expressed: Iterable[str], type_names: Iterable[str]
    ) -> Schema:
        """Add title and description to `sent`, and to the description the constraints that are not in `expressed`."""
        relevant = {key for name in type_names for key in KEYWORDS_BY_TYPE[name]} | {*GENERAL_KEYWORDS}
        dropped = [key for key in rules if key in relevant and key not in expressed]
        hints = [_constraint_hint(key, rules[key]) for key in rules if key in dropped or key in NON_CONSTRAINTS]
        for key in dropped:
            self._record_dropped(at, key)
        for key in ANNOTATIONS:
            if isinstance(rules.get(key), str):
                sent[key] = rules[key]
        if hints:
            description = sent.get("description")
            sent["description"] = (f"{description}\n\n" if description else "") + "{" + ", ".join(hints) + "}"
        return sent

    def _record_dropped(self, at: SchemaPath, key: str) -> None:
        self.dropped[json_pointer((*at, key))] = None


def _implied_types(rules: Schema) -> list[str]:
    """The type that the keywords of a schema without `type` belong to, where it is one."""
    types = ("object", "array", "string", "number")
    implied = [name for name in types if any(key in rules for key in KEYWORDS_BY_TYPE[name])]
    return implied if len(implied) == 1 else []


def _constraint_hint(key: str, value: Json) -> str:
    return f"{key}: {shorten(json.dumps(value, ensure_ascii=False), MAX_HINT_CHARS)}"


def _complexity_problem(schema: Schema) -> str:
    """A sentence that names the API's limit on compiled schemas which the schema passes, else empty."""
    optional = unions = 0
    pending: list[Json] = [schema]
    while pending:
        match pending.pop():
            case dict() as node:
                optional += len(as_dict(node.get("properties"))) - len(as_list(node.get("required")))
                unions += "anyOf" in node or isinstance(node.get("type"), list)
                pending += [*as_dict(node.get("properties")).values(), *as_dict(node.get("$defs")).values()]
                pending += [*as_list(node.get("anyOf")), node.get("items")]
            case _:
                continue
    if optional > MAX_OPTIONAL_PROPERTIES:
        return f"The schema has {optional} optional properties; the API enforces at most {MAX_OPTIONAL_PROPERTIES}."
    if unions > MAX_UNION_TYPES:
        return f"The schema has {unions} places with alternative types; the API enforces at most {MAX_UNION_TYPES}."
    return ""
