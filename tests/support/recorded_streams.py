"""The recorded streams, and a transport that plays bytes back: what arrives is what the API sent, byte for byte."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import httpx2
import pytest

from mcp_server_claude.anthropic_api.client import ClaudeClient
from mcp_server_claude.anthropic_api.message_stream import MessageStream
from mcp_server_claude.call_types import CallEvent, TextDelta
from mcp_server_claude.errors import CallError
from mcp_server_claude.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

STREAMS_DIR = Path(__file__).parents[2].parent / "shared" / "streams"
REQUEST_BODY: dict[str, object] = {"model": "any", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}


def stream_names() -> list[str]:
    """The recorded streams; where the folder is absent, one name that stands for them all."""
    return sorted(path.stem for path in STREAMS_DIR.glob("*.sse")) or ["(none)"]


def recorded_stream(name: str) -> bytes:
    if not STREAMS_DIR.is_dir():
        pytest.skip("The recorded streams (../shared/streams) are not here.")
    return (STREAMS_DIR / f"{name}.sse").read_bytes()


def sse_bytes(*events: object, end: str = "\n", escaped: bool = False) -> bytes:
    """Events as the API frames them, their text as UTF-8 or, halves of surrogate pairs too, as JSON escapes."""
    return "".join(
        f"event: {cast('dict[str, object]', event)['type']}{end}"
        f"data: {json.dumps(event, ensure_ascii=escaped)}{end}{end}"
        for event in events
    ).encode()


def message_events(*texts: str) -> list[object]:
    """The events of a whole message that says these pieces."""
    usage = {"input_tokens": 7, "output_tokens": 1}
    message: dict[str, object] = {"id": "m", "type": "message", "role": "assistant", "model": "claude-haiku-5-5"}
    return [
        {"type": "message_start", "message": {**message, "content": [], "stop_reason": None, "usage": usage}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": p}} for p in texts),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}},
        {"type": "message_stop"},
    ]


def utf16_units(text: str) -> str:
    """The text as UTF-16 has it: every surrogate pair as two halves."""
    raw = text.encode("utf-16-le", "surrogatepass")
    return "".join(chr(raw[n] | raw[n + 1] << 8) for n in range(0, len(raw), 2))


class ReplayTransport(httpx2.AsyncBaseTransport):
    """A transport that answers every request with these chunks."""

    def __init__(self, chunks: Sequence[bytes], *, status: int = 200, content_type: str = "text/event-stream") -> None:
        self.chunks = chunks
        self.status = status
        self.content_type = content_type

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        async def body() -> AsyncIterator[bytes]:
            for chunk in self.chunks:
                yield chunk

        headers = {"content-type": self.content_type, "request-id": "req_recorded"}
        return httpx2.Response(self.status, headers=headers, content=body(), request=request)


@dataclass(frozen=True)
class RecordedRun:
    """The outcome of a stream: the answer, the failure if there was one, and the events."""

    answer: MessageStream
    failure: CallError | None
    events: list[CallEvent]

    @property
    def event_text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, TextDelta))

    def outcome(self) -> tuple[object, ...]:
        """All that must not depend on how the bytes were cut."""
        answer, failure = self.answer, self.failure
        kind = failure and (type(failure), failure.kind, failure.request_id)
        return answer.text, answer.stop_reason, answer.blocks, answer.raw_usage, answer.usage(), kind, self.event_text


async def replay(*chunks: bytes) -> RecordedRun:
    """Feed a stream's bytes through the SDK into an `Answer`, as every call does."""
    events: list[CallEvent] = []
    answer, failure = MessageStream(events.append), None
    claude = ClaudeClient(Settings(api_key="sk-ant-recorded"), ReplayTransport(chunks))  # pyright: ignore[reportArgumentType] - parsed
    try:
        await claude.stream_message(REQUEST_BODY, answer)
    except CallError as error:
        failure = error
    finally:
        await claude.close()
    return RecordedRun(answer, failure, events)
