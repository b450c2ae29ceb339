"""Tool arguments in the forms that real clients send, as the values that they mean."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, cast

from mcp_server_claude.server.client_quirks import ARGUMENTS_ADDED_BY_CLIENTS

if TYPE_CHECKING:
    from collections.abc import Mapping

FREE_TEXT_ARGUMENTS = frozenset({"prompt", "system"})
"""Arguments in which the word "null" is a text like any other."""
ID_ARGUMENTS = frozenset({"id", "thread"})
RESOURCE_ADDRESS = re.compile(r"claude://(?:calls|jobs|threads)/([^/?#]+)(?:/output)?/?(?:[?#].*)?")
"""An address of a resource of this server, from which the id is read where an id is expected."""
MAX_ENCODINGS = 3
"""Layers of JSON within strings that are read: one is common, two were seen."""


def tolerated_arguments(
    arguments: Mapping[str, object], properties: Mapping[str, Mapping[str, object]], required: list[str]
) -> dict[str, object]:
    """The arguments without those that clients add by themselves, and with values of the types that are declared.

    An optional argument that is null, or the word "null", counts as not given. Names that are unknown stay, so that a
    typo is still refused.
    """
    result: dict[str, object] = {}
    for name, value in arguments.items():
        if name in ARGUMENTS_ADDED_BY_CLIENTS and name not in properties:
            continue
        is_text = name in FREE_TEXT_ARGUMENTS
        if name not in required and (value is None or (value in ("null", ["null"]) and not is_text)):
            continue
        result[name] = value if is_text else _decoded(value, properties.get(name, {}))
        if name in ID_ARGUMENTS and (address := RESOURCE_ADDRESS.fullmatch(str(result[name]))):
            result[name] = address[1]
    return result


def _decoded(value: object, schema: Mapping[str, object]) -> object:
    """A value of the declared type out of a string that holds it as JSON; a bare string is a list of one.

    A word of an enum may have capitals, quotes or spaces around it, and words of a list commas between them.
    """
    declared_type, choices = str(schema.get("type")), _choices(schema)
    if declared_type == "string":
        return _bare_word(value, choices)
    decoded = value
    if declared_type in {"array", "object", "number", "integer", "boolean"}:
        for _ in range(MAX_ENCODINGS):
            if not isinstance(decoded, str):
                break
            try:
                decoded = json.loads(decoded)
            except (ValueError, RecursionError):
                break
    if declared_type == "array" and (isinstance(decoded, str) or decoded is not value):
        decoded = cast("list[object]", decoded) if isinstance(decoded, list) else [value]
    if not choices or not isinstance(decoded, list):
        return cast("object", decoded)
    return [_bare_word(word, choices) for each in cast("list[object]", decoded) for word in _split_words(each)]


def _choices(schema: Mapping[str, object]) -> list[object]:
    """The values that a string, or each of a list, may have; empty where it may have any."""
    items = schema.get("items")
    choices = schema.get("enum") or (cast("dict[str, object]", items).get("enum") if isinstance(items, dict) else None)
    return cast("list[object]", choices or [])


def _split_words(value: object) -> list[object]:
    return [*value.split(",")] if isinstance(value, str) and "," in value else [value]


def _bare_word(value: object, choices: list[object]) -> object:
    """A string without the quotes around it; one of an enum in its own letters."""
    if not isinstance(value, str):
        return value
    bare = value.strip()
    bare = bare[1:-1].strip() if len(bare) > 1 and bare[0] == bare[-1] and bare[0] in "\"'" else bare
    if choices:
        return bare.lower() if bare.lower() in choices else value
    return bare
