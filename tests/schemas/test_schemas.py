from __future__ import annotations

import json
import re
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING, TypeAlias, cast

import pytest
from anthropic import transform_schema
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, FormatChecker

from mcp_server_claude.errors import RequestError
from mcp_server_claude.schemas import (
    NormalizedSchema,
    SchemaMismatchError,
    as_answer_tool,
    as_output_format,
    normalize_schema,
    parse_json_schema,
    repair_prompt,
    validate_output,
)
from mcp_server_claude.schemas.schema_keywords import KNOWN_KEYWORDS
from mcp_server_claude.simulator.schema_examples import example_value as simulated
from support.quick_run import examples

if TYPE_CHECKING:
    from collections.abc import Mapping

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"
Schema: TypeAlias = dict[str, Json]
Pair: TypeAlias = tuple[Json, Json]

TEXT: Schema = {"type": "string"}
WHOLE: Schema = {"type": "integer"}
NO: Schema = {"const": "no"}


def an_object(properties: Schema, **more: Json) -> Schema:
    return {"type": "object", "properties": properties, **more}


def valid(document: Json, schema: Mapping[str, object]) -> bool:
    return Draft202012Validator(dict(schema), format_checker=FormatChecker()).is_valid(document)  # pyright: ignore[reportUnknownMemberType]


def sent_schema(schema: Schema) -> Json:
    """What stands for the schema itself in the one that is sent."""
    found = normalize_schema(schema)
    return cast("Schema", found.schema["properties"])["value"] if found.wrapped else found.schema


def problems(answer: object, schema: Schema) -> tuple[str, ...]:
    text = answer if isinstance(answer, str) else json.dumps(answer)
    with pytest.raises(SchemaMismatchError) as caught:
        validate_output(text, schema, normalize_schema(schema))
    return caught.value.problems


def normalised_or_none(schema: Schema) -> NormalizedSchema | None:
    try:
        return normalize_schema(schema)
    except RequestError:
        return None


# Parsing


def test_a_schema_may_be_an_object_or_its_text() -> None:
    schema = an_object({"a": TEXT})
    assert parse_json_schema(schema) == parse_json_schema(json.dumps(schema)) == schema
    assert parse_json_schema({"$schema": "http://json-schema.org/draft-07/schema#", "$id": "urn:x", **schema}) == schema


@pytest.mark.parametrize(
    ("given_schema", "message"),
    [
        ("{", "not JSON"),
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"minimum": NaN}', "not JSON"),
        ('{"minimum": 1e999}', "out of range at #/minimum"),
        (r'{"title": "\ud800"}', "not text at #/title"),
        ("[]", "not a JSON object"),
        ("true", "not a JSON object"),
        ({"title": object()}, "not a JSON object"),
        ({"title": "x" * 100_001}, "100,000 characters"),
        ('{"not":' * 65 + "{}" + "}" * 65, "deeper than 64"),
        ({"type": "objekt"}, "not valid at #/type"),
        ({"properties": {"a": {"minLength": -1}}}, "not valid at #/properties/a/minLength"),
        ({"properties": {"a": {"pattern": "("}}}, "pattern at #/properties/a/pattern cannot be used"),
        ({"pattern": "a{9999999999999}"}, "pattern at #/pattern cannot be used"),
        ({"pattern": "((a{90}){90}){90}"}, "is too large"),
        ({"patternProperties": {"(": {}}}, "pattern at #/patternProperties/( cannot be used"),
    ],
)
def test_an_invalid_schema_is_rejected_in_one_sentence(given_schema: str | dict[str, object], message: str) -> None:
    with pytest.raises(RequestError, match=re.escape(message)) as caught:
        parse_json_schema(given_schema)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_an_error_names_the_location_and_no_values() -> None:
    with pytest.raises(RequestError) as caught:
        parse_json_schema({"properties": {"a/b": {"type": "my secret"}}})
    assert str(caught.value) == "The schema is not valid at #/properties/a~1b/type (JSON Schema, Draft 2020-12)."


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"$ref": "https://example.com/schema"}, "another document at #"),
        (an_object({"a": {"$ref": "other.json#/a"}}), "another document at #/properties/a"),
        (an_object({"a": {"$ref": "#/$defs/none"}}), "does not define at #/properties/a"),
        (an_object({"a": {"$ref": "#anchor"}}), "does not define at #/properties/a"),
        (an_object({"a": {"$ref": "#/properties"}}), "does not define at #/properties/a"),
        (an_object({"a": {"$ref": "#"}}), "refers to itself"),
        ({"$ref": "#/$defs/n", "$defs": {"n": an_object({"n": {"$ref": "#/$defs/n"}})}}, "refers to itself"),
        ({"type": "string", "not": {"$ref": "#"}}, "refers to itself"),
        (an_object({"a": {"$id": "urn:x", "type": "string"}}), "$id at #/properties/a"),
        (an_object({"a": {"$dynamicRef": "#x"}}), "$dynamicRef at #/properties/a"),
        (an_object({"a": {"pattern": r"(a)\1"}}), "pattern at #/properties/a/pattern"),
        (an_object({"a": {"pattern": r"^(?=.*\d)"}}), "look-around"),
    ],
)
def test_a_schema_with_external_or_endless_references_is_rejected(schema: Schema, message: str) -> None:
    with pytest.raises(RequestError, match=re.escape(message)):
        parse_json_schema(schema)


def test_a_schema_that_multiplies_is_rejected_before_it_is_expanded() -> None:
    chain: Schema = {
        f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}, {"$ref": f"#/$defs/d{n + 1}"}]} for n in range(18)
    }
    with pytest.raises(RequestError, match="too complex"):
        parse_json_schema({"$ref": "#/$defs/d0", "$defs": chain | {"d18": TEXT}})
    wide: Json = [{"properties": {f"p{n}": TEXT}} for n in range(30)]
    with pytest.raises(RequestError, match="alternatives multiply"):
        normalize_schema({"type": "object", "anyOf": wide, "properties": {f"q{n}": TEXT for n in range(200)}})


def test_an_unused_definition_may_be_recursive() -> None:
    node = an_object({"n": {"$ref": "#/$defs/n"}})
    assert sent_schema({**an_object({"a": TEXT}), "$defs": {"n": node}}) == {
        "type": "object",
        "properties": {"a": TEXT},
        "additionalProperties": False,
    }


# Normalizing


CLOSED: Schema = {"type": "object", "properties": {"a": TEXT}, "additionalProperties": False}


@pytest.mark.parametrize(
    ("schema", "expected", "dropped"),
    [
        (an_object({"a": TEXT}), CLOSED, ()),
        (an_object({"a": TEXT}, additionalProperties=True), CLOSED, ("#/additionalProperties",)),
        ({"properties": {"a": TEXT}}, CLOSED, ()),
        ({"type": ["object"], "properties": {"a": TEXT, "b": False}}, CLOSED, ()),
        (
            {"type": "integer", "minimum": 1, "maximum": 10, "description": "A number"},
            {"type": "integer", "description": "A number\n\n{minimum: 1, maximum: 10}"},
            ("#/minimum", "#/maximum"),
        ),
        ({"type": "string", "format": "date"}, {"type": "string", "format": "date"}, ()),
        (
            {"type": "string", "format": "regex", "minLength": 2},
            {"type": "string", "description": '{format: "regex", minLength: 2}'},
            ("#/format", "#/minLength"),
        ),
        ({"type": "string", "minimum": 3, "$comment": "x", "readOnly": True}, TEXT, ()),
        ({"type": "string", "default": "x"}, {"type": "string", "description": '{default: "x"}'}, ()),
        ({"type": "string", "nullable": True}, TEXT, ("#/nullable",)),
        ({"type": ["string", "null"], "title": "T"}, {"type": ["string", "null"], "title": "T"}, ()),
        (
            {"type": ["string", "null"], "format": "date", "description": "When"},
            {"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}], "description": "When"},
            (),
        ),
        (
            {"type": ["array", "null"], "items": TEXT},
            {"anyOf": [{"type": "array", "items": TEXT}, {"type": "null"}]},
            (),
        ),
        ({"type": ["string", "null"], "enum": ["a", None, 3]}, {"enum": ["a", None]}, ()),
        ({"type": "string", "const": "a"}, {"const": "a"}, ()),
        ({"type": "array", "minItems": 1, "items": {}}, {"type": "array", "minItems": 1}, ()),
        (
            {"type": "array", "minItems": 3, "items": TEXT},
            {"type": "array", "minItems": 1, "items": TEXT, "description": "{minItems: 3}"},
            ("#/minItems",),
        ),
        (
            {"type": "array", "prefixItems": [TEXT, WHOLE, TEXT], "items": False},
            {
                "type": "array",
                "items": {"anyOf": [TEXT, WHOLE]},
                "description": '{prefixItems: [{"type": "string"}, {"type": "integer"}, {"type": "string"}]}',
            },
            ("#/prefixItems",),
        ),
        ({"oneOf": [TEXT, WHOLE]}, {"anyOf": [TEXT, WHOLE]}, ("#/oneOf",)),
        ({"anyOf": [TEXT, False]}, TEXT, ()),
        (
            an_object({"a": TEXT}, anyOf=[{"required": ["a"]}, {"maxProperties": 0}]),
            CLOSED | {"description": '{anyOf: [{"required": ["a"]}, {"maxProperties": 0}]}'},
            ("#/anyOf",),
        ),
        (
            an_object({"a": TEXT}, required=["a"], anyOf=[{"properties": {"b": TEXT}}, {"properties": {"c": TEXT}}]),
            {
                "anyOf": [
                    CLOSED | {"properties": {"b": TEXT, "a": TEXT}, "required": ["a"]},
                    CLOSED | {"properties": {"c": TEXT, "a": TEXT}, "required": ["a"]},
                ]
            },
            (),
        ),
        (
            {"allOf": [an_object({"a": TEXT}, additionalProperties=False), {"properties": {"b": WHOLE}}]},
            CLOSED | {"properties": {"a": TEXT, "b": WHOLE}},
            (),
        ),
        (
            an_object({"a": {"$ref": "#/$defs/t", "description": "An a"}, "b": {"$ref": "#/properties/a"}})
            | {"$defs": {"t": TEXT, "unused": WHOLE}},
            CLOSED
            | {
                "properties": {"a": TEXT | {"description": "An a"}, "b": {"$ref": "#/$defs/a"}},
                "$defs": {"a": TEXT | {"description": "An a"}},
            },
            (),
        ),
    ],
)
def test_a_keyword_is_sent_described_or_left_out(schema: Schema, expected: Schema, dropped: tuple[str, ...]) -> None:
    assert sent_schema(schema) == expected
    assert normalize_schema(schema).dropped == dropped


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({}, "no type at # (the root);"),
        (an_object({"a": {"description": "anything"}}), "no type at #/properties/a;"),
        (an_object({"a": True}), "no type at #/properties/a;"),
        ({"type": "object"}, "lists no properties of the object at # (the root);"),
        (an_object({"m": {"type": "object", "additionalProperties": WHOLE}}), "by any name at #/properties/m,"),
        (an_object({"a": TEXT}, patternProperties={"^x": TEXT}), "by any name at # (the root),"),
        (an_object({"a": TEXT}, required=["b"]), "requires a property that it does not list at #"),
        ({"enum": ["a", {"b": 1}]}, "numbers, booleans and null at #/enum"),
        ({"type": "array", "items": {"const": [1]}}, "numbers, booleans and null at #/items/const"),
        ({"type": "string", "enum": [1]}, "No answer can be valid"),
        ({"allOf": [TEXT, WHOLE]}, "No answer can be valid"),
        ({"allOf": [TEXT, False]}, "No answer can be valid"),
        (an_object({"a": False}, required=["a"]), "No answer can be valid"),
    ],
)
def test_an_unsupported_keyword_is_rejected_with_its_location(schema: Schema, message: str) -> None:
    with pytest.raises(RequestError, match=re.escape(message)):
        normalize_schema(schema)


def test_a_root_that_is_not_an_object_is_wrapped_and_unwrapped() -> None:
    schema: Schema = {"type": "array", "items": WHOLE}
    found = normalize_schema(schema)
    assert found.wrapped
    assert found.schema == {
        "type": "object",
        "properties": {"value": schema},
        "required": ["value"],
        "additionalProperties": False,
    }
    assert validate_output('{"value": [1, 2]}', schema, found) == [1, 2]
    assert validate_output("[1, 2]", schema, found) == [1, 2]
    assert problems({"value": [1, "a"]}, schema) == ("[1]: should be integer, is a string",)


def test_a_property_named_value_is_not_taken_for_the_wrapper() -> None:
    schema = an_object({"value": TEXT})
    assert validate_output('{"value": "x"}', schema, normalize_schema(schema)) == {"value": "x"}


def test_the_limits_of_the_api_are_reported_before_it_is_called() -> None:
    many = normalize_schema(an_object({f"p{n}": TEXT for n in range(25)}))
    assert many.too_complex == "The schema has 25 optional properties; the API enforces at most 24."
    with pytest.raises(RequestError, match="25 optional properties"):
        as_output_format(many)
    either: Json = {"type": ["string", "null"]}
    names: list[Json] = [f"p{n}" for n in range(17)]
    unions = normalize_schema(an_object({f"p{n}": either for n in range(17)}, required=names))
    assert "17 places with alternative types" in unions.too_complex
    assert as_answer_tool(many)["tools"]
    assert "strict" not in json.dumps(as_answer_tool(many, strict=True))


def test_a_format_and_a_forced_tool_carry_the_schema() -> None:
    found = normalize_schema(an_object({"a": TEXT}))
    assert as_output_format(found) == {"type": "json_schema", "schema": CLOSED}
    assert as_answer_tool(found, strict=True) == {
        "tools": [
            {
                "name": "answer",
                "description": "Gives the whole answer in the required form.",
                "input_schema": CLOSED,
                "strict": True,
            }
        ],
        "tool_choice": {"type": "tool", "name": "answer", "disable_parallel_tool_use": True},
    }
    with pytest.raises(RequestError, match="at #/properties/first name may only have letters"):
        as_answer_tool(normalize_schema(an_object({"first name": TEXT})))


# Validating


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"n": 3}, "the answer: lacks name"),
        ({"name": 3}, "name: should be string, is a number"),
        ({"name": "A"}, "name: breaks minLength: 2"),
        ({"name": "Ada", "more": 1}, "the answer: has properties that the schema does not list"),
        ({"name": "Ada", "n": 0}, "n: breaks minimum: 1"),
        ({"name": "Ada", "kind": "c"}, 'kind: should be one of ["a", "b"]'),
        ({"name": "Ada", "tags": ["x", "x"]}, "tags: breaks uniqueItems of the schema"),
        ({"name": "Ada", "tags": ["X"]}, "tags[0]: does not match its pattern, ^[a-z]+$"),
        ({"name": "Ada", "when": "2026-02-30"}, "when: is not a valid date"),
        ({"name": "Ada", "either": {"x": "?"}}, "either.x: should be integer, is a string"),
        ({"name": "Ada", "either": None}, "either: fits none of the alternatives"),
        ("", "the answer: is empty"),
        ('{"name": "Ada"', "the answer: is not JSON (Expecting ',' delimiter, line 1, column 15)"),
        ('{"name": "Ada", "n": NaN}', "the answer: has a number that JSON does not have"),
        ('{"name": "Ada", "n": 1e999}', "the answer: has a number that JSON does not have"),
        ("[" * 100_000, "the answer: is nested too deeply"),
        ("x" * 4_000_001, "the answer: has more than 4,000,000 characters"),
    ],
)
def test_a_violation_names_its_location_and_what_is_wrong(answer: object, message: str) -> None:
    schema = an_object(
        {
            "name": {"type": "string", "minLength": 2},
            "n": {"type": "integer", "minimum": 1},
            "kind": {"enum": ["a", "b"]},
            "tags": {"type": "array", "items": {"type": "string", "pattern": "^[a-z]+$"}, "uniqueItems": True},
            "when": {"type": "string", "format": "date"},
            "either": {"anyOf": [an_object({"x": WHOLE}), TEXT]},
        },
        required=["name"],
        additionalProperties=False,
    )
    assert message in problems(answer, schema)


def test_at_most_five_violations_are_reported_each_once_and_short() -> None:
    schema: Schema = {"type": "array", "items": {"type": "integer"}}
    assert len(problems(["x"] * 10_000, schema)) == 5
    wanted = an_object({"a": TEXT, "b": TEXT}, required=["a", "b"])
    assert problems({}, wanted) == ("the answer: lacks a", "the answer: lacks b")
    assert all(len(each) < 300 for each in problems({"a" * 5000: 1}, an_object({"a" * 5000: TEXT})))


@pytest.mark.parametrize(
    ("text", "complete"),
    [
        ('```json\n{"a": "x"}\n```', True),
        ('\n```\n{"a": "x"}\n```\n', True),
        ('Here it is:\n```json\n{"a": "x"}\n```', False),
        ('```json\n{"a": "x"}\n```\nand\n```json\n{"a": "y"}\n```', False),
        ('{"a": "x"', False),
    ],
)
def test_only_an_answer_that_is_one_fence_is_unwrapped(text: str, *, complete: bool) -> None:
    schema = an_object({"a": TEXT})
    found = normalize_schema(schema)
    if complete:
        assert validate_output(text, schema, found) == {"a": "x"}
    else:
        with pytest.raises(SchemaMismatchError, match="is not JSON"):
            validate_output(text, schema, found)


def test_an_answer_has_no_lone_surrogates() -> None:
    schema = an_object({"a": TEXT})
    assert validate_output(r'{"a": "\ud83d\ude00 \ud83d"}', schema, normalize_schema(schema)) == {
        "a": "😀 \N{REPLACEMENT CHARACTER}"
    }


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        (
            "date-time",
            "2026-11-20T09:30:00.5Z 2026-11-20t09:30:00+01:00 2016-12-31T23:59:60Z",
            "2026-11-20 2026-11-20T25:00:00Z 2026-13-01T00:00:00Z",
        ),
        ("time", "09:30:00Z 23:59:60Z 09:30:00.5-08:00", "09:30:00 09:30Z 09:61:00Z"),
        ("date", "2024-02-29", "2026-02-29 20260228"),
        ("duration", "P1D PT5M P1Y2M3DT4H5M6S P2W", "P 5M PT P1DT"),
        ("email", "ada@example.com", "ada"),
        ("hostname", "example.com localhost a-b.c", "-a.com a..b a_b"),
        ("uri", "https://example.com/?a=1#b urn:x mailto:a@b", "example.com //x http://{x}"),
        ("ipv4", "192.0.2.1", "192.0.2.256"),
        ("ipv6", "2001:db8::1 ::", "2001:db8"),
        ("uuid", "3f1c2b8e-6d52-4a5e-9f0b-7f6f0f6f2a11", "3f1c2b8e6d524a5e9f0b7f6f0f6f2a11"),
    ],
)
def test_the_formats_that_the_api_accepts_are_asserted(name: str, good: str, bad: str) -> None:
    schema: Schema = {"type": "string", "format": name}
    assert sent_schema(schema) == schema
    found = normalize_schema(schema)
    for value in good.split():
        assert validate_output(json.dumps(value), schema, found) == value
    for value in bad.split():
        assert problems(json.dumps(value), schema) == (f"the answer: is not a valid {name}",)


def test_the_repair_turn_names_the_violations_and_quotes_a_short_answer() -> None:
    turn = repair_prompt(("name: should be string, is a number", "n: breaks minimum: 1"), '{"name": 3}')
    assert '- name: should be string, is a number\n- n: breaks minimum: 1\n<answer>\n{"name": 3}\n</answer>\n' in turn
    assert "only the JSON" in turn
    assert "<answer>" not in repair_prompt(("the answer: is empty",), " ") + repair_prompt(("x: y",), "z" * 5000)


def test_the_answer_of_the_simulator_is_valid() -> None:
    schema = an_object(
        {"name": TEXT, "tags": {"type": "array", "items": TEXT}, "at": {"type": "string", "format": "date-time"}},
        required=["name", "tags", "at"],
    )
    found = normalize_schema(schema)
    assert validate_output(json.dumps(simulated(found.schema, "Who was Ada?")), schema, found)


def test_jsonschema_rs_is_not_imported_before_the_first_schema() -> None:
    code = "import sys, mcp_server_claude.schemas; print('jsonschema_rs' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout == "False\n"


# Patterns


@pytest.mark.parametrize("source", ["(a+)+$", "^(a|a)*$", "^(a|aa)+$", r"^(.*a){12}$", r"\s*\s*\s*\s*x|a$"])
def test_a_pattern_with_catastrophic_backtracking_is_matched_in_linear_time(source: str) -> None:
    text = "a" * 50_000
    schema = an_object({"a": {"type": "string", "pattern": source}})
    assert validate_output(json.dumps({"a": text}), schema, normalize_schema(schema)) == {"a": text}
    assert problems({"a": text + "b"}, schema) == (f"a: does not match its pattern, {source}",)


def test_a_text_that_is_too_long_for_its_pattern_is_not_matched() -> None:
    schema: Schema = {"type": "string", "pattern": "(a.{90}){9}[cd]{30}"}
    assert problems(json.dumps("ab" * 100), schema) == ("the answer: does not match its pattern, (a.{90}){9}[cd]{30}",)
    assert problems(json.dumps("ab" * 100_000), schema) == (
        "the answer: is too long to be checked against the patterns of the schema",
    )


def test_patterns_of_different_properties_are_limited_separately() -> None:
    pattern: Schema = {"type": "string", "pattern": "^[a-z0-9]+(-[a-z0-9]+)*$"}
    many_properties = an_object({f"p{n}": pattern for n in range(20)}, required=[f"p{n}" for n in range(20)])
    answer = {f"p{n}": "a" * 20_000 for n in range(20)}
    assert validate_output(json.dumps(answer), many_properties, normalize_schema(many_properties)) == answer
    all_of: Schema = {"type": "string", "allOf": [{"pattern": f"^[a-z]{{{n}}}"} for n in range(20)]}
    assert problems(json.dumps("a" * 400_000), all_of) == (
        "the answer: is too long to be checked against the patterns of the schema",
    )


def test_a_schema_with_very_many_patterns_is_rejected() -> None:
    schema = an_object({f"p{n}": {"type": "string", "pattern": "a"} for n in range(201)})
    with pytest.raises(RequestError, match="more than 200 patterns"):
        parse_json_schema(schema)


# Properties of every schema

scalars = st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-3, 3) | st.text("ab1", max_size=3)
anything: st.SearchStrategy[Json] = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
)
kinds = st.sampled_from(["object", "array", "string", "integer", "number", "boolean", "null", "x"])
references = st.sampled_from(["#", "#/$defs/a", "#/properties/a", "#/allOf/0", "#a", "http://x", "#/$defs/~2", "#/a%"])


def schema_like(inner: st.SearchStrategy[Json]) -> st.SearchStrategy[Json]:
    found = (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*sorted(KNOWN_KEYWORDS), "a", "b"]), inner, max_size=4)
        | st.fixed_dictionaries({"type": kinds}, optional={"properties": inner, "items": inner, "enum": inner})
        | st.fixed_dictionaries({}, optional={"allOf": st.lists(inner, max_size=2), "$ref": references, "$defs": inner})
    )
    return cast("st.SearchStrategy[Json]", found)


# Agreement with the SDK

supported_strings = st.fixed_dictionaries(
    {"type": st.just("string")}, optional={"format": st.sampled_from(["date", "uri"])}
)
supported_numbers = st.fixed_dictionaries(
    {"type": st.sampled_from(["integer", "number"])}, optional={"minimum": st.integers(-5, 5), "multipleOf": st.just(2)}
)
supported_literals = st.fixed_dictionaries({"enum": st.lists(st.text("abc", min_size=1), min_size=1, unique=True)})
supported_leaves = supported_strings | supported_numbers | supported_literals | st.just({"type": "boolean"})


@st.composite
def supported_compounds(draw: st.DrawFn, inner: st.SearchStrategy[Schema]) -> Schema:
    annotations = draw(st.fixed_dictionaries({}, optional={"title": st.just("T"), "description": st.just("D")}))
    match draw(st.sampled_from(["object", "array", "anyOf"])):
        case "object":
            properties = draw(st.dictionaries(st.sampled_from("abc"), inner, min_size=1))
            return {"type": "object", "properties": {**properties}, "required": [*properties], **annotations}
        case "array":
            return {"type": "array", "items": draw(inner), "minItems": 1, **annotations}
        case _:
            return {
                "anyOf": draw(st.lists(inner, min_size=2, max_size=3, unique_by=partial(json.dumps, sort_keys=True))),
                **annotations,
            }


supported = st.recursive(cast("st.SearchStrategy[Schema]", supported_leaves), supported_compounds, max_leaves=8)


@settings(max_examples=examples(200), deadline=None)
@given(st.dictionaries(st.sampled_from("abc"), supported, min_size=1))
def test_a_schema_that_the_sdk_supports_is_sent_as_the_sdk_sends_it(properties: dict[str, Schema]) -> None:
    schema = an_object({**properties}, required=[*properties])
    assert normalize_schema(schema).schema == transform_schema(cast("dict[str, object]", schema))


junk = st.recursive(scalars | kinds | references, schema_like, max_leaves=12)
many = settings(
    max_examples=examples(300), deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)


@many
@given(junk)
def test_any_schema_is_normalised_or_rejected(schema: Json) -> None:
    found = normalised_or_none(cast("Schema", schema))
    event(f"normalised: {found is not None}")
    if found is None:
        return
    assert normalize_schema(found.schema).schema == found.schema
    assert_the_api_takes(found)


SENT: dict[str, set[str]] = {
    "object": {"properties", "additionalProperties", "required"},
    "array": {"items", "minItems"},
    "string": {"format"},
}


def assert_the_api_takes(found: NormalizedSchema) -> None:
    """The documented part of JSON Schema, and nothing else, in every schema that is sent."""
    left: list[Json] = [found.schema, *cast("Schema", found.schema.get("$defs", {})).values()]
    while left:
        node = left.pop()
        assert isinstance(node, dict)
        keys = node.keys() - {"title", "description", "$defs"}
        match node:
            case {"anyOf": [*branches]} if keys == {"anyOf"}:
                assert branches
                left += branches
            case {"enum": [_, *_]} | {"const": _} | {"type": [_, _, *_]}:
                assert len(keys) == 1
            case {"$ref": str(reference)} if keys == {"$ref"}:
                assert reference.removeprefix("#/$defs/") in cast("Schema", found.schema["$defs"])
            case {"type": str(kind)}:
                assert keys <= {"type"} | SENT.get(kind, set())
                assert node.get("minItems", 0) in {0, 1}
                assert (kind == "object") is (node.get("additionalProperties") is False)
                properties = cast("Schema", node.get("properties", {}))
                assert properties.keys() >= set(cast("list[str]", node.get("required", [])))
                left += [*properties.values(), *([node["items"]] if "items" in node else [])]
            case _:
                pytest.fail(f"{node}")


@st.composite
def some(draw: st.DrawFn, schema: Schema, **more: Json) -> Schema:
    """The schema with some of the keywords."""
    return schema | {key: value for key, value in more.items() if draw(st.booleans())}


@st.composite
def constants(draw: st.DrawFn) -> Pair:
    choices = draw(st.lists(scalars, min_size=1, max_size=3))
    document = draw(st.sampled_from(choices))
    either = st.just(cast("Schema", {"const": document})) | some({"enum": [*choices]}, type=["string", "null"])
    return draw(either), document


@st.composite
def objects(draw: st.DrawFn, inner: st.SearchStrategy[Pair]) -> Pair:
    """Closed ones: what is not listed is never sent, and of `anyOf` an open one may fit by accident."""
    children = draw(st.dictionaries(st.sampled_from("abc"), inner, min_size=1, max_size=3))
    required = [name for name in children if draw(st.booleans())]
    properties = {name: child[0] for name, child in children.items()}
    schema = an_object(properties, required=[*required], additionalProperties=False)
    document = {name: child[1] for name, child in children.items() if name in required or draw(st.booleans())}
    return draw(some(schema, minProperties=1)), document


@st.composite
def arrays(draw: st.DrawFn, inner: st.SearchStrategy[Pair]) -> Pair:
    parts = draw(st.lists(inner, min_size=1, max_size=2))
    if draw(st.booleans()):
        tuples: Schema = {"type": "array", "prefixItems": [part[0] for part in parts], "items": False}
        return tuples, [part[1] for part in parts]
    schema: Schema = {"type": "array", "items": parts[0][0]}
    return draw(some(schema, minItems=2, maxItems=2, uniqueItems=True)), [parts[0][1]] * draw(st.integers(0, 3))


@st.composite
def together(draw: st.DrawFn, inner: st.SearchStrategy[Pair]) -> Pair:
    first, document = draw(inner)
    second: Json = draw(st.sampled_from([first, {}, {"minLength": 1}, {"properties": {"a": TEXT}}]))
    return draw(some({"allOf": [first, second]}, maxLength=2)), document


@st.composite
def alternatives(draw: st.DrawFn, inner: st.SearchStrategy[Pair]) -> Pair:
    branches = draw(st.lists(inner, min_size=1, max_size=3))
    schema: Schema = {draw(st.sampled_from(["anyOf", "oneOf"])): [branch[0] for branch in branches]}
    document = draw(st.sampled_from(branches))[1]
    return draw(some(schema, type=["string", "integer", "object", "array"], required=["a"])), document


@st.composite
def references_to(draw: st.DrawFn, inner: st.SearchStrategy[Pair], defs: Schema) -> Pair:
    target, document = draw(inner)
    name = f"d{len(defs)}"
    defs[name] = target
    return {"$ref": f"#/$defs/{name}"}, document


leaves: list[st.SearchStrategy[Pair]] = [
    constants(),
    st.tuples(some({"type": "integer"}, minimum=-2, maximum=3, multipleOf=2), st.integers(-4, 4)),
    st.tuples(some({"type": "number"}, exclusiveMinimum=0), st.floats(-3, 3)),
    st.tuples(some({"type": "string"}, minLength=1, maxLength=2, pattern="^a|b$"), st.text("ab", max_size=3)),
    st.tuples(some({"type": "string", "format": "date"}), st.sampled_from(["2026-11-20", "2026-11-31"])),
    st.tuples(
        some({"type": ["string", "null", "array"], "items": TEXT}, maxLength=2),
        st.sampled_from(cast("list[Json]", [None, "a", "abc", ["a"], []])),
    ),
]


@st.composite
def pairs(draw: st.DrawFn, defs: Schema, depth: int = 3) -> Pair:
    """A schema and a document that is likely to fit it."""
    among = leaves
    if depth:
        inner = pairs(defs, depth - 1)
        among = [*leaves, objects(inner), objects(inner), arrays(inner), together(inner), alternatives(inner)]
        among += [alternatives(inner), references_to(inner, defs)]
    schema, document = draw(draw(st.sampled_from(among)))
    more: Schema = draw(some({}, description="d", default=1, **{"not": NO}))
    return cast("Schema", schema) | more, document


@st.composite
def whole_pairs(draw: st.DrawFn) -> tuple[Schema, Json]:
    defs: Schema = {}
    schema, document = draw(pairs(defs))
    return {**cast("Schema", schema), "$defs": defs}, document


@settings(many, max_examples=examples(500))
@given(whole_pairs())
def test_a_valid_value_is_valid_for_the_normalised_schema(pair: tuple[Schema, Json]) -> None:
    schema, document = pair
    assume(valid(document, schema))
    found = normalised_or_none(schema)
    event(f"normalised: {found is not None}")
    if found is None:
        with pytest.raises(RequestError, match=r"no type at|does not list at|lists no properties"):
            normalize_schema(schema)
        return
    assert_the_api_takes(found)
    assert valid({"value": document} if found.wrapped else document, found.schema)


@many
@given(whole_pairs(), anything)
def test_an_answer_is_accepted_exactly_when_jsonschema_accepts_it(pair: tuple[Schema, Json], other: Json) -> None:
    schema, document = pair
    found = normalised_or_none(schema)
    assume(found)
    assert found
    for answer in (document, other):
        text = json.dumps({"value": answer} if found.wrapped else answer)
        expected = valid(answer, schema)
        event(f"valid: {expected}")
        if expected:
            assert validate_output(text, schema, found) == answer
        else:
            with pytest.raises(SchemaMismatchError) as caught:
                validate_output(text, schema, found)
            assert 1 <= len(caught.value.problems) <= 5
