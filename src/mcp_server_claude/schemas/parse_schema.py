"""A JSON Schema from a tool call: read from its text, bounded in size and depth, and checked to be one."""

from __future__ import annotations

import json
import math
from functools import lru_cache
from typing import TYPE_CHECKING, cast

from mcp_server_claude.errors import RequestError
from mcp_server_claude.lone_surrogates import replace_lone_surrogates
from mcp_server_claude.schemas.json_values import json_pointer
from mcp_server_claude.schemas.resolve_references import check_references

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp_server_claude.schemas.json_values import Json, Schema, SchemaPath

MAX_SCHEMA_CHARS = 100_000
MAX_JSON_DEPTH = 64


def parse_json_schema(source: str | Mapping[str, object]) -> Schema:
    """The schema of a tool call as a dictionary of its own; some clients send it as text.

    Takes up to a second the first time: run it on a thread.

    Raises:
        RequestError: It is not a JSON object, too large or too deep, not a schema of Draft 2020-12, refers to another
            document or to itself, or has a pattern that could run away.
    """
    schema = _load_json(source)
    _check_bounds(schema, (), 0)
    for key in ("$schema", "$id"):
        schema.pop(key, None)
    _check_schema(json.dumps(schema))
    return schema


@lru_cache(maxsize=32)
def _check_schema(text: str) -> None:
    """Check what takes time to check, once for each schema."""
    from mcp_server_claude.schemas import schema_validator  # loads jsonschema-rs

    schema = cast("Schema", json.loads(text))
    try:
        schema_validator.check_metaschema(schema)
        check_references(schema)
        schema_validator.compile_schema(text)
    except schema_validator.InvalidSchemaError as error:
        where = json_pointer(error.path)
        match error.reason:
            case "pattern":
                raise RequestError(
                    f"The pattern at {where} cannot be used: it is not a regular expression, has look-around or "
                    "back-references, or is too large."
                ) from None
            case "patterns":
                raise RequestError(f"The schema has more than {schema_validator.MAX_PATTERNS} patterns.") from None
            case "reference":
                raise RequestError("The schema refers to another document; put its definition under $defs.") from None
            case "schema":
                raise RequestError(f"The schema is not valid at {where} (JSON Schema, Draft 2020-12).") from None


def _load_json(source: str | Mapping[str, object]) -> Schema:
    if not isinstance(source, str):
        try:
            source = json.dumps(dict(source), allow_nan=False)
        except (TypeError, ValueError, RecursionError):
            raise RequestError("The schema is not a JSON object.") from None
    if len(source) > MAX_SCHEMA_CHARS:
        raise RequestError(f"The schema has more than {MAX_SCHEMA_CHARS:,} characters.")
    try:
        schema = cast("Json", json.loads(replace_lone_surrogates(source), parse_constant=_reject_constant))
    except (ValueError, RecursionError):
        raise RequestError("The schema is not JSON; give a JSON Schema as an object.") from None
    if not isinstance(schema, dict):
        raise RequestError("The schema is not a JSON object; give a JSON Schema as an object.")
    return schema


def _reject_constant(name: str) -> float:
    raise ValueError(name)


def _check_bounds(value: Json, at: SchemaPath, depth: int) -> None:
    """Check depth, numbers and strings. JSON text may hold a lone surrogate as an escape."""
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
