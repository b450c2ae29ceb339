"""A JSON Schema as a caller gives it: read, bounded, and known to be one."""

from __future__ import annotations

import json
import math
import re
import warnings
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias, cast
from urllib.parse import unquote

from mcp_server_claude.errors import Refused
from mcp_server_claude.lone_surrogates import replace_lone_surrogates
from mcp_server_claude.schemas.safe_regex import UnsafeError, pattern

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"
Schema: TypeAlias = dict[str, Json]
Path: TypeAlias = tuple[str | int, ...]

MOST_CHARS = 100_000
DEEPEST_JSON = 64
DEEPEST = 40
"""Levels of schemas within schemas, references followed."""
MOST_NODES = 5_000
"""Schemas within the schema when every reference is written out; also a bound on the work of validation."""

ONE = frozenset(
    {"additionalProperties", "contains", "contentSchema", "else", "if", "items", "not", "propertyNames", "then"}
) | {"unevaluatedItems", "unevaluatedProperties"}
LISTED = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
NAMED = frozenset({"dependentSchemas", "patternProperties", "properties"})
_INDEX = re.compile(r"[0-9]{1,6}")
DEFINED = frozenset({"$defs", "definitions"})
"""Where schemas stand within a schema (Draft 2020-12, core §10 and validation §8)."""
ELSEWHERE = frozenset({"$dynamicRef", "$id", "$recursiveRef", "$schema"})


def parse(given: str | Mapping[str, object]) -> Schema:
    """The schema of a tool call as a dictionary of its own; some clients send it as text.

    Raises:
        Refused: it is not a JSON object, too large or too deep, or not a schema of Draft 2020-12 that stands alone.
    """
    schema = _read(given)
    _bounded(schema, (), 0)
    for key in ("$schema", "$id"):
        schema.pop(key, None)
    _stands(json.dumps(schema))
    return schema


@lru_cache(maxsize=32)
def _stands(text: str) -> None:
    """Everything that takes time to know, known once for each schema."""
    schema = cast("Schema", json.loads(text))
    _valid(schema)
    known = dict(_everywhere(schema, ()))
    for at, node in known.items():
        for key in ELSEWHERE & node.keys():
            raise Refused(f"The schema uses {key} at {pointer(at)}; only $ref to a place within it is understood.")
    _Survey(schema, {id(node) for node in known.values()}).visit(schema, (), 0)


def pointer(at: Path) -> str:
    """A place in the schema as a JSON pointer, at most 200 characters of it."""
    told = "#" + "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in at)
    told = "".join(char if char.isprintable() else "?" for char in told)
    told = told if len(told) <= 200 else f"{told[:199]}…"
    return told if at else "# (the root)"


def follow(root: Schema, reference: str) -> Json:
    """What a `$ref` within the schema points at; None where there is nothing."""
    found: Json = root
    if not reference.startswith("#"):
        return None
    for part in unquote(reference[1:]).split("/")[1:]:
        step = part.replace("~1", "/").replace("~0", "~")
        found = _part(found, step)
    return found if reference == "#" or reference[1:2] in {"/", ""} else None


def _part(value: Json, step: str) -> Json:
    match value:
        case dict():
            return value.get(step)
        case list() if _INDEX.fullmatch(step) and int(step) < len(value):
            return value[int(step)]
        case _:
            return None


def within(schema: Schema) -> Iterator[tuple[Path, Json]]:
    """The schemas directly within a schema, except those it only defines."""
    for key, value in schema.items():
        if key in ONE:
            yield (key,), value
        elif key in LISTED and isinstance(value, list):
            for n, part in enumerate(value):
                yield (key, n), part
        elif key in NAMED and isinstance(value, dict):
            for name, part in value.items():
                yield (key, name), part


def _read(given: str | Mapping[str, object]) -> Schema:
    if not isinstance(given, str):
        try:
            given = json.dumps(dict(given), allow_nan=False)
        except (TypeError, ValueError, RecursionError):
            raise Refused("The schema is not a JSON object.") from None
    if len(given) > MOST_CHARS:
        raise Refused(f"The schema has more than {MOST_CHARS:,} characters.")
    try:
        read = cast("Json", json.loads(replace_lone_surrogates(given), parse_constant=_no_number))
    except (ValueError, RecursionError):
        raise Refused("The schema is not JSON; give a JSON Schema as an object.") from None
    if not isinstance(read, dict):
        raise Refused("The schema is not a JSON object; give a JSON Schema as an object.")
    return read


def _no_number(name: str) -> float:
    raise ValueError(name)


def _bounded(value: Json, at: Path, depth: int) -> None:
    """Strings are made well-formed on the way: a lone surrogate may also be written as an escape."""
    if depth > DEEPEST_JSON:
        raise Refused(f"The schema is nested deeper than {DEEPEST_JSON} levels.")
    match value:
        case dict():
            for key in list(value):
                _bounded(value[key], (*at, key), depth + 1)
                if replace_lone_surrogates(key) != key:
                    raise Refused(f"The schema has a name that is not text at {pointer(at)}.")
        case list():
            for n, part in enumerate(value):
                _bounded(part, (*at, n), depth + 1)
        case float() if not math.isfinite(value):
            raise Refused(f"The schema has a number out of range at {pointer(at)}.")
        case str() if replace_lone_surrogates(value) != value:
            raise Refused(f"The schema has a string that is not text at {pointer(at)}.")
        case _:
            return


def _valid(schema: Schema) -> None:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        where = pointer(tuple(error.absolute_path))
        raise Refused(f"The schema is not valid at {where} (JSON Schema, Draft 2020-12).") from None
    except RecursionError:
        raise Refused("The schema is nested too deeply.") from None
    except OverflowError:
        raise Refused("The schema has a pattern with too large a number.") from None


def _everywhere(schema: Schema, at: Path) -> Iterator[tuple[Path, Schema]]:
    yield at, schema
    for step, part in within(schema):
        if isinstance(part, dict):
            yield from _everywhere(part, at + step)
    for key in DEFINED:
        defined = schema.get(key)
        for name, part in defined.items() if isinstance(defined, dict) else ():
            if isinstance(part, dict):
                yield from _everywhere(part, (*at, key, name))


class _Survey:
    """One walk along everything that the schema uses: references lead somewhere and nowhere back, patterns are safe."""

    def __init__(self, root: Schema, known: set[int]) -> None:
        self._root, self._known = root, known
        self._open: set[int] = set()
        self._sizes: dict[int, int] = {}

    def visit(self, schema: Json, at: Path, depth: int) -> int:
        """How many schemas this one is when its references are written out."""
        if not isinstance(schema, dict):
            return 1
        key = id(schema)
        if key in self._open:
            raise Refused(f"The schema refers to itself at {pointer(at)}; a recursive schema cannot be used.")
        if depth > DEEPEST:
            raise Refused(f"The schema is nested deeper than {DEEPEST} levels at {pointer(at)}.")
        if key not in self._sizes:
            self._open.add(key)
            self._patterns(schema, at)
            parts = [self.visit(part, at + step, depth + 1) for step, part in within(schema)]
            if "$ref" in schema:
                parts.append(self.visit(self._target(schema["$ref"], at), (*at, "$ref"), depth + 1))
            self._sizes[key] = 1 + sum(parts)
            self._open.remove(key)
        if self._sizes[key] > MOST_NODES:
            raise Refused(f"The schema is too complex: more than {MOST_NODES:,} parts with its references written out.")
        return self._sizes[key]

    def _target(self, reference: Json, at: Path) -> Json:
        if not isinstance(reference, str) or not reference.startswith("#"):
            raise Refused(f"The schema refers to another document at {pointer(at)}; put its definition under $defs.")
        found = follow(self._root, reference)
        if isinstance(found, bool) or id(found) in self._known:
            return found
        raise Refused(f"The schema refers to something that it does not define at {pointer(at)}.")

    def _patterns(self, schema: Schema, at: Path) -> None:
        source = schema.get("pattern")
        if isinstance(source, str):
            try:
                pattern(source)
            except UnsafeError as error:
                where = pointer((*at, "pattern"))
                raise Refused(f"The pattern at {where} cannot be used: {error}.") from None
