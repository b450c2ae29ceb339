"""Corrects the capitals of enum values in an answer.

The API does not guarantee the capitals of `enum` and `const` values
(https://platform.claude.com/docs/en/build-with-claude/structured-outputs, as documented by November 2026).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcp_server_claude.schemas.json_values import as_dict, as_list
from mcp_server_claude.schemas.resolve_references import resolve_reference

if TYPE_CHECKING:
    from mcp_server_claude.schemas.json_values import Json, Schema

MAX_DEPTH = 100
"""Levels of an answer, and references in a row, that are looked into."""
MAX_STEPS = 200_000
"""Pairs of a value and a schema that are looked at: references in combinations could multiply without end."""
COMBINING_KEYWORDS = ("allOf", "anyOf", "oneOf")


def with_enum_capitals(answer: Json, schema: Schema) -> Json:
    """The answer with each string that differs from an enum value by its capitals alone replaced by that value.

    A string stays where the schema allows it as it is, or where two values differ from it only so.
    """
    return _CapitalCorrection(schema).correct(answer, schema, MAX_DEPTH)


class _CapitalCorrection:
    def __init__(self, root: Schema) -> None:
        self._root = root
        self._steps_left = MAX_STEPS

    def correct(self, value: Json, schema: Json, depth: int) -> Json:
        """The value with the capitals of this schema, which is one within the root."""
        self._steps_left -= 1
        if not isinstance(schema, dict) or not depth or self._steps_left < 0:
            return value
        if isinstance(reference := schema.get("$ref"), str):
            value = self.correct(value, resolve_reference(self._root, reference), depth - 1)
        for keyword in COMBINING_KEYWORDS:
            for branch in as_list(schema.get(keyword)):
                value = self.correct(value, branch, depth - 1)
        match value:
            case str():
                return _correct_string(value, schema)
            case list():
                first, others = as_list(schema.get("prefixItems")), schema.get("items")
                return [
                    self.correct(part, first[place] if place < len(first) else others, depth - 1)
                    for place, part in enumerate(value)
                ]
            case dict():
                properties, others = as_dict(schema.get("properties")), schema.get("additionalProperties")
                return {
                    name: self.correct(part, properties.get(name, others), depth - 1) for name, part in value.items()
                }
            case _:
                return value


def _correct_string(value: str, schema: Schema) -> str:
    allowed = [each for each in (*as_list(schema.get("enum")), schema.get("const")) if isinstance(each, str)]
    if value in allowed:
        return value
    same = [each for each in allowed if each.casefold() == value.casefold()]
    return same[0] if len(same) == 1 else value
