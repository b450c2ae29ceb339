"""A JSON Schema as a caller gives it: read, bounded, and known to be one."""

from __future__ import annotations

import json
import math
import re
import warnings
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias, cast
from urllib.parse import unquote

from mcp_server_claude.errors import RequestError
from mcp_server_claude.lone_surrogates import replace_lone_surrogates
from mcp_server_claude.schemas.safe_regex import UnsafeError, compile_pattern

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"
Schema: TypeAlias = dict[str, Json]
SchemaPath: TypeAlias = tuple[str | int, ...]

MAX_SCHEMA_CHARS = 100_000
MAX_JSON_DEPTH = 64
MAX_SCHEMA_DEPTH = 40
"""Levels of schemas within schemas, references followed."""
MAX_SCHEMA_NODES = 5_000
"""Schemas within the schema when every reference is written out; also a bound on the work of validation."""

SUBSCHEMA_KEYWORDS = frozenset(
    {"additionalProperties", "contains", "contentSchema", "else", "if", "items", "not", "propertyNames", "then"}
) | {"unevaluatedItems", "unevaluatedProperties"}
SUBSCHEMA_LIST_KEYWORDS = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
SUBSCHEMA_MAP_KEYWORDS = frozenset({"dependentSchemas", "patternProperties", "properties"})
_INDEX = re.compile(r"[0-9]{1,6}")
DEFINITION_KEYWORDS = frozenset({"$defs", "definitions"})
"""Where schemas stand within a schema (Draft 2020-12, core §10 and validation §8)."""
EXTERNAL_KEYWORDS = frozenset({"$dynamicRef", "$id", "$recursiveRef", "$schema"})


def parse_json_schema(source: str | Mapping[str, object]) -> Schema:
    """The schema of a tool call as a dictionary of its own; some clients send it as text.

    Raises:
        RequestError: it is not a JSON object, too large or too deep, or not a schema of Draft 2020-12 that stands
        alone.
    """
    schema = _load_json(source)
    _check_bounds(schema, (), 0)
    for key in ("$schema", "$id"):
        schema.pop(key, None)
    _check_standalone(json.dumps(schema))
    return schema


@lru_cache(maxsize=32)
def _check_standalone(text: str) -> None:
    """Everything that takes time to know, known once for each schema."""
    schema = cast("Schema", json.loads(text))
    _check_metaschema(schema)
    known = dict(_all_subschemas(schema, ()))
    for at, node in known.items():
        for key in EXTERNAL_KEYWORDS & node.keys():
            raise RequestError(
                f"The schema uses {key} at {json_pointer(at)}; only $ref to a place within it is understood."
            )
    _ReferenceWalk(schema, {id(node) for node in known.values()}).visit(schema, (), 0)


def json_pointer(at: SchemaPath) -> str:
    """A place in the schema as a JSON pointer, at most 200 characters of it."""
    told = "#" + "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in at)
    told = "".join(char if char.isprintable() else "?" for char in told)
    told = told if len(told) <= 200 else f"{told[:199]}…"
    return told if at else "# (the root)"


def resolve_reference(root: Schema, reference: str) -> Json:
    """What a `$ref` within the schema points at; None where there is nothing."""
    found: Json = root
    if not reference.startswith("#"):
        return None
    for part in unquote(reference[1:]).split("/")[1:]:
        step = part.replace("~1", "/").replace("~0", "~")
        found = _child(found, step)
    return found if reference == "#" or reference[1:2] in {"/", ""} else None


def _child(value: Json, step: str) -> Json:
    match value:
        case dict():
            return value.get(step)
        case list() if _INDEX.fullmatch(step) and int(step) < len(value):
            return value[int(step)]
        case _:
            return None


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


def _load_json(source: str | Mapping[str, object]) -> Schema:
    if not isinstance(source, str):
        try:
            source = json.dumps(dict(source), allow_nan=False)
        except (TypeError, ValueError, RecursionError):
            raise RequestError("The schema is not a JSON object.") from None
    if len(source) > MAX_SCHEMA_CHARS:
        raise RequestError(f"The schema has more than {MAX_SCHEMA_CHARS:,} characters.")
    try:
        read = cast("Json", json.loads(replace_lone_surrogates(source), parse_constant=_reject_constant))
    except (ValueError, RecursionError):
        raise RequestError("The schema is not JSON; give a JSON Schema as an object.") from None
    if not isinstance(read, dict):
        raise RequestError("The schema is not a JSON object; give a JSON Schema as an object.")
    return read


def _reject_constant(name: str) -> float:
    raise ValueError(name)


def _check_bounds(value: Json, at: SchemaPath, depth: int) -> None:
    """Strings are made well-formed on the way: a lone surrogate may also be written as an escape."""
    if depth > MAX_JSON_DEPTH:
        raise RequestError(f"The schema is nested deeper than {MAX_JSON_DEPTH} levels.")
    match value:
        case dict():
            for key in list(value):
                _check_bounds(value[key], (*at, key), depth + 1)
                if replace_lone_surrogates(key) != key:
                    raise RequestError(f"The schema has a name that is not text at {json_pointer(at)}.")
        case list():
            for n, part in enumerate(value):
                _check_bounds(part, (*at, n), depth + 1)
        case float() if not math.isfinite(value):
            raise RequestError(f"The schema has a number out of range at {json_pointer(at)}.")
        case str() if replace_lone_surrogates(value) != value:
            raise RequestError(f"The schema has a string that is not text at {json_pointer(at)}.")
        case _:
            return


def _check_metaschema(schema: Schema) -> None:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        where = json_pointer(tuple(error.absolute_path))
        raise RequestError(f"The schema is not valid at {where} (JSON Schema, Draft 2020-12).") from None
    except RecursionError:
        raise RequestError("The schema is nested too deeply.") from None
    except OverflowError:
        raise RequestError("The schema has a pattern with too large a number.") from None


def _all_subschemas(schema: Schema, at: SchemaPath) -> Iterator[tuple[SchemaPath, Schema]]:
    yield at, schema
    for step, part in subschemas(schema):
        if isinstance(part, dict):
            yield from _all_subschemas(part, at + step)
    for key in DEFINITION_KEYWORDS:
        defined = schema.get(key)
        for name, part in defined.items() if isinstance(defined, dict) else ():
            if isinstance(part, dict):
                yield from _all_subschemas(part, (*at, key, name))


class _ReferenceWalk:
    """One walk along everything that the schema uses: references lead somewhere and nowhere back, patterns are safe."""

    def __init__(self, root: Schema, known: set[int]) -> None:
        self._root, self._known = root, known
        self._open: set[int] = set()
        self._sizes: dict[int, int] = {}

    def visit(self, schema: Json, at: SchemaPath, depth: int) -> int:
        """How many schemas this one is when its references are written out."""
        if not isinstance(schema, dict):
            return 1
        key = id(schema)
        if key in self._open:
            raise RequestError(f"The schema refers to itself at {json_pointer(at)}; a recursive schema cannot be used.")
        if depth > MAX_SCHEMA_DEPTH:
            raise RequestError(f"The schema is nested deeper than {MAX_SCHEMA_DEPTH} levels at {json_pointer(at)}.")
        if key not in self._sizes:
            self._open.add(key)
            self._check_pattern(schema, at)
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
            raise RequestError(
                f"The schema refers to another document at {json_pointer(at)}; put its definition under $defs."
            )
        found = resolve_reference(self._root, reference)
        if isinstance(found, bool) or id(found) in self._known:
            return found
        raise RequestError(f"The schema refers to something that it does not define at {json_pointer(at)}.")

    def _check_pattern(self, schema: Schema, at: SchemaPath) -> None:
        source = schema.get("pattern")
        if isinstance(source, str):
            try:
                compile_pattern(source)
            except UnsafeError as error:
                where = json_pointer((*at, "pattern"))
                raise RequestError(f"The pattern at {where} cannot be used: {error}.") from None
