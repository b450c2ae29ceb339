"""Responses that the Messages API would never send: what a call makes of them, over MCP and from the wire on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from support.mcp_session import FAILURE_META, USAGE_META, connect, text_blocks
from support.recorded_streams import message_events, sse_bytes
from support.scripted_upstream import scripted_upstream

if TYPE_CHECKING:
    from pathlib import Path

    from mcp.types import CallToolResult

    from support.scripted_upstream import ScriptedUpstream

pytestmark = pytest.mark.anyio

GOOD = sse_bytes(*message_events("Good"))
Json = dict[str, Any]


def _response(
    *blocks: Json,
    start: Json | None = None,
    first: Json | None = None,
    usage: Json | None = None,
    end: Json | None = None,
    citation: Json | None = None,
) -> bytes:
    """A stream that says "Hello world", with these blocks after its text, and with these fields in its events."""
    events: list[Any] = message_events("Hello ", "world")
    events[0]["message"] |= start or {}
    events[1]["content_block"] |= first or {}
    events[-2]["usage"] |= usage or {}
    events[-2]["delta"] |= end or {}
    if citation is not None:
        delta = {"type": "citations_delta", "citation": citation}
        events.insert(4, {"type": "content_block_delta", "index": 0, "delta": delta})
    for index, block in enumerate(blocks, 1):
        events[-2:-2] = [
            {"type": "content_block_start", "index": index, "content_block": block},
            {"type": "content_block_stop", "index": index},
        ]
    return sse_bytes(*events, escaped=True)


def _nested(levels: int) -> object:
    value: object = "\ud800"
    for _ in range(levels):
        value = {"a": value}
    return value


async def _ask_twice(tmp_path: Path, body: bytes) -> tuple[CallToolResult, CallToolResult, ScriptedUpstream]:
    """What comes of a response, and of the next question in its thread, which is answered well."""
    async with (
        scripted_upstream(body) as upstream,
        connect("memory", "auto", tmp_path / "data", base_url=upstream.url, retry_for_s=0) as session,
    ):
        first = await session.ask("Hello")
        upstream.bodies[:] = [GOOD]
        thread = (first.meta or {}).get(USAGE_META, {}).get("thread") or ""
        return first, await session.ask("And now?", thread=thread), upstream


@pytest.mark.parametrize(
    "body",
    [
        _response(first={"citations": 5}),
        _response(first={"citations": "abc"}),
        _response(first={"citations": [5, None, "x"]}),
        _response(first={"citations": 5}, citation={"url": 5, "title": {}, "cited_text": []}),
        _response(citation={"url": "https://x.example/\ud800", "title": "\udfff", "cited_text": "\ud800"}),
        _response({"type": "image", "source": {"type": "base64", "data": "x"}}),
        _response({"type": "document", "source": {"type": "base64", "data": "x"}}),
        _response({"type": "server_tool_use", "id": "s\ud800", "name": "web_search", "input": {"q\ud800": "\udfff"}}),
        _response({"type": "thinking", "thinking": "", "signature": "\ud800"}),
        _response({"type": "fallback", "from": 5, "to": {"model": 5}, "trigger": "x"}),
        _response(start={"model": ["claude"], "input_transformations": [5, {"type": {}}]}),
    ],
)
async def test_fields_of_other_types_lose_neither_the_answer_nor_its_thread(tmp_path: Path, body: bytes) -> None:
    first, second, upstream = await _ask_twice(tmp_path, body)

    assert text_blocks(first)[0].startswith("Hello world")
    assert text_blocks(second)[0] == "Good"
    json.loads(upstream.requests[-1].partition(b"\r\n\r\n")[2].decode())
    assert json.dumps(first.model_dump(), ensure_ascii=False).encode()


@pytest.mark.parametrize(
    "block",
    [
        {"type": "text", "text": {"a": 1}},
        {"type": "text", "text": 42},
        {"type": "thinking", "thinking": ["a"], "signature": ""},
        {"type": "redacted_thinking", "data": 5},
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": _nested(700)},
    ],
)
async def test_a_block_that_is_no_block_ends_the_text_before_it_and_is_never_shown(tmp_path: Path, block: Json) -> None:
    first, _, _ = await _ask_twice(tmp_path, _response(block))

    assert text_blocks(first)[0] == "Hello world"
    assert text_blocks(first)[-1].startswith("INCOMPLETE:")


@pytest.mark.parametrize("url", ["https://x.example/\x1b[2J", "https://x.example/\n\n# Title", "javascript:alert(1)"])
async def test_an_address_that_does_not_print_is_no_source(tmp_path: Path, url: str) -> None:
    first, _, _ = await _ask_twice(tmp_path, _response(citation={"url": url, "title": "t"}))

    assert text_blocks(first)[0] == "Hello world"


@pytest.mark.parametrize("reason", [5, True, ["end_turn"], {"a": 1}, ""])
async def test_a_stop_reason_that_is_no_word_is_none(tmp_path: Path, reason: object) -> None:
    first, _, _ = await _ask_twice(tmp_path, _response(end={"stop_reason": reason}))

    assert text_blocks(first)[-1].startswith("INCOMPLETE: The connection ended before the answer did.")


async def test_a_refusal_is_explained_by_text_alone(tmp_path: Path) -> None:
    details = {"category": {"a": 1}, "explanation": ["x"]}
    first, _, _ = await _ask_twice(
        tmp_path, _response(end={"stop_reason": "refusal", "stop_details": details}, first={"text": ""})
    )

    assert text_blocks(first)[0].startswith("Claude declined to answer.")


@pytest.mark.parametrize(
    "usage",
    [
        {"output_tokens": 2**53},
        {"server_tool_use": {"web_search_requests": 10**9}},
        {"iterations": [{"type": "message", "input_tokens": 1, "output_tokens": 1}] * 101},
        {"cache_creation": {"ephemeral_1h_input_tokens": 10**9}},
    ],
)
async def test_counts_beyond_what_a_request_can_use_make_the_cost_unknown(tmp_path: Path, usage: Json) -> None:
    first, _, _ = await _ask_twice(tmp_path, _response(usage=usage))

    account = (first.meta or {})[USAGE_META]
    assert account["cost_usd"] is None
    assert account["complete"]


async def test_a_later_input_count_of_zero_takes_nothing_back(tmp_path: Path) -> None:
    start = {"usage": {"input_tokens": 1000, "cache_read_input_tokens": 70, "output_tokens": 1}}
    zero = {"input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 9}
    first, _, _ = await _ask_twice(tmp_path, _response(start=start, usage=zero))

    account = (first.meta or {})[USAGE_META]
    assert (account["input_tokens"], account["cache_read_input_tokens"], account["output_tokens"]) == (1000, 70, 9)


async def test_output_that_was_counted_as_zero_is_estimated_from_its_text(tmp_path: Path) -> None:
    start = {"usage": {"input_tokens": 7, "output_tokens": 0}}
    first, _, _ = await _ask_twice(tmp_path, _response(start=start, usage={"output_tokens": 0}))

    account = (first.meta or {})[USAGE_META]
    assert account["estimated"]
    assert account["output_tokens"] == 3


@pytest.mark.parametrize("usage", [None, {}, [1, 2], {"output_tokens": None}, {"output_tokens": "5"}])
async def test_output_that_the_end_does_not_count_is_estimated_from_its_text(tmp_path: Path, usage: object) -> None:
    """The count of `message_start` is that of a beginning, and no count of the answer."""
    text = "word " * 400
    events: list[Any] = message_events(text)
    events[0]["message"]["usage"] = {"input_tokens": 7, "output_tokens": 1}
    events[-2]["usage"] = usage
    first, _, _ = await _ask_twice(tmp_path, sse_bytes(*events))

    account = (first.meta or {})[USAGE_META]
    assert (account["complete"], account["estimated"]) == (True, True)
    assert account["output_tokens"] >= len(text) / 5


async def test_output_never_becomes_less(tmp_path: Path) -> None:
    """It is cumulative: a smaller count after a larger one takes nothing back."""
    events: list[Any] = message_events("Good")
    events[-2]["usage"] = {"output_tokens": 500}
    events.insert(-1, {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 2}})
    first, _, _ = await _ask_twice(tmp_path, sse_bytes(*events))
    assert (first.meta or {})[USAGE_META]["output_tokens"] == 500


async def test_the_media_type_of_a_stream_may_have_capitals(tmp_path: Path) -> None:
    """Media types are compared without regard to case (RFC 9110, 8.3.1)."""
    body = _response()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: Text/Event-Stream; Charset=UTF-8\r\ncontent-length: {len(body)}\r\n\r\n"
    first, _, _ = await _ask_twice(tmp_path, head.encode() + body)
    assert (first.meta or {})[USAGE_META]["complete"]


async def test_a_whole_message_in_place_of_a_stream_is_the_answer(tmp_path: Path) -> None:
    message = {
        "type": "message",
        "role": "assistant",
        "model": "claude-haiku-5-5",
        "content": [{"type": "text", "text": "All at once"}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 10, "output_tokens": 3},
    }
    body = json.dumps(message).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    first, _, _ = await _ask_twice(tmp_path, head.encode() + body)

    account = (first.meta or {})[USAGE_META]
    assert text_blocks(first)[0] == "All at once"
    assert (account["input_tokens"], account["output_tokens"], account["estimated"]) == (10, 3, False)


@pytest.mark.parametrize(
    "body", [b'{"type": "error"}', b'{"type": "message", "content": 5}', b'{"type": "mess', b"[1]"]
)
async def test_other_json_in_place_of_a_stream_names_the_base_url(tmp_path: Path, body: bytes) -> None:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    first, _, _ = await _ask_twice(tmp_path, head.encode() + body)

    assert (first.meta or {})[FAILURE_META]["kind"] == "protocol"
    assert "MCP_CLAUDE_BASE_URL" in text_blocks(first)[0]


@pytest.mark.parametrize(
    "header",
    [
        "anthropic-ratelimit-requests-limit: " + "9" * 5000,
        "anthropic-ratelimit-requests-remaining: " + "9" * 5000,
        "request-id: \x1b[31m" + "r" * 5000,
    ],
)
async def test_a_header_that_is_no_number_or_id_changes_no_answer(tmp_path: Path, header: str) -> None:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n{header}\r\ncontent-length: {len(GOOD)}\r\n\r\n"
    first, _, _ = await _ask_twice(tmp_path, head.encode() + GOOD)

    account = (first.meta or {})[USAGE_META]
    assert text_blocks(first)[0] == "Good"
    assert all(name.isprintable() and len(name) <= 200 for name in account["request_ids"])
