"""JSON values seen by their kind, as JSON Schema has them: 1 is an integer and a number, true is neither."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeGuard

if TYPE_CHECKING:
    from mcp_server_claude.schemas.parse_schema import Json, Schema


def is_json_type(value: Json, type_name: str) -> bool:
    match type_name:
        case "null":
            return value is None
        case "boolean":
            return isinstance(value, bool)
        case "integer":
            return is_number(value) and (isinstance(value, int) or value.is_integer())
        case "number":
            return is_number(value)
        case "string":
            return isinstance(value, str)
        case "array":
            return isinstance(value, list)
        case _:
            return isinstance(value, dict)


def is_number(value: Json) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def json_equal(one: Json, other: Json) -> bool:
    """JSON equality: 1 is 1.0, but true is not 1."""
    match one, other:
        case dict(), dict():
            return one.keys() == other.keys() and all(json_equal(one[key], other[key]) for key in one)
        case list(), list():
            return len(one) == len(other) and all(json_equal(a, b) for a, b in zip(one, other, strict=True))
        case _:
            return isinstance(one, bool) is isinstance(other, bool) and one == other


def is_one_of(value: Json, choices: list[Json]) -> bool:
    return any(json_equal(value, each) for each in choices)


def as_dict(value: Json) -> Schema:
    return value if isinstance(value, dict) else {}


def as_list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


def as_strings(value: Json) -> list[str]:
    return [value] if isinstance(value, str) else [each for each in as_list(value) if isinstance(each, str)]


def as_int(value: Json) -> int:
    return int(value) if is_number(value) else 0
