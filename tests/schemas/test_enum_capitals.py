from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from mcp_server_claude.schemas.enum_capitals import with_enum_capitals

if TYPE_CHECKING:
    from mcp_server_claude.schemas.json_values import Json, Schema

COLOR: Schema = {"enum": ["Red", "green", 3, None]}


@pytest.mark.parametrize(
    ("schema", "answer", "corrected"),
    [
        (COLOR, "red", "Red"),
        (COLOR, "GREEN", "green"),
        (COLOR, "blue", "blue"),
        (COLOR, 3, 3),
        ({"const": "Yes"}, "yes", "Yes"),
        ({"enum": ["a", "A"]}, "a", "a"),
        ({"enum": ["ab", "AB"]}, "Ab", "Ab"),
        ({"properties": {"c": COLOR}}, {"c": "red", "d": "red"}, {"c": "Red", "d": "red"}),
        ({"additionalProperties": COLOR}, {"x": "red"}, {"x": "Red"}),
        ({"items": COLOR}, ["red", "GREEN"], ["Red", "green"]),
        ({"prefixItems": [{"const": "A"}], "items": COLOR}, ["a", "red"], ["A", "Red"]),
        ({"anyOf": [{"type": "null"}, COLOR]}, "red", "Red"),
        ({"$defs": {"c": COLOR}, "properties": {"c": {"$ref": "#/$defs/c"}}}, {"c": "red"}, {"c": "Red"}),
        ({"$defs": {"n": {"properties": {"n": {"$ref": "#/$defs/n"}, "c": COLOR}}}, "$ref": "#/$defs/n"},
         {"n": {"n": {"c": "RED"}}}, {"n": {"n": {"c": "Red"}}}),
        ({"properties": {"c": True}}, {"c": "red"}, {"c": "red"}),
    ],
)  # fmt: skip
def test_capitals_follow_the_schema_and_nothing_else_changes(schema: Any, answer: Json, corrected: Json) -> None:
    assert with_enum_capitals(answer, schema) == corrected


def test_references_that_multiply_terminate() -> None:
    twice: Schema = {"anyOf": [{"$ref": "#"}, {"$ref": "#"}], "enum": ["A"]}
    assert with_enum_capitals("a", twice) == "A"
