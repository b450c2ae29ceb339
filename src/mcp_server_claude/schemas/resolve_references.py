"""Resolves and checks `$ref`: each must lead to a schema within the document, and never back to itself."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

from mcp_server_claude.errors import RequestError
from mcp_server_claude.schemas.json_values import json_pointer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mcp_server_claude.schemas.json_values import Json, Schema, SchemaPath

MAX_SCHEMA_DEPTH = 40
"""Levels of schemas within schemas, references followed."""
MAX_SCHEMA_NODES = 5_000
"""Schemas within the schema when every reference is written out; also a bound on the work of validation."""

# Where schemas stand within a schema (Draft 2020-12, core §10 and validation §8).
SUBSCHEMA_KEYWORDS = frozenset(
    {"additionalProperties", "contains", "contentSchema", "else", "if", "items", "not", "propertyNames", "then"}
) | {"unevaluatedItems", "unevaluatedProperties"}
SUBSCHEMA_LIST_KEYWORDS = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
SUBSCHEMA_MAP_KEYWORDS = frozenset({"dependentSchemas", "patternProperties", "properties"})
DEFINITION_KEYWORDS = frozenset({"$defs", "definitions"})

EXTERNAL_KEYWORDS = frozenset({"$dynamicRef", "$id", "$recursiveRef", "$schema"})
"""Keywords with which a part of a schema refers to, or is, another document."""
_INDEX = re.compile(r"[0-9]{1,6}")


def resolve_reference(root: Schema, reference: str) -> Json:
    """The target of a `$ref` within the schema; None where there is nothing."""
    if not reference.startswith("#"):
        return None
    target: Json = root
    for part in unquote(reference[1:]).split("/")[1:]:
        target = _child(target, part.replace("~1", "/").replace("~0", "~"))
    return target if reference == "#" or reference[1:2] in {"/", ""} else None


def subschemas(schema: Schema) -> Iterator[tuple[SchemaPath, Json]]:
    """The schemas directly within a schema, except those it only defines."""
    for key, value in schema.items():
        if key in SUBSCHEMA_KEYWORDS:
            yield (key,), value
        elif key in SUBSCHEMA_LIST_KEYWORDS and isinstance(value, list):
            for n, part in enumerate(value):
                yield (key, n), part
        elif key in SUBSCHEMA_MAP_KEYWORDS and isinstance(value, dict):
            for name, part in value.items():
                yield (key, name), part


def all_subschemas(schema: Schema, at: SchemaPath) -> Iterator[tuple[SchemaPath, Schema]]:
    """The schema and all schemas within it, those that it only defines included."""
    yield at, schema
    for step, part in subschemas(schema):
        if isinstance(part, dict):
            yield from all_subschemas(part, at + step)
    for key in DEFINITION_KEYWORDS:
        defined = schema.get(key)
        for name, part in defined.items() if isinstance(defined, dict) else ():
            if isinstance(part, dict):
                yield from all_subschemas(part, (*at, key, name))


def check_references(schema: Schema) -> None:
    """Check that every reference leads to a place within the schema, and that none leads back to itself.

    Raises:
        RequestError: One does not, or the schema is too deep or too large with its references written out.
    """
    known = dict(all_subschemas(schema, ()))
    for at, node in known.items():
        for key in EXTERNAL_KEYWORDS & node.keys():
            raise RequestError(
                f"The schema uses {key} at {json_pointer(at)}; only $ref to a place within it is understood."
            )
    _ReferenceWalk(schema, {id(node) for node in known.values()}).visit(schema, (), 0)


def _child(value: Json, step: str) -> Json:
    match value:
        case dict():
            return value.get(step)
        case list() if _INDEX.fullmatch(step) and int(step) < len(value):
            return value[int(step)]
        case _:
            return None


class _ReferenceWalk:
    """One walk along everything that the schema uses, each part visited once."""

    def __init__(self, root: Schema, known: set[int]) -> None:
        self._root, self._known = root, known
        self._open: set[int] = set()
        self._sizes: dict[int, int] = {}

    def visit(self, schema: Json, at: SchemaPath, depth: int) -> int:
        """The number of schemas that this one is when its references are written out."""
        if not isinstance(schema, dict):
            return 1
        key = id(schema)
        if key in self._open:
            raise RequestError(f"The schema refers to itself at {json_pointer(at)}; a recursive schema cannot be used.")
        if depth > MAX_SCHEMA_DEPTH:
            raise RequestError(f"The schema is nested deeper than {MAX_SCHEMA_DEPTH} levels at {json_pointer(at)}.")
        if key not in self._sizes:
            self._open.add(key)
            parts = [self.visit(part, at + step, depth + 1) for step, part in subschemas(schema)]
            if "$ref" in schema:
                parts.append(self.visit(self._resolve_target(schema["$ref"], at), (*at, "$ref"), depth + 1))
            self._sizes[key] = 1 + sum(parts)
            self._open.remove(key)
        if self._sizes[key] > MAX_SCHEMA_NODES:
            raise RequestError(
                f"The schema is too complex: more than {MAX_SCHEMA_NODES:,} parts with its references written out."
            )
        return self._sizes[key]

    def _resolve_target(self, reference: Json, at: SchemaPath) -> Json:
        if not isinstance(reference, str) or not reference.startswith("#"):
            where = json_pointer(at)
            raise RequestError(f"The schema refers to another document at {where}; put its definition under $defs.")
        target = resolve_reference(self._root, reference)
        if isinstance(target, bool) or id(target) in self._known:
            return target
        raise RequestError(f"The schema refers to something that it does not define at {json_pointer(at)}.")
