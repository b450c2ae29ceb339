from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

import pytest

from mcp_server_claude import schemas
from mcp_server_claude.simulator import directive
from support.cloud_upstream import CannedResponse, cloud_upstream
from support.mcp_session import ALL_TRANSPORTS, ProgressUpdate, connect, failure_meta, text_blocks, usage_meta
from support.recorded_streams import message_events, sse_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mcp_server_claude.simulator import Simulator
    from support.mcp_session import ProtocolMode, Transport

pytestmark = pytest.mark.anyio

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 3}},
    "required": ["name", "age"],
}
LIST = {"type": "array", "items": {"type": "string"}}


def bodies(api: Simulator) -> list[dict[str, object]]:
    return [cast("dict[str, object]", record.body) for record in api.requests if record.path == "/v1/messages"]


@pytest.mark.parametrize(("where", "mode"), ALL_TRANSPORTS)
async def test_an_object_is_returned_as_text_and_as_structured_content_with_thread_and_cost(
    upstream: Simulator, tmp_path: Path, where: Transport, mode: ProtocolMode
) -> None:
    async with connect(where, mode, tmp_path / "data", base_url=upstream.url) as session:
        updates: list[ProgressUpdate] = []
        result = await session.ask("A person.", schema=PERSON, updates=updates, style="text")
        value = json.loads(text_blocks(result)[0])
        used = usage_meta(result)
        assert result.structured_content == {"data": value, "thread": used["thread"], "cost_usd": used["cost_usd"]}
        assert value["age"] >= 3
        assert used["complete"]
        assert [each.message for each in updates if each.message] == [text_blocks(result)[0]]


async def test_a_root_that_is_not_an_object_is_returned_as_text_only(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        result = await session.ask("Some words.", schema=LIST)
        assert isinstance(json.loads(text_blocks(result)[0]), list)
        assert result.structured_content is None


async def test_a_schema_is_sent_as_structured_output_together_with_the_effort(
    upstream: Simulator, tmp_path: Path
) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        await session.ask("A person.", schema=PERSON, effort="low")
        (body,) = bodies(upstream)
        config = cast("dict[str, dict[str, object]]", body["output_config"])
        assert config["effort"] == "low"
        assert config["format"]["type"] == "json_schema"


async def test_an_invalid_answer_is_requested_once_more_and_its_cost_counted(
    upstream: Simulator, tmp_path: Path
) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        wrong = directive(text='{"name": "x", "age": 1}')
        result = await session.ask(f"A person. {wrong}", schema=PERSON)
        first, second = bodies(upstream)
        assert len(cast("list[object]", first["messages"])) == 1
        continue_prompt = cast("list[dict[str, str]]", second["messages"])[-1]["content"]
        assert "does not fit the schema" in continue_prompt
        assert not result.is_error
        assert usage_meta(result)["attempts"] == 2
        assert len(session.ledger_rows()) == 2


async def test_two_invalid_answers_are_a_failure_and_never_an_answer(upstream: Simulator, tmp_path: Path) -> None:
    strict = {"type": "object", "properties": {"word": {"type": "string", "pattern": "^qqqq$"}}, "required": ["word"]}
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        result = await session.ask("A word.", schema=strict)
        assert failure_meta(result)["kind"] == "schema_mismatch"
        assert usage_meta(result)["attempts"] == 2
        assert not usage_meta(result)["complete"]


async def test_json_that_was_cut_is_never_returned(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        result = await session.ask("A person.", schema=PERSON, max_tokens=4)
        assert failure_meta(result)["kind"] == "max_tokens"
        assert "larger max_tokens" in text_blocks(result)[0]


async def test_a_broken_stream_is_requested_again_from_the_start(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        result = await session.ask(f"A person. {directive(fault='drop', times=1)}", schema=PERSON)
        first, second = bodies(upstream)
        assert first == second
        assert json.loads(text_blocks(result)[0])
        assert not usage_meta(result)["resumed"]


@pytest.mark.parametrize(
    ("schema", "word"),
    [
        ({"type": "object"}, "properties"),
        ({"type": "nonsense"}, "schema"),
        ({"type": "object", "properties": {"x": {"$ref": "https://example.com/x"}}}, "another document"),
        ("not json", "schema"),
    ],
)
async def test_an_unsupported_schema_is_rejected_before_anything_is_sent(
    upstream: Simulator, tmp_path: Path, schema: object, word: str
) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        result = await session.ask("A person.", schema=schema)
        assert failure_meta(result)["class"] == "request_error"
        assert word in text_blocks(result)[0]
        assert not bodies(upstream)


async def test_a_thread_continues_after_a_structured_answer(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        first = await session.ask("A person.", schema=PERSON)
        await session.ask("And in words?", thread=usage_meta(first)["thread"])
        answer = cast("list[dict[str, list[dict[str, str]]]]", bodies(upstream)[-1]["messages"])[1]
        assert answer["content"][-1]["text"] == text_blocks(first)[0]


MANY_OPTIONAL = {"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(25)}}


async def test_a_schema_that_is_too_complex_for_the_api_is_put_into_the_prompt_and_validated(
    upstream: Simulator, tmp_path: Path
) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        fits = directive(text='{"p0": "x"}')
        result = await session.ask(f"A form. {fits}", schema=MANY_OPTIONAL)
        assert not result.is_error
        assert json.loads(text_blocks(result)[0]) == {"p0": "x"}
        assert "25 optional properties" in str(text_blocks(result))
        (body,) = bodies(upstream)
        assert "format" not in cast("dict[str, object]", body.get("output_config") or {})
        prompt = str(cast("list[dict[str, object]]", body["messages"])[-1]["content"])
        assert "valid against this JSON Schema" in prompt
        assert '"p24"' in prompt


async def test_an_answer_to_a_schema_in_the_prompt_is_validated_as_any_other(
    upstream: Simulator, tmp_path: Path
) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        wrong = directive(text='{"p0": 1}')
        await session.ask(f"A form. {wrong}", schema=MANY_OPTIONAL)
        _, second = bodies(upstream)
        assert "p0: should be string, is a number" in str(cast("list[object]", second["messages"])[-1])


async def test_a_schema_is_normalized_once_for_a_call_in_a_thread_with_a_fallback_model(
    upstream: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    normalized: list[object] = []
    normalize = schemas.normalize_schema

    def count_and_normalize(schema: Mapping[str, object]) -> schemas.NormalizedSchema:
        normalized.append(schema)
        return normalize(schema)

    monkeypatch.setattr(schemas, "normalize_schema", count_and_normalize)
    settings = {"base_url": upstream.url, "fallback_model": "haiku"}
    async with connect("memory", "auto", tmp_path / "data", **settings) as session:
        first = await session.ask("Hi")
        await session.ask("A person.", schema=PERSON, thread=usage_meta(first)["thread"])
    assert normalized == [PERSON]


def bad_request(message: str) -> CannedResponse:
    error = {"type": "error", "error": {"type": "invalid_request_error", "message": message}}
    return CannedResponse("/v1/messages", json.dumps(error).encode(), "application/json", 400, times=1)


GRAMMAR = "compiled grammar is too large for the Messages API"
CITATIONS = "does not allow a schema together with the citations of web tools"


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("The compiled grammar is too large.", GRAMMAR),
        ("Schema is too complex for compilation.", GRAMMAR),
        ("output_config.format: structured outputs are not supported with citations enabled.", CITATIONS),
    ],
)
async def test_a_schema_whose_grammar_the_api_rejects_is_put_into_the_prompt_with_a_note_and_the_thread_continues(
    tmp_path: Path, message: str, reason: str
) -> None:
    answer = CannedResponse("/v1/messages", sse_bytes(*message_events('{"name": "Ada", ', '"age": 36}')))
    async with (
        cloud_upstream(bad_request(message), answer) as gateway,
        connect("memory", "auto", tmp_path / "data", base_url=gateway.url) as session,
    ):
        first = await session.ask("A person.", schema=PERSON)
        await session.ask("And in words?", thread=usage_meta(first)["thread"])
    assert json.loads(text_blocks(first)[0]) == {"name": "Ada", "age": 36}
    assert f"{reason}, so Claude was asked for it in words" in text_blocks(first)[1]
    with_format, in_words, later = [request.body for request in gateway.requests_to("/v1/messages")]
    assert "format" in cast("dict[str, object]", with_format["output_config"])
    assert "output_config" not in in_words
    question = cast("list[dict[str, object]]", in_words["messages"])[-1]
    assert "valid against this JSON Schema" in str(question["content"])
    assert cast("list[dict[str, object]]", later["messages"])[0] == question


async def test_json_after_the_use_of_a_tool_is_the_answer_without_the_text_before_it(tmp_path: Path) -> None:
    start, _, *_, stop = message_events()
    blocks: list[dict[str, object]] = [
        {"type": "text", "text": "Let me look that up."},
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "Ada"}},
        {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []},
        {"type": "text", "text": '{"name": "Ada", '},
        {"type": "text", "text": '"age": 36}'},
    ]
    events = [start]
    for index, block in enumerate(blocks):
        events += [
            {"type": "content_block_start", "index": index, "content_block": block},
            {"type": "content_block_stop", "index": index},
        ]
    events += [{"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}}, stop]
    async with (
        cloud_upstream(CannedResponse("/v1/messages", sse_bytes(*events))) as gateway,
        connect("memory", "auto", tmp_path / "data", base_url=gateway.url) as session,
    ):
        result = await session.ask("Who is Ada?", schema=PERSON, tools=["web"])
    assert json.loads(text_blocks(result)[0]) == {"name": "Ada", "age": 36}
    (body,) = [request.body for request in gateway.requests_to("/v1/messages")]
    fetch = next(tool for tool in cast("list[dict[str, object]]", body["tools"]) if tool["name"] == "web_fetch")
    assert "citations" not in fetch


async def test_a_schema_works_with_the_tools_of_the_thread_and_of_the_call(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        first = await session.ask("Search for tea. [[sim: search=on]]", tools=["web"])
        thread = usage_meta(first)["thread"]
        without = await session.ask("A person.", schema=PERSON, thread=thread)
        beside = await session.ask("Another person.", schema=PERSON, tools=["web"], thread=thread)
        last = await session.ask("And in words?", thread=thread)
    for result in (first, without, beside, last):
        assert not result.is_error, text_blocks(result)
    assert [body.get("tool_choice") for body in bodies(upstream)] == [
        None,
        {"type": "none"},
        None,
        {"type": "none"},
    ]


async def test_an_enum_value_with_other_capitals_is_corrected_without_another_request(
    upstream: Simulator, tmp_path: Path
) -> None:
    schema = {"type": "object", "properties": {"tea": {"enum": ["green", "black"]}}, "required": ["tea"]}
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        prompt = directive(text='{"tea": "Green"}')
        result = await session.ask(f"Which? {prompt}", schema=schema)
    assert json.loads(text_blocks(result)[0]) == {"tea": "green"}
    assert len(bodies(upstream)) == 1
