r"""What is told of an answer as bytes: server-sent events, or the bare text.

Text goes into `data:` lines as it is, a line of it in each (WHATWG HTML, "Server-sent events"), so that `curl` prints
something to read. There a line may end in `\r`, `\n` or both, so all of them become `\n`; offsets count what was
answered, before that. A `\r` at the end of a piece is held back until it is known whether a `\n` follows.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from mcp_server_claude.calls.answer_feed import Account, End, Failed, Piece, Start, Status
from mcp_server_claude.lone_surrogates import replace_lone_surrogates
from mcp_server_claude.web import error_responses

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp_server_claude.calls.answer_feed import Told


class Encoder:
    """Writes the events of one answer for one reader."""

    def __init__(self, call_id: str) -> None:
        self._call = call_id
        self._held = ""

    def encode(self, told: Told) -> bytes:
        """An event as it is sent; nothing where there is nothing to send yet."""
        offset = told.offset
        match told.event:
            case Piece(text=text):
                return self._text(text, offset)
            case Start(call=call, thread=thread, model=model):
                return self._named("start", {"call": call, "thread": thread, "model": model}, offset)
            case Status(state=state, text=line, until=until):
                return self._named("status", {"state": state, "text": line, "until": until}, offset)
            case Account(usage=usage):
                return self._rest(offset) + self._named("usage", usage, offset)
            case Failed(failure=failure):
                return self._rest(offset) + self._named("error", error_responses.as_json(failure), offset)
            case End() as end:
                values: dict[str, object] = {
                    "complete": end.complete,
                    "incomplete": end.incomplete,
                    "stop_reason": end.stop_reason,
                    "notes": list(end.notes),
                    "files": [asdict(file) for file in end.files],
                }
                return self._rest(offset) + self._named("done", values, offset)

    def _text(self, text: str, offset: int) -> bytes:
        text = self._held + text
        self._held = "\r" if text.endswith("\r") else ""
        text = text[: len(text) - len(self._held)]
        return self._frame("", text, offset - len(self._held)) if text else b""

    def _rest(self, offset: int) -> bytes:
        held, self._held = self._held, ""
        return self._frame("", held, offset) if held else b""

    def _named(self, name: str, values: Mapping[str, object], offset: int) -> bytes:
        text = replace_lone_surrogates(json.dumps(dict(values), ensure_ascii=False))
        return self._frame(f"event: {name}\n", text, offset - len(self._held))

    def _frame(self, head: str, text: str, offset: int) -> bytes:
        data = text.replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\ndata: ")
        return f"id: {self._call}:{offset}\n{head}data: {data}\n\n".encode()


def plain(told: Told) -> bytes:
    """The text alone, exactly as it was answered; a last line where that is not all of it."""
    match told.event:
        case Piece(text=text):
            return text.encode()
        case Failed(failure=failure):
            return replace_lone_surrogates(f"\n\n[{failure}]\n").encode()
        case End(incomplete=why) if why:
            return replace_lone_surrogates(f"\n\n[INCOMPLETE: {why}]\n").encode()
        case _:
            return b""


def prefers_text(accept: str) -> bool:
    """Whether a client would rather have bare text than events, by its `Accept` (RFC 9110, §12.5.1)."""
    weights: dict[str, float] = {}
    for part in accept.lower().split(","):
        kind, *parameters = (each.strip() for each in part.split(";"))
        weights[kind] = next((_weight(each[2:]) for each in parameters if each.startswith("q=")), 1.0)
    text, events = (
        next((weights[each] for each in (kind, "text/*", "*/*") if each in weights), 0.0)
        for kind in ("text/plain", "text/event-stream")
    )
    return text > events


def _weight(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        return 0.0
