"""A running call of this process, with the state that its readers share."""

from __future__ import annotations

import math
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import anyio

from mcp_server_claude import status_text
from mcp_server_claude.call_types import MessageStart, TextDelta, TextPending, ThinkingProgress, ToolUse, Waiting
from mcp_server_claude.calls.answer_feed_events import StatusEvent, TextEvent
from mcp_server_claude.delivery_clock import DeliverySignal

if TYPE_CHECKING:
    from collections.abc import Generator

    from mcp_server_claude.call_types import CallEvent
    from mcp_server_claude.calls.answer_feed_events import FeedPayload, FeedState
    from mcp_server_claude.calls.running_calls import RunningCall

MAX_TEXT_EVENT_CHARS = 64 * 1024
"""Characters of one event: some clients refuse an event of a megabyte."""
MAX_STATUS_CHARS = 200


class LiveCall:
    """A running call of this process, with the state that its readers share."""

    def __init__(self, running_call: RunningCall, model: str, *, owned: bool) -> None:
        self.running_call = running_call
        self.model = model
        self.owned = owned
        self.statuses: list[tuple[int, StatusEvent]] = []
        self.readers = 0
        self.first_event = anyio.Event()
        self._state: FeedState | None = None
        self._summary = ""
        self._chars = running_call.text.chars
        self._had_reader = False
        self._is_closed = False
        self._signals: list[DeliverySignal] = []

    def record_event(self, event: CallEvent) -> None:
        """Take note of an event: its text is in the call's log already, its stage is kept where the text was then."""
        at, self._chars = self._chars, self.running_call.text.chars
        if type(event) is TextDelta and self._state == "writing":  # nearly every event
            self._notify_readers()
            return
        state = _state_after(event, at)
        is_new_sentence = isinstance(event, ThinkingProgress) and event.summary != self._summary
        if state != self._state or is_new_sentence or isinstance(event, Waiting | ToolUse):
            self._state = state
            self._summary = event.summary if isinstance(event, ThinkingProgress) else self._summary
            self.statuses.append((at, _status_event(state, event)))
        elif type(event) is not TextDelta:
            return
        if isinstance(event, MessageStart) and event.usage.model:
            self.model = event.usage.model
        self.first_event.set()
        self._notify_readers()

    def stop_waiting(self) -> None:
        """Readers wait for no more."""
        self.first_event.set()
        self._is_closed = True
        for signal in self._signals:
            signal.close()

    def take_first_status_index(self) -> int:
        """The index of a reader's first status: the first reader gets all, later ones only the latest."""
        first, self._had_reader = not self._had_reader, True
        return 0 if first else max(0, len(self.statuses) - 1)

    def next_payload(self, offset: int, status_index: int) -> tuple[FeedPayload, int, int]:
        """The next payload for a reader at this offset and status index, with the offset and index after it.

        There must be one, see `has_payload`.
        """
        end = math.inf
        if status_index < len(self.statuses):
            end, status = self.statuses[status_index]
            if end <= offset:
                return status, offset, status_index + 1
        text = self.running_call.text.slice(offset, min(end, offset + MAX_TEXT_EVENT_CHARS))
        return TextEvent(text), offset + len(text), status_index

    def has_payload(self, offset: int, status_index: int) -> bool:
        """True if there is a payload for a reader at this offset and status index."""
        return status_index < len(self.statuses) or offset < self.running_call.text.chars

    @contextmanager
    def subscribe(self) -> Generator[DeliverySignal]:
        """A signal that is set whenever there is something new, while the block runs."""
        signal = DeliverySignal()
        if self._is_closed:
            signal.close()
        self._signals.append(signal)
        try:
            yield signal
        finally:
            self._signals.remove(signal)

    def _notify_readers(self) -> None:
        for signal in self._signals:
            signal.set()


def _state_after(event: CallEvent, chars_before: int) -> FeedState:
    """The state after an event, if so many characters of text came before it."""
    match event:
        case TextDelta() | TextPending():
            return "writing"
        case ThinkingProgress():
            return "thinking"
        case ToolUse():
            return "searching"
        case Waiting():
            return "waiting"
        case MessageStart():
            return "going" if chars_before else "reading"


def _status_event(state: FeedState, event: CallEvent) -> StatusEvent:
    """A status with its line for a person."""
    match event:
        case Waiting(seconds=seconds):
            line = status_text.printable_line(status_text.waiting_text(event))[:MAX_STATUS_CHARS]
            return StatusEvent(state, line, None if seconds is None else time.time() + seconds)
        case ToolUse(tool=tool, query=query):
            return StatusEvent(state, status_text.printable_line(status_text.tool_text(tool, query))[:MAX_STATUS_CHARS])
        case ThinkingProgress(summary=summary):
            return StatusEvent(state, status_text.printable_line(summary)[:MAX_STATUS_CHARS])
        case _:
            return StatusEvent(state)
