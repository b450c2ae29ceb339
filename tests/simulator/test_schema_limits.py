"""The schemas that the API compiles, and those that it rejects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from mcp_server_claude.simulator.api_errors import RequestRejectedError
from mcp_server_claude.simulator.schema_limits import check_schemas

if TYPE_CHECKING:
    from mcp_server_claude.simulator.json_body import Object

STRING: dict[str, Any] = {"type": "string"}


def closed_object(properties: dict[str, Any], *, required: bool = True, defs: object = None) -> dict[str, Any]:
    names = list(properties) if required else []
    schema = {"type": "object", "properties": properties, "required": names, "additionalProperties": False}
    return schema if defs is None else {**schema, "$defs": defs}


def with_format(schema: dict[str, Any]) -> Object:
    return {"output_config": {"format": {"type": "json_schema", "schema": schema}}}


def many(count: int, schema: dict[str, Any]) -> dict[str, Any]:
    return {f"p{n}": schema for n in range(count)}


NULLABLE = {"type": ["string", "null"]}


@pytest.mark.parametrize(
    "schema",
    [
        closed_object({"a": STRING}),
        closed_object(many(24, STRING), required=False),
        closed_object(many(16, NULLABLE)),
        closed_object({"a": {"type": "array", "items": STRING, "minItems": 1}}),
        closed_object(
            {"a": {"$ref": "#/$defs/A"}, "b": {"$ref": "#/$defs/A"}}, defs={"A": closed_object({"x": STRING})}
        ),
        closed_object({"a": {"enum": ["x", 1, None]}}),
        closed_object({"a": {"type": "string", "format": "date-time", "pattern": "^[a-z]+$"}}),
        {"type": "array", "items": closed_object({"a": STRING})},
        closed_object({"minimum": {"type": "integer"}}),
    ],
)
def test_a_schema_within_the_limits_passes(schema: dict[str, Any]) -> None:
    check_schemas(with_format(schema))


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (closed_object(many(25, STRING), required=False), r"too many optional parameters \(25\).*limit: 24"),
        (closed_object({"a": closed_object(many(25, STRING), required=False)}), "too many optional parameters"),
        (closed_object(many(17, NULLABLE)), r"too many parameters with union types \(17 .*limit: 16"),
        (closed_object(many(17, {"anyOf": [STRING, {"type": "null"}]})), "union types"),
        ({"type": "object", "properties": {}}, "'additionalProperties' must be explicitly set to false"),
        (closed_object({"a": {"type": "object"}}), "'additionalProperties' must be explicitly set to false"),
        (
            closed_object({"a": {"type": "integer", "minimum": 1, "maximum": 2}}),
            "maximum, minimum are not supported",
        ),
        (closed_object({"a": {"type": "string", "maxLength": 2}}), "properties maxLength are not supported"),
        (
            closed_object({"a": {"type": "array", "items": STRING, "minItems": 2}}),
            "'minItems' values other than 0 or 1",
        ),
        (closed_object({"a": {"type": "string", "format": "phone"}}), "format 'phone' is not supported"),
        (closed_object({"a": {"type": "string", "pattern": "(?=a)"}}), "Pattern is not supported"),
        (closed_object({"a": {"enum": [{"b": 1}]}}), "Enum values"),
        (closed_object({"a": {"oneOf": [STRING, NULLABLE]}}), "'oneOf' is not supported"),
        (closed_object({"a": {"$ref": "#"}}), "Recursive schemas"),
        (
            closed_object({"a": {"$ref": "#/$defs/A"}}, defs={"A": closed_object({"x": {"$ref": "#/$defs/A"}})}),
            "Recursive",
        ),
        (closed_object({"a": {"$ref": "https://example.com/a.json"}}), "same schema"),
        (
            closed_object({"a": {"type": "string", "enum": [str(n) for n in range(2000)]}}),
            "compiled grammar is too large",
        ),
    ],
)
def test_a_schema_beyond_the_limits_is_rejected(schema: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestRejectedError, match=message) as refused:
        check_schemas(with_format(schema))

    assert refused.value.api_error.status == 400


def test_strict_tools_and_the_format_share_the_limits() -> None:
    tools: list[Any] = [
        {"name": f"t{n}", "strict": True, "input_schema": closed_object(many(13, STRING), required=False)}
        for n in range(2)
    ]

    check_schemas({"tools": [tools[0], {**tools[1], "strict": False}]})
    with pytest.raises(RequestRejectedError, match="too many optional parameters"):
        check_schemas({"tools": tools})
    with pytest.raises(RequestRejectedError, match="too many optional parameters"):
        check_schemas({"tools": tools[:1], **with_format(closed_object(many(13, STRING), required=False))})


def test_at_most_20_tools_are_strict() -> None:
    tools: list[Any] = [{"name": f"t{n}", "strict": True, "input_schema": closed_object({})} for n in range(21)]

    check_schemas({"tools": tools[:20]})
    with pytest.raises(RequestRejectedError, match="Too many strict tools"):
        check_schemas({"tools": tools})
