"""A running call of this process, with the state that its readers share."""

from __future__ import annotations

import math
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import anyio

from mcp_server_claude import status_text
from mcp_server_claude.call_types import MessageStart, TextDelta, TextPending, ThinkingProgress, ToolUse, Waiting
from mcp_server_claude.calls.answer_feed_events import FeedEvent, StatusEvent, TextEvent
from mcp_server_claude.delivery_clock import DeliverySignal

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from mcp_server_claude.call_types import CallEvent
    from mcp_server_claude.calls.answer_feed_events import FeedState
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


class LiveReader:
    """The place of one reader in a running call. `offset` is how many characters of its text the reader has.

    While the reader waits, text is passed to `send_now` as it comes, which is much less work than to wake a task.
    """

    def __init__(
        self,
        live: LiveCall,
        signal: DeliverySignal,
        offset: int,
        *,
        interval_s: float,
        keep_alive_s: float,
        send_now: Callable[[FeedEvent], bool] | None,
    ) -> None:
        """Text is gathered for `interval_s` seconds after the last, and a wait ends after `keep_alive_s` seconds.

        `send_now` returns False where it does not take the event. Then the reader is woken.
        """
        self.offset = offset
        self._interval_s = interval_s
        self._keep_alive_s = keep_alive_s
        self._send_now = send_now
        self._status_index = live.take_first_status_index()
        self._statuses = live.statuses
        self._text = live.running_call.text
        self._signal = signal
        self._has_sent_text = False
        self._next_text_at = -math.inf

    def next_event(self) -> FeedEvent | None:
        """The next event that is there."""
        end = math.inf
        if self._status_index < len(self._statuses):
            end, status = self._statuses[self._status_index]
            if end <= self.offset:
                self._status_index += 1
                return FeedEvent(self.offset, status)
        elif self.offset >= self._text.chars:
            return None
        text = self._text.slice(self.offset, min(end, self.offset + MAX_TEXT_EVENT_CHARS))
        self.offset += len(text)
        self._has_sent_text = True
        return FeedEvent(self.offset, TextEvent(text))

    async def wait_for_event(self) -> bool:
        """Wait until there may be an event.

        Returns:
            False if there was none for so long that a sign of life is due.
        """
        if self._has_sent_text:
            self._next_text_at = self._signal.clock.time_after(self._interval_s)
            self._has_sent_text = False
        return await self._signal.wait(
            self._keep_alive_s, not_before=self._next_text_at, handle=self._send_new_text if self._send_now else None
        )

    def _send_new_text(self) -> bool:
        """Send the text that has come, if it is all that there is, and wait on. False if the reader has to be woken."""
        end = self._text.chars
        is_all = self._status_index == len(self._statuses) and 0 < end - self.offset <= MAX_TEXT_EVENT_CHARS
        if self._send_now is None or not is_all:
            return False
        try:
            is_sent = self._send_now(FeedEvent(end, TextEvent(self._text.since(self.offset))))
        except Exception:  # noqa: BLE001 - it would end the call; the reader meets it again when it is woken
            return False
        if is_sent:
            self.offset = end
            self._next_text_at = self._signal.extend_wait(self._keep_alive_s, interval_s=self._interval_s)
        return is_sent


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
