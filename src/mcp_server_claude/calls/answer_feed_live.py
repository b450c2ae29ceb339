"""A running call of this process, and what those who read it share."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import anyio

from mcp_server_claude import status_text
from mcp_server_claude.call_types import Drafting, Searching, Started, Text, Thinking, Waiting
from mcp_server_claude.calls.answer_feed_events import Piece, Status

if TYPE_CHECKING:
    from mcp_server_claude.call_types import Event
    from mcp_server_claude.calls.answer_feed_events import State, Telling
    from mcp_server_claude.calls.running_calls import Running

LARGEST = 64 * 1024
"""Characters told at once: some clients refuse an event of a megabyte."""
STATUS_LENGTH = 200


class Live:
    """A running call of this process, and what those who read it share."""

    def __init__(self, running: Running, model: str, *, ours: bool) -> None:
        self.running = running
        self.model = model
        self.ours = ours
        self.statuses: list[tuple[int, Status]] = []
        self.readers = 0
        self.heard = anyio.Event()
        self._state: State | None = None
        self._chars = running.text.chars
        self._met = False
        self._pressing = anyio.Event()
        self._news: anyio.Event | None = None

    def hear(self, event: Event) -> None:
        """Take note of an event: its text is in the scroll already, its stage is kept where the text was then."""
        at, self._chars = self._chars, self.running.text.chars
        state = _state(event, at)
        if state != self._state or isinstance(event, Waiting | Searching):
            self._state = state
            self.statuses.append((at, _status(state, event)))
        elif type(event) is not Text:
            return
        if isinstance(event, Started) and event.usage.model:
            self.model = event.usage.model
        self.heard.set()
        self._wake()

    def press(self) -> None:
        """Readers wait for no more."""
        self.heard.set()
        self._pressing.set()
        self._wake()

    def newest(self) -> int:
        """Where a reader begins in the statuses: the first hears all, later ones only how it stands."""
        first, self._met = not self._met, True
        return 0 if first else max(0, len(self.statuses) - 1)

    def after(self, offset: int, seen: int) -> tuple[Telling, int, int] | None:
        """What comes next for a reader who has so many characters and statuses; with how many it has then."""
        end = math.inf
        if seen < len(self.statuses):
            end, status = self.statuses[seen]
            if end <= offset:
                return status, offset, seen + 1
        text = self.running.text.between(offset, min(end, offset + LARGEST))
        return (Piece(text), offset + len(text), seen) if text else None

    async def news(self, rested: float) -> None:
        """Wait until `rested`, a time of this loop, or where that has passed until there is something new."""
        if self._pressing.is_set():
            return
        if (pause := rested - anyio.current_time()) > 0:
            with anyio.move_on_after(pause):
                await self._pressing.wait()
            return
        if self._news is None:
            self._news = anyio.Event()
        await self._news.wait()

    def _wake(self) -> None:
        if self._news is not None:
            self._news.set()
            self._news = None


def _state(event: Event, told: int) -> State:
    """The state that an event brings, when so many characters have been told."""
    match event:
        case Text() | Drafting():
            return "writing"
        case Thinking():
            return "thinking"
        case Searching():
            return "searching"
        case Waiting():
            return "waiting"
        case Started():
            return "going" if told else "reading"


def _status(state: State, event: Event) -> Status:
    """A status with its line for a person."""
    match event:
        case Waiting(seconds=seconds):
            line = status_text.printable_line(status_text.waiting_text(event))[:STATUS_LENGTH]
            return Status(state, line, None if seconds is None else time.time() + seconds)
        case Searching(tool=tool, query=query):
            return Status(state, status_text.printable_line(status_text.tool_text(tool, query))[:STATUS_LENGTH])
        case _:
            return Status(state)
