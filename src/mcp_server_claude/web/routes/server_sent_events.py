r"""What is told of an answer as bytes: server-sent events, or the bare text.

Text goes into `data:` lines as it is, a line of it in each (WHATWG HTML, "Server-sent events"), so that `curl` prints
something to read. There a line may end in `\r`, `\n` or both, so all of them become `\n`; offsets count what was
answered, before that. A `\r` at the end of a piece is held back until it is known whether a `\n` follows.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from mcp_server_claude.calls.answer_feed import DoneEvent, ErrorEvent, StartEvent, StatusEvent, TextEvent, UsageEvent
from mcp_server_claude.lone_surrogates import replace_lone_surrogates
from mcp_server_claude.web import error_responses

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp_server_claude.calls.answer_feed import FeedEvent


class SseEncoder:
    """Writes the events of one answer for one reader."""

    def __init__(self, call_id: str) -> None:
        self._call_id = call_id
        self._pending_cr = ""

    def encode_event(self, feed_event: FeedEvent) -> bytes:
        """An event as it is sent; nothing where there is nothing to send yet."""
        offset = feed_event.offset
        match feed_event.event:
            case TextEvent(text=text):
                return self._encode_text(text, offset)
            case StartEvent(call=call, thread=thread, model=model):
                return self._encode_named("start", {"call": call, "thread": thread, "model": model}, offset)
            case StatusEvent(state=state, text=line, until=until):
                return self._encode_named("status", {"state": state, "text": line, "until": until}, offset)
            case UsageEvent(usage=usage):
                return self._flush_pending(offset) + self._encode_named("usage", usage, offset)
            case ErrorEvent(failure=failure):
                return self._flush_pending(offset) + self._encode_named(
                    "error", error_responses.error_json(failure), offset
                )
            case DoneEvent() as end:
                values: dict[str, object] = {
                    "complete": end.complete,
                    "incomplete": end.incomplete,
                    "stop_reason": end.stop_reason,
                    "notes": list(end.notes),
                    "files": [asdict(file) for file in end.files],
                }
                return self._flush_pending(offset) + self._encode_named("done", values, offset)

    def _encode_text(self, text: str, offset: int) -> bytes:
        text = self._pending_cr + text
        self._pending_cr = "\r" if text.endswith("\r") else ""
        text = text[: len(text) - len(self._pending_cr)]
        return self._sse_frame("", text, offset - len(self._pending_cr)) if text else b""

    def _flush_pending(self, offset: int) -> bytes:
        held, self._pending_cr = self._pending_cr, ""
        return self._sse_frame("", held, offset) if held else b""

    def _encode_named(self, name: str, values: Mapping[str, object], offset: int) -> bytes:
        text = replace_lone_surrogates(json.dumps(dict(values), ensure_ascii=False))
        return self._sse_frame(f"event: {name}\n", text, offset - len(self._pending_cr))

    def _sse_frame(self, head: str, text: str, offset: int) -> bytes:
        data = text.replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\ndata: ")
        return f"id: {self._call_id}:{offset}\n{head}data: {data}\n\n".encode()


def encode_plain_text(feed_event: FeedEvent) -> bytes:
    """The text alone, exactly as it was answered; a last line where that is not all of it."""
    match feed_event.event:
        case TextEvent(text=text):
            return text.encode()
        case ErrorEvent(failure=failure):
            return replace_lone_surrogates(f"\n\n[{failure}]\n").encode()
        case DoneEvent(incomplete=why) if why:
            return replace_lone_surrogates(f"\n\n[INCOMPLETE: {why}]\n").encode()
        case _:
            return b""


def prefers_plain_text(accept: str) -> bool:
    """Whether a client would rather have bare text than events, by its `Accept` (RFC 9110, §12.5.1)."""
    weights: dict[str, float] = {}
    for part in accept.lower().split(","):
        kind, *parameters = (each.strip() for each in part.split(";"))
        weights[kind] = next((_quality_value(each[2:]) for each in parameters if each.startswith("q=")), 1.0)
    text, events = (
        next((weights[each] for each in (kind, "text/*", "*/*") if each in weights), 0.0)
        for kind in ("text/plain", "text/event-stream")
    )
    return text > events


def _quality_value(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        return 0.0
