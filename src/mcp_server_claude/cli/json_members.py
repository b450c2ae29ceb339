"""Members of a JSON object, and elements of its arrays, that are set within its text: all other text stays as it is.

The text may be JSONC, as VS Code and Zed write it: JSON with `//` and `/* */` comments and trailing commas.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Sequence


STRING = r'"(?:[^"\\]|\\.)*"'
COMMENTS = re.compile(rf"{STRING}|//[^\r\n]*|/\*.*?\*/", re.DOTALL)
TRAILING_COMMAS = re.compile(rf"{STRING}|(?<=[^\[{{,\s])\s*,(?=\s*[}}\]])", re.DOTALL)
"""Strings, which are left alone, and commas between a value and the end of its object or array."""
SPACE = re.compile(r"\s*")
DEFAULT_INDENT = "  "

_decoder = json.JSONDecoder()


def parse_jsonc(text: str) -> object:
    """The value of a JSONC text.

    Raises:
        ValueError: It is not JSONC (`json.JSONDecodeError`, with the place).
    """
    return json.loads(_as_json(text))


def set_member(text: str, path: Sequence[str], value: object) -> str:
    """The text of an object in which the member at `path` has a value; objects on the way are added if need be.

    Raises:
        ValueError: The text is not JSONC (`json.JSONDecodeError`, with the place), or it, or a value on the way, is no
            object.
    """
    plain = _as_json(text)
    json.loads(plain)  # what follows relies on its syntax
    begin, depth = _skip_space(plain, 0), 0
    while True:
        members = _object_members(plain, begin)
        name, *rest = path[depth:]
        if name not in members:
            for outer in reversed(rest):
                value = {outer: value}
            return _append(text, plain, begin, [end for _, end in members.values()], depth, value, name=name)
        start, end = members[name]
        if not rest:
            indent = _indent(text)
            return text[:start] + _format(text, value, indent * (depth + 1), indent) + text[end:]
        begin, depth = start, depth + 1


def append_element(text: str, name: str, value: object) -> str:
    """The text of an object in whose member `name`, an array, a value stands at the end; it is added if need be.

    Raises:
        ValueError: The text is not JSONC, or it is no object, or the member no array.
    """
    plain = _as_json(text)
    json.loads(plain)
    members = _object_members(plain, _skip_space(plain, 0))
    if name not in members:
        return set_member(text, (name,), [value])
    begin, _ = members[name]
    return _append(text, plain, begin, _array_ends(plain, begin), 1, value)


def _as_json(text: str) -> str:
    """The text with spaces in place of comments and trailing commas: every other character keeps its place."""
    return TRAILING_COMMAS.sub(_blank, _without_comments(text))


def _without_comments(text: str) -> str:
    return COMMENTS.sub(_blank, text)


def _blank(token: re.Match[str]) -> str:
    return token[0] if token[0].startswith('"') else re.sub(r"[^\r\n]", " ", token[0])


def _object_members(plain: str, begin: int) -> dict[str, tuple[int, int]]:
    """Where the value of each member of the object at `begin` begins and ends."""
    if plain[begin : begin + 1] != "{":
        raise ValueError("no object")
    members: dict[str, tuple[int, int]] = {}
    at = _skip_space(plain, begin + 1)
    while plain[at] != "}":
        name, at = _decoder.raw_decode(plain, at)
        at = _skip_space(plain, _skip_space(plain, at) + 1)  # past the colon
        _, end = _decoder.raw_decode(plain, at)
        members[cast("str", name)] = at, end
        at = _skip_space(plain, end)
        if plain[at] == ",":
            at = _skip_space(plain, at + 1)
    return members


def _array_ends(plain: str, begin: int) -> list[int]:
    """Where each element of the array at `begin` ends."""
    if plain[begin] != "[":
        raise ValueError("no array")
    ends: list[int] = []
    at = _skip_space(plain, begin + 1)
    while plain[at] != "]":
        _, end = _decoder.raw_decode(plain, at)
        ends.append(end)
        at = _skip_space(plain, end)
        if plain[at] == ",":
            at = _skip_space(plain, at + 1)
    return ends


def _append(
    text: str, plain: str, begin: int, ends: Sequence[int], depth: int, value: object, *, name: str | None = None
) -> str:
    """The text with a further value, for an object with its name, at the end of the object or array at `begin`.

    `ends` are the places at which its values end.
    """
    newline, indent = _newline(text), _indent(text)
    own = indent * (depth + 1)
    label = "" if name is None else f"{json.dumps(name, ensure_ascii=False)}: "
    member = f"{own}{label}{_format(text, value, own, indent)}"
    if not ends:
        close = _skip_space(plain, begin + 1)
        kept = text[begin + 1 : close].rstrip()  # comments alone
        return f"{text[: begin + 1]}{kept}{newline}{member}{newline}{indent * depth}{text[close:]}"
    last = max(ends)
    close = _skip_space(plain, last)
    has_comma = "," in _without_comments(text)[last:close]
    tail = text[last:close].rstrip()  # a trailing comma, and a comment behind the last member
    separator = "" if has_comma else ","
    return f"{text[:last]}{separator}{tail}{newline}{member}{newline}{indent * depth}{text[close:]}"


def _format(text: str, value: object, own: str, indent: str) -> str:
    lines = json.dumps(value, indent=indent, ensure_ascii=False).split("\n")
    return (_newline(text) + own).join(lines)


def _indent(text: str) -> str:
    """The first indentation of a text."""
    first = re.search(r"^([ \t]+)\S", text, re.MULTILINE)
    return first[1] if first else DEFAULT_INDENT


def _newline(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _skip_space(plain: str, at: int) -> int:
    space = SPACE.match(plain, at)
    return space.end() if space else at
