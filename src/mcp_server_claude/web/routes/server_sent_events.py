r"""The encoding of an answer's events: server-sent events, or the text alone.

A text event has one `data:` line for each line of text (WHATWG HTML, "Server-sent events"), so that the output of
`curl` is readable. The format knows `\r`, `\n` and `\r\n` as line ends; all become `\n`. Offsets count the original
characters.

Many parsers are less exact than the standard: `@microsoft/fetch-event-source` drops empty `data:` lines at the start of
an event, others strip white space there or the line break at its end, and the simplest readers print whatever follows
`data: `. So an event neither begins with white space nor ends with a line break, for which the last character waits for
the next one, and named events are sent as `data:{…}`, without the optional space. Only an answer that itself begins
with white space begins an event so.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from mcp_server_claude.calls.answer_feed import (
    DoneEvent,
    ErrorEvent,
    KeepAliveEvent,
    StartEvent,
    StatusEvent,
    TextEvent,
    UsageEvent,
)
from mcp_server_claude.lone_surrogates import replace_lone_surrogates
from mcp_server_claude.web import error_responses
from mcp_server_claude.web.error_text import error_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp_server_claude.calls.answer_feed import FeedEvent
    from mcp_server_claude.users.user import Role

KEEP_ALIVE_COMMENT = b": still there\n\n"


class SseEncoder:
    """Encodes the events of one answer for one reader.

    `is_json` says that the answer is JSON, which arrives in one piece and is sent as one event. `role` is the reader's.
    """

    def __init__(self, call_id: str, *, is_json: bool = False, role: Role = "operator") -> None:
        self._call_id = call_id
        self._role: Role = role
        self._is_json = is_json
        self._pending = ""

    def encode_event(self, feed_event: FeedEvent) -> bytes:
        """The bytes to send for an event; empty if its text waits for more."""
        offset = feed_event.offset
        match feed_event.event:
            case TextEvent(text=text):
                return self._encode_text(text, offset)
            case StartEvent(call=call, thread=thread, model=model):
                return self._encode_named("start", {"call": call, "thread": thread, "model": model}, offset)
            case StatusEvent(state=state, text=line, until=until):
                return self._encode_named("status", {"state": state, "text": line, "until": until}, offset)
            case KeepAliveEvent():
                return KEEP_ALIVE_COMMENT
            case UsageEvent(usage=usage):
                return self._flush_pending(offset) + self._encode_named("usage", usage, offset)
            case ErrorEvent(failure=failure):
                return self._flush_pending(offset) + self._encode_named(
                    "error", error_responses.error_json(failure, self._role), offset
                )
            case DoneEvent() as done:
                values: dict[str, object] = {
                    "complete": done.complete,
                    "incomplete": done.incomplete,
                    "stop_reason": done.stop_reason,
                    "notes": list(done.notes),
                    "files": [asdict(file) for file in done.files],
                }
                return self._flush_pending(offset) + self._encode_named("done", values, offset)

    def _encode_text(self, text: str, offset: int) -> bytes:
        text = self._pending + text
        end = len(text) if self._is_json else _event_end(text)
        frame = self._sse_frame("", f" {text[:end]}", offset - len(text) + end) if end else b""
        self._pending = text[end:]
        return frame

    def _flush_pending(self, offset: int) -> bytes:
        text, self._pending = self._pending, ""
        return self._sse_frame("", f" {text}", offset) if text else b""

    def _encode_named(self, name: str, values: Mapping[str, object], offset: int) -> bytes:
        text = replace_lone_surrogates(json.dumps(dict(values), ensure_ascii=False))
        return self._sse_frame(f"event: {name}\n", text, offset - len(self._pending))

    def _sse_frame(self, fields: str, data: str, offset: int) -> bytes:
        data = data.replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\ndata: ")
        return f"id: {self._call_id}:{offset}\n{fields}data:{data}\n\n".encode()


def encode_plain_text(feed_event: FeedEvent, role: Role = "operator") -> bytes:
    """The text alone, exactly as Claude wrote it; a last line in brackets if it is not complete."""
    match feed_event.event:
        case TextEvent(text=text):
            return text.encode()
        case ErrorEvent(failure=failure):
            return replace_lone_surrogates(f"\n\n[{error_text(failure, role)}]\n").encode()
        case DoneEvent(incomplete=reason) if reason:
            return replace_lone_surrogates(f"\n\n[INCOMPLETE: {reason}]\n").encode()
        case _:
            return b""


def prefers_plain_text(accept: str) -> bool:
    """True if a client prefers plain text to events, by its `Accept` header (RFC 9110, section 12.5.1)."""
    weights: dict[str, float] = {}
    for part in accept.lower().split(","):
        media_type, *parameters = (value.strip() for value in part.split(";"))
        weights[media_type] = next((_quality_value(value[2:]) for value in parameters if value.startswith("q=")), 1.0)
    text, events = (
        next((weights[name] for name in (media_type, "text/*", "*/*") if name in weights), 0.0)
        for media_type in ("text/plain", "text/event-stream")
    )
    return text > events


def _event_end(text: str) -> int:
    """The number of characters to send now: without the last word character, so that the rest begins with one."""
    end = len(text.rstrip()) - 1
    while end > 0 and text[end - 1] in "\r\n":
        end = len(text[:end].rstrip()) - 1
    return max(end, 0)


def _quality_value(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        return 0.0
