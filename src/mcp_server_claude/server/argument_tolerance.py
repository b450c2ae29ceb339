"""Tool arguments in the forms that real clients send, as the values that they mean."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from mcp_server_claude.server.client_quirks import ARGUMENTS_ADDED_BY_CLIENTS

if TYPE_CHECKING:
    from collections.abc import Mapping

FREE_TEXT_ARGUMENTS = frozenset({"prompt", "system"})
"""Arguments in which the word "null" is a text like any other."""
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
        if name not in required:
            if value is None or (value in ("null", ["null"]) and name not in FREE_TEXT_ARGUMENTS):
                continue
            value = _decoded(value, str(properties.get(name, {}).get("type")))  # noqa: PLW2901
        result[name] = value
    return result


def _decoded(value: object, declared_type: str) -> object:
    """A value of the declared type out of a string that holds it as JSON; a bare string is a list of one."""
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
        return decoded if isinstance(decoded, list) else [value]  # pyright: ignore[reportUnknownVariableType]
    return decoded
