"""Lone surrogates, which UTF-8 cannot encode, replaced in text and in JSON values."""

from __future__ import annotations

from typing import cast

SEARCHED_CHARS = 64 * 1024
"""Characters that are looked at together: a copy of the whole of a long text would cost memory."""


def replace_lone_surrogates(text: str) -> str:
    """Text without lone surrogates: pairs that were split are joined, halves without a partner become U+FFFD.

    JSON may carry them as escapes, UTF-8 cannot: one in an outgoing message would end a stdio server.
    """
    if text.isascii() or not _has_surrogates(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def split_high_surrogate(text: str) -> tuple[str, str]:
    """Text, and the first half of a surrogate pair at its end, whose other half may follow; else an empty string."""
    return (text[:-1], text[-1]) if "\ud800" <= text[-1:] <= "\udbff" else (text, "")


def _has_surrogates(text: str) -> bool:
    try:
        for start in range(0, len(text), SEARCHED_CHARS):
            text[start : start + SEARCHED_CHARS].encode()
    except UnicodeEncodeError:
        return True
    return False


def without_lone_surrogates(value: object) -> object:
    """A JSON value whose texts and names of fields hold no lone surrogates."""
    match value:
        case str():
            return replace_lone_surrogates(value)
        case list():
            return [without_lone_surrogates(each) for each in cast("list[object]", value)]
        case dict():
            fields = cast("dict[str, object]", value)
            return {replace_lone_surrogates(name): without_lone_surrogates(each) for name, each in fields.items()}
        case _:
            return value
