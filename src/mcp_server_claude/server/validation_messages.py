"""Pydantic's validation errors as sentences for a caller, the same over MCP and HTTP. They never repeat a value."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_SENTENCES = 3
MAX_NAME_CHARS = 60
FILE_ITEM = re.compile(r"files\.\d+")
OBJECT_ERRORS = frozenset({"model_attributes_type", "model_type", "dict_type"})
PYDANTIC_ASIDE = re.compile(r", (?:unable to parse|got a number).*")
"""The end of a message of pydantic's that repeats its beginning in the terms of a parser."""
LIST_LENGTH = re.compile(r"List should have at (most|least) (\d+) items?.*")
REQUIREMENT_BY_TYPE = {
    "dict_type": "a JSON object",
    "list_type": "a list",
    "int_parsing_size": "a smaller number",
}
"""What a value must be, for the types of pydantic's errors whose own words are those of Python."""
UNION_TAG = re.compile(r"[A-Z]\w*|str")
"""The parts of an error's location that name a member of a union; our own field names are lower case."""


def validation_message(errors: Sequence[Any]) -> str:
    """One sentence on each of the first errors; `errors` are pydantic's `ErrorDetails`.

    FastAPI puts `body`, `query` and so on before the field's name; it is left out.
    """
    sentences = dict.fromkeys(_error_sentence(error) for error in errors)
    return " ".join(list(sentences)[:MAX_SENTENCES]) or "The request is invalid."


def printable_name(name: str) -> str:
    """A caller's own name for a field, short and without control characters."""
    return "".join(character for character in name[:MAX_NAME_CHARS] if character.isprintable())


def _error_sentence(error: Mapping[str, Any]) -> str:
    parts = [str(part) for part in error["loc"]]
    if parts and parts[0] in {"body", "query", "path", "header", "cookie"}:
        parts = parts[1:]
    name = printable_name(".".join(part for part in parts if not UNION_TAG.fullmatch(part)))
    match error["type"]:
        case "json_invalid":
            return "The body is not JSON."
        case kind if kind in OBJECT_ERRORS and not name:
            return "The body is not a JSON object."
        case _ if FILE_ITEM.fullmatch(name):
            return f"{name} must be a string or an object with name and data."
        case "missing":
            return f"{name or 'The body'} is required."
        case "string_too_short":
            return f"{name} must not be empty."
        case "extra_forbidden":
            return f"There is no field named {name!r}."
        case kind if kind in REQUIREMENT_BY_TYPE:
            return f"{name} must be {REQUIREMENT_BY_TYPE[kind]}."
        case "literal_error":
            return f"{name} must be one of {_expected_values(error)}."
        case _:
            return _with_name(name, str(error["msg"]))


def _expected_values(error: Mapping[str, Any]) -> str:
    """The values of a Literal, which pydantic lists as `'a', 'b' or 'c'`; an empty one is not worth naming."""
    expected = str(error.get("ctx", {}).get("expected", ""))
    return expected.removeprefix("'', ").replace("'", "")


def _with_name(name: str, message: str) -> str:
    requirement = message.removeprefix("Value error, ").removeprefix("Input should be ")
    requirement = LIST_LENGTH.sub(r"must have at \1 \2 entries", PYDANTIC_ASIDE.sub("", requirement))
    is_requirement = message.startswith("Input should be ")
    if not name:
        return f"The body must be {requirement}." if is_requirement else f"{requirement[:1].upper()}{requirement[1:]}."
    if requirement.startswith("must "):
        return f"{name} {requirement}."
    return f"{name} must be {requirement}." if is_requirement else f"{name}: {requirement}."
