"""Examples made from schemas, and directives read from prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import validate

from mcp_server_claude.simulator import FAULT_NAMES, InvalidDirectiveError, directive
from mcp_server_claude.simulator import prompt_directives as module
from mcp_server_claude.simulator.prompt_directives import parse_directives
from mcp_server_claude.simulator.schema_examples import example_value

if TYPE_CHECKING:
    from mcp_server_claude.simulator.json_body import Json, Object

SCHEMAS: dict[str, Object] = {
    "object": {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a", "b"]},
    "closed": {"type": "object", "properties": {"a": {"type": "null"}}, "additionalProperties": False},
    "enum": {"enum": [3, "x"]},
    "const": {"const": {"a": [1]}},
    "array": {"type": "array", "items": {"type": "number", "exclusiveMinimum": 2}, "minItems": 5},
    "short array": {"type": "array", "items": {"type": "boolean"}, "maxItems": 1},
    "tuple": {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "items": False},
    "string": {"type": "string", "minLength": 30, "maxLength": 31},
    "letter": {"type": "string", "maxLength": 1},
    "numbers": {"type": "integer", "minimum": 10, "multipleOf": 7},
    "below": {"type": "number", "maximum": -2.5},
    "nullable": {"type": ["null", "integer"]},
    "any of": {"anyOf": [{"type": "null"}, {"type": "object", "properties": {"n": {"type": "integer"}}}]},
    "all of": {
        "allOf": [
            {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
            {"properties": {"b": {"type": "boolean"}}, "required": ["b"]},
        ]
    },
    "reference": {
        "$defs": {"x/y": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}},
        "type": "array",
        "items": {"$ref": "#/$defs/x~1y"},
    },
    "recursive": {
        "type": "object",
        "properties": {"name": {"type": "string"}, "children": {"type": "array", "items": {"$ref": "#"}}},
        "required": ["name"],
    },
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_an_example_is_valid_for_its_schema(name: str) -> None:
    found = example_value(SCHEMAS[name], "Name three pelicans for a children's book, please")

    validate(found, SCHEMAS[name])


def test_strings_of_an_example_come_from_the_prompt() -> None:
    found: Json = example_value({"type": "object", "properties": {"a": {"type": "string"}}}, "Name a pelican")

    assert found == {"a": "Name a pelican"}


@given(st.text(st.characters(exclude_categories=[])))
def test_any_text_survives_a_directive(text: str) -> None:
    directives, prompt = parse_directives(f"Say it {directive(text=text)} now")

    assert (directives.text, prompt) == (text, "Say it now")


def test_directives_add_up_and_are_taken_out_of_the_prompt() -> None:
    directives, prompt = parse_directives("Why [[sim: fault=drop at=3]] not? [[sim: at=headers retry-after=0.5]]")

    assert (directives.fault, directives.at, directives.retry_after, prompt) == ("drop", "headers", 0.5, "Why not?")


@pytest.mark.parametrize("bad", ["fault=none", "tokens=-1", "ttft=nan", "search=maybe", "stop=soon", "x=1", "alone"])
def test_an_invalid_directive_is_rejected(bad: str) -> None:
    with pytest.raises(InvalidDirectiveError):
        parse_directives(f"[[sim: {bad}]]")


def test_every_key_and_every_fault_is_in_the_table() -> None:
    for name in (*FAULT_NAMES, *module.VALUE_PARSERS):
        assert f"| `{name}` |" in str(module.__doc__)
