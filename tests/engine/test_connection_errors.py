from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream
from hypothesis import given, settings
from hypothesis import strategies as st

from support.mcp_session import FAKE_KEY, ProgressUpdate, connect, failure_meta, text_blocks, usage_meta
from support.quick_run import examples
from support.recorded_streams import message_events, replay, sse_bytes
from support.scripted_upstream import SSE, scripted_upstream

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from mcp_server_claude.simulator import Simulator
    from support.mcp_session import McpSession

pytestmark = pytest.mark.anyio
HANG_S = 30
QUICK: dict[str, object] = {"max_retries": 0, "bytes_timeout_s": 0.8, "event_timeout_s": 0.8, "models_wait_s": 0.5}


@pytest.fixture(autouse=True)
def _no_bug(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing here may be logged as an error or with a traceback."""
    yield
    records = [record for record in caplog.records if record.levelno >= logging.ERROR or record.exc_info]
    assert records == []


@asynccontextmanager
async def listening(serve: Callable[[SocketStream], Awaitable[None]]) -> AsyncGenerator[int]:
    """A port of this machine where `serve` answers each connection."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.listeners[0].extra(SocketAttribute.local_port)  # noqa: S610 - not Django's
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, serve)
        yield port
        tasks.cancel_scope.cancel()


def at(url: str, tmp_path: Path, **fields: object) -> AbstractAsyncContextManager[McpSession]:
    return connect("memory", "auto", tmp_path / "data", client_name="test", base_url=url, **(QUICK | fields))


async def sentence(session: McpSession, prompt: str = "x") -> tuple[str, dict[str, object]]:
    """The one sentence that a call to a bad upstream ends with, and the fields of the error."""
    with anyio.fail_after(HANG_S):
        result = await session.ask(prompt)
    (text,) = text_blocks(result)
    used = usage_meta(result)
    message, _, call = text.rpartition(" ")
    assert call == f"[{used['call_id']}]"
    assert message.endswith((".", "!"))
    assert used["complete"] is False
    assert not any(word in text for word in ("Traceback", "Exception", "Error(", "httpx", "anthropic.", FAKE_KEY))
    return message, failure_meta(result)


# --------------------------------------------------------------------- what is not a Messages API


@pytest.mark.parametrize(
    ("fault", "family", "expected"),
    [
        ("html", "configuration_error", "answered with text/html instead of an event stream (HTTP 200)"),
        (
            "redirect",
            "configuration_error",
            "answers with a redirect. Set MCP_CLAUDE_BASE_URL to the address that it leads to.",
        ),
        ("empty", "temporary_error", "The connection ended before the answer did."),
        ("noevents", "temporary_error", "The Messages API sent no event for"),
    ],
)
async def test_a_response_that_is_no_message_stream_is_reported_in_one_sentence(
    api: Simulator, tmp_path: Path, fault: str, family: str, expected: str
) -> None:
    api.reset()
    async with at(api.url, tmp_path) as session:
        text, call_text = await sentence(session, f"Tell me. [[sim: fault={fault}]]")
        await api.wait_until_idle()
        assert not (await session.ask("Tell me more.")).is_error
    assert expected in text
    assert call_text["class"] == family
    assert call_text["retryable"] is (family == "temporary_error")


@pytest.mark.parametrize("fault", ["html", "redirect"])
async def test_an_error_that_only_the_operator_can_mend_is_not_retried(
    api: Simulator, tmp_path: Path, fault: str
) -> None:
    api.reset()
    async with at(api.url, tmp_path, max_retries=8) as session:
        text, _ = await sentence(session, f"Tell me. [[sim: fault={fault}]]")
    assert [record.path for record in api.requests].count("/v1/messages") == 1
    assert "base URL" in text


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"Not a stream at all.\n" * 9, SSE),
        (b"data: not JSON\n\n" * 9, SSE),
        (b"event: message_start\ndata: {}\n\n", SSE),
        (b'event: message_start\ndata: {"type":"message_start"}\n\n', SSE),
        (b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0}\n\n', SSE),
        (b'event: message_start\ndata: [1, 2]\n\nevent: ping\ndata: "x"\n\n', SSE),
        (b'data: {"id":"x","object":"chat.completion.chunk","choices":[]}\n\ndata: [DONE]\n\n', SSE),
        (b"\xff\xfe\x00" * 99, SSE),
        (b"\x00" * 4096, "application/octet-stream"),
        (b"", "image/png"),
    ],
    ids=["prose", "no JSON", "empty event", "no message", "no delta", "lists", "OpenAI's", "binary", "bytes", "image"],
)
async def test_any_other_response_is_reported_in_one_sentence(tmp_path: Path, body: bytes, kind: str) -> None:
    async with scripted_upstream(body, content_type=kind) as upstream, at(upstream.url, tmp_path) as session:
        text, call_text = await sentence(session)
    assert call_text["kind"] in {"protocol", "truncated"}
    assert any(words in text for words in ("Messages API", "The connection ended before"))


scalars = st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner))


@st.composite
def spoiled(draw: st.DrawFn) -> list[object]:
    """A sound stream in which some values, at any depth, are not what they should be, or are missing."""

    def spoil(value: object, chance: int) -> object:
        if draw(st.integers(0, chance)) == 0:
            return draw(values)
        if isinstance(value, dict):
            fields = cast("dict[str, object]", value)
            names = [name for name in fields if name == "type" or draw(st.integers(0, chance))]
            return {name: fields[name] if name == "type" else spoil(fields[name], chance) for name in names}
        return [spoil(each, chance) for each in cast("list[object]", value)] if isinstance(value, list) else value

    chance = draw(st.sampled_from([5, 20, 60]))
    search: dict[str, object] = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
    more: list[object] = [
        {"type": "content_block_start", "index": 1, "content_block": search},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": "{"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "citations_delta", "citation": {"type": "x"}}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "hm"}},
        {"type": "content_block_stop", "index": 1},
    ]
    events = [*message_events("one ", "two"), *more]
    return [
        cast("dict[str, object]", {"type": "ping"}) | cast("dict[str, object]", event)
        if isinstance(event, dict)
        else {"type": "x"}
        for event in (spoil(each, chance) for each in draw(st.permutations(events)))
    ]


@settings(deadline=None, max_examples=examples(150))
@given(spoiled())
async def test_no_malformed_event_is_more_than_a_call_error(events: list[object]) -> None:
    with anyio.fail_after(HANG_S):
        replayed = await replay(sse_bytes(*events, escaped=True))
    if replayed.failure is not None:
        assert replayed.failure.kind == "protocol"
    replayed.outcome()


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<html>Bad Gateway</html>", "text/html"),
        (b'{"error": "no such thing"}', "application/json"),
        (b'{"error": {"message": ["a", "list"], "type": 7}}', "application/json"),
        (b"[]", "application/json"),
        (b"{", "application/json"),
        (b"", "text/plain"),
    ],
    ids=["html", "plain error", "odd error", "list", "broken", "nothing"],
)
@pytest.mark.parametrize("status", [400, 404, 500, 502, 503])
async def test_an_error_of_any_shape_is_reported_in_one_sentence(
    tmp_path: Path, status: int, body: bytes, kind: str
) -> None:
    async with (
        scripted_upstream(body, status=status, content_type=kind) as upstream,
        at(upstream.url, tmp_path) as session,
    ):
        text, call_text = await sentence(session)
    # A 404 that is not the API's own means that the route is missing: the base URL is wrong.
    assert call_text["class"] == {404: "configuration_error", 400: "request_error"}.get(status, "temporary_error")
    assert call_text["request_id"] == "req_parrot"
    assert "Messages API" in text
    assert "<" not in text


@pytest.mark.parametrize("body", [b"{}", b"[]", b"{", b'{"object": "chat.completion", "choices": []}'])
async def test_json_that_is_no_message_is_reported_once_and_not_asked_for_again(tmp_path: Path, body: bytes) -> None:
    async with (
        scripted_upstream(body, content_type="application/json") as upstream,
        at(upstream.url, tmp_path, max_retries=8) as session,
    ):
        text, call_text = await sentence(session)
    assert "answered with application/json instead of an event stream (HTTP 200)" in text
    assert "base URL" in text
    assert (call_text["class"], call_text["retryable"]) == ("configuration_error", False)
    assert len(session.ledger_rows()) == 1


# --------------------------------------------------------------------- odd, but whole


@pytest.mark.parametrize("fault", ["gzip", "huge", "tiny", "nostop", "json"])
async def test_a_compressed_huge_or_fragmented_stream_is_an_answer(api: Simulator, tmp_path: Path, fault: str) -> None:
    api.reset()
    updates: list[ProgressUpdate] = []
    async with at(api.url, tmp_path, bytes_timeout_s=20, event_timeout_s=20) as session:
        with anyio.fail_after(HANG_S):
            result = await session.ask(f"Tell me. [[sim: fault={fault}]]", updates=updates)
    request = next(record for record in api.requests if record.path == "/v1/messages")
    assert text_blocks(result)[0] == request.text == "".join(each.message or "" for each in updates)
    assert usage_meta(result)["complete"] is True
    assert len(request.text) >= {"huge": 5_000_000, "tiny": 10_000}.get(fault, 1)


# --------------------------------------------------------------------- no server


async def test_a_server_without_tls_is_named_as_such(tmp_path: Path) -> None:
    """What listens speaks HTTP, and says so to whatever it does not understand, as web servers do."""

    async def complain(stream: SocketStream) -> None:
        async with stream:
            await stream.receive()
            await stream.send(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")

    async with listening(complain) as port, at(f"https://127.0.0.1:{port}", tmp_path) as session:
        text, call_text = await sentence(session)
    assert "The TLS connection to the base URL failed" in text
    assert (call_text["class"], call_text["kind"]) == ("configuration_error", "tls")


async def test_a_connection_closed_during_the_tls_handshake_is_reported(api: Simulator, tmp_path: Path) -> None:
    async with at(api.url.replace("http:", "https:"), tmp_path) as session:
        text, call_text = await sentence(session)
    assert "base URL" in text or "The connection to the Messages API was lost." in text
    assert call_text["kind"] in {"tls", "connection"}


async def test_a_port_where_nothing_listens_is_named_as_such(tmp_path: Path) -> None:
    async with at("http://127.0.0.1:9", tmp_path) as session:
        text, call_text = await sentence(session)
    assert "Nothing listens at the base URL: the connection was refused." in text
    assert (call_text["class"], call_text["kind"], call_text["retryable"]) == (
        "temporary_error",
        "connection_refused",
        True,
    )


async def test_an_unknown_host_is_named_as_such(tmp_path: Path) -> None:
    async with at("http://no-such-host.invalid", tmp_path) as session:
        text, call_text = await sentence(session)
    assert "The host of the base URL is not known (DNS)." in text
    assert (call_text["class"], call_text["kind"]) == ("configuration_error", "dns")


@pytest.mark.parametrize(
    "url",
    [
        "api.example.com",
        "localhost:4000",
        "ftp://x",
        "http://",
        "https:///v1",
        "//x",
        "a b",
        "http://a\x07b",
        "http://é\u200b.example",
    ],
)
async def test_an_invalid_base_url_is_named_before_anything_is_sent(tmp_path: Path, url: str) -> None:
    async with at(url, tmp_path) as session:
        with anyio.fail_after(HANG_S):
            for _ in range(2):
                result = await session.ask("x")
                (text,) = text_blocks(result)
                assert text.startswith("MCP_CLAUDE_BASE_URL is not a URL that begins with http:// or https://.")
                assert failure_meta(result)["kind"] == "base_url"


async def test_a_connection_closed_without_a_response_is_reported_as_lost(tmp_path: Path) -> None:
    """Before a single byte of a response, again and again."""

    async def hang_up(stream: SocketStream) -> None:
        await stream.aclose()

    async with listening(hang_up) as port, at(f"http://127.0.0.1:{port}", tmp_path) as session:
        text, call_text = await sentence(session)
    assert "The connection to the Messages API was lost." in text
    assert call_text["kind"] == "connection"


async def test_a_server_that_never_answers_is_given_up_at_the_timeout(tmp_path: Path) -> None:
    """It takes the connection and the request, and says nothing at all; the list of models is not waited for either."""

    async def listen(stream: SocketStream) -> None:
        async with stream:
            async for _ in stream:
                pass

    async with listening(listen) as port, at(f"http://127.0.0.1:{port}", tmp_path) as session:
        text, call_text = await sentence(session)
    assert "Nothing came from the Messages API for" in text
    assert call_text["kind"] == "stream_timeout"
