"""JSON values and their types as JSON Schema defines them: 1 is an integer and a number, true is neither."""

from __future__ import annotations

from typing import TypeAlias, TypeGuard

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"
Schema: TypeAlias = dict[str, Json]
SchemaPath: TypeAlias = tuple[str | int, ...]
"""The keys and indexes that lead from the root of a document to a place in it."""

MAX_POINTER_CHARS = 200
MAX_SHORT_CHARS = 120


def is_json_type(value: Json, type_name: str) -> bool:
    """True if a value is of a type of JSON Schema; 1.0 is an integer."""
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
    """True for numbers; booleans are none."""
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
    """True if a value equals one of the choices, as JSON compares them."""
    return any(json_equal(value, each) for each in choices)


def as_dict(value: Json) -> Schema:
    """The value if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def as_list(value: Json) -> list[Json]:
    """The value if it is an array, else an empty one."""
    return value if isinstance(value, list) else []


def as_strings(value: Json) -> list[str]:
    """The strings in an array, or a single string as one of them."""
    return [value] if isinstance(value, str) else [each for each in as_list(value) if isinstance(each, str)]


def as_int(value: Json) -> int:
    """The value as an integer, 0 if it is no number."""
    return int(value) if is_number(value) else 0


def json_pointer(at: SchemaPath) -> str:
    """A place in the schema as a JSON pointer, at most 200 characters of it."""
    if not at:
        return "# (the root)"
    pointer = "#" + "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in at)
    return shorten("".join(char if char.isprintable() else "?" for char in pointer), MAX_POINTER_CHARS)


def json_type_name(value: object) -> str:
    """The type of a value with its article, for a sentence."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "an array"
        case _:
            return "an object"


def shorten(text: str, limit: int = MAX_SHORT_CHARS) -> str:
    """At most `limit` characters of a text, on one line."""
    line = "".join(char if char.isprintable() else " " for char in text)
    return line if len(line) <= limit else f"{line[: limit - 1]}…"
