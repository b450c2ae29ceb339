"""Plain sentences for options and arguments that typer refuses, in place of pydantic's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

if TYPE_CHECKING:
    import typer


def plain_sentence(error: typer.BadParameter) -> str:
    """What is wrong with the value, and what is accepted; the message itself where typer or this package wrote it.

    The name of the option comes before it: "Invalid value for '--tool': ".
    """
    cause = error.__cause__
    if not isinstance(cause, ValidationError):
        return error.message
    details = cause.errors()[0]
    value: object = details["input"]
    limits = details.get("ctx", {})
    choices: tuple[Any, ...] = getattr(getattr(error.param, "type_descriptor", None), "choices", None) or ()
    match details["type"]:
        case "value_error" if choices:
            return f"{value!r} is not one of {', '.join(str(each) for each in choices if each)}."
        case "int_parsing" | "int_parsing_size" | "int_from_float":
            return f"{value!r} is not a whole number."
        case "float_parsing":
            return f"{value!r} is not a number."
        case "greater_than_equal" | "less_than_equal" if "nan" in str(value).lower():
            return f"{value!r} is not a number."
        case "greater_than_equal":
            return f"{value} is less than {limits['ge']:,.10g}, the smallest value."
        case "less_than_equal":
            return f"{value} is more than {limits['le']:,.10g}, the largest value."
        case _:
            return error.message
