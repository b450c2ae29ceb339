"""An upstream that never stops sending is hung up on, long before its bytes fill the memory."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from mcp_server_claude.anthropic_api import message_stream, response_limits, sse_events, stream_reader
from support.loopback_server import loopback_server
from support.mcp_session import FAILURE_META, connect, text_blocks
from support.recorded_streams import message_events, sse_bytes

if TYPE_CHECKING:
    import asyncio
    from pathlib import Path

pytestmark = pytest.mark.anyio

GOOD = sse_bytes(*message_events("Good"))
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
JSON = b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\n\r\n"
START = sse_bytes(*message_events()[:2])
TEXT = sse_bytes({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "x" * 60_000}})
UNKNOWN = sse_bytes({"type": "unknown", "data": "x" * 60_000})
FILL = b"x" * 1_000_000
LIMIT = 2_000_000
"""The limits of this test, which are larger in truth: a fast machine sends 128 MB in seconds, a busy one in minutes."""
MANY_BYTES = 64_000_000
"""Bytes after which the upstream stops: more than the limit and the buffers of all sockets together."""


class EndlessUpstream:
    """Answers the requests whose path begins with `path` by `head` and then `fill` again and again; others well."""

    def __init__(self, path: str, head: bytes, fill: bytes) -> None:
        self._path, self._head, self._fill = path, head, fill
        self.sent_bytes = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")]
            await reader.readexactly(int(lengths[0].split(b":")[1]) if lengths else 0)
            path = head.split(b" ")[1].decode()
            if path.partition("?")[0] == self._path:
                writer.write(self._head)
                with suppress(ConnectionError):
                    while self.sent_bytes < MANY_BYTES:
                        writer.write(self._fill)
                        await writer.drain()
                        self.sent_bytes += len(self._fill)
                writer.close()
                return
            is_message = path == "/v1/messages"
            body, kind = (GOOD, "text/event-stream") if is_message else (b'{"input_tokens": 5}', "application/json")
            writer.write(
                f"HTTP/1.1 200 X\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body
            )
            await writer.drain()


@pytest.mark.parametrize(
    ("path", "head", "fill", "kind"),
    [
        ("/v1/messages", STREAM, FILL, "protocol"),
        ("/v1/messages", STREAM + START, UNKNOWN, "protocol"),
        ("/v1/messages", STREAM + START, TEXT, ""),
        ("/v1/messages", JSON % 200, FILL, "protocol"),
        ("/v1/messages", JSON % 500, FILL, "api_error"),
        ("/v1/messages", JSON % 400, FILL, "invalid_request"),
        ("/v1/messages/count_tokens", JSON % 200, FILL, ""),
        ("/v1/models", JSON % 200, FILL, ""),
        ("/v1/models", JSON % 500, FILL, ""),
    ],
)
async def test_an_endless_response_is_hung_up_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, path: str, head: bytes, fill: bytes, kind: str
) -> None:
    monkeypatch.setattr(response_limits, "MAX_JSON_BYTES", LIMIT)
    monkeypatch.setattr(sse_events, "MAX_EVENT_BYTES", LIMIT)
    monkeypatch.setattr(stream_reader, "MAX_STREAM_BYTES", 2 * LIMIT)
    monkeypatch.setattr(message_stream, "MAX_TEXT_CHARS", LIMIT)
    upstream = EndlessUpstream(path, head, fill)
    async with (
        loopback_server(upstream.answer) as url,
        connect(
            "memory", "auto", tmp_path / "data", base_url=url, retry_for_s=0, budget_usd_per_day=5, models_wait_s=60
        ) as session,
    ):
        result = await session.ask("Hello")

    failure: dict[str, Any] = (result.meta or {}).get(FAILURE_META) or {}
    assert failure.get("kind", "") == kind
    assert upstream.sent_bytes < MANY_BYTES // 2
    if fill is TEXT:
        assert LIMIT - 60_000 <= len(text_blocks(result)[0]) <= LIMIT
        assert text_blocks(result)[-1].startswith("INCOMPLETE:")
