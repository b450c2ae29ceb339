"""A call while it runs in this process: its text so far, who hears of it, how it is stopped, what came of it."""

from __future__ import annotations

import math
import time
from bisect import bisect_right
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio

from mcp_server_claude import pricing
from mcp_server_claude.call_types import CHARS_PER_TOKEN, MessageStart, Reply, TextDelta, Usage
from mcp_server_claude.lone_surrogates import replace_lone_surrogates
from mcp_server_claude.store import call_journal

if TYPE_CHECKING:
    from mcp_server_claude.call_types import Call, CallEvent, Listener
    from mcp_server_claude.errors import CallError

MAX_JOINED_CHARS = 4096
"""Characters up to which pieces of text are joined as they come; larger blocks cost more to join than to keep apart."""

STOPPED_BY_TOOL = "it was stopped by claude_jobs."
STOPPED_BY_READER = "it was stopped."
STOPPED_UNREAD = "nobody read it any more."


class TextLog:
    """A text that grows, which any number of readers share, each at a place of its own."""

    def __init__(self) -> None:
        self._blocks: list[str] = []
        self._starts: list[int] = []
        self.chars = 0

    def append(self, piece: str) -> None:
        """Append a piece."""
        if self._blocks and len(self._blocks[-1]) < MAX_JOINED_CHARS:
            self._blocks[-1] += piece
        else:
            self._starts.append(self.chars)
            self._blocks.append(piece)
        self.chars += len(piece)

    def slice(self, start: int, end: float = math.inf) -> str:
        """The characters from `start` up to `end`, or to the last there is."""
        end = int(min(end, self.chars))
        if start >= end:
            return ""
        first, last = bisect_right(self._starts, start) - 1, bisect_right(self._starts, end - 1)
        text = "".join(self._blocks[first:last])
        return text[start - self._starts[first] : end - self._starts[first]]


class RunningCall:
    """A call of this process that has not ended. `outcome` is there once it is `done`, unless the server ended first.

    `listeners` hear what the call tells; whoever wants to follow it adds their own.
    """

    def __init__(self, call: Call, *listeners: Listener) -> None:
        self.call = call
        self.listeners = list(listeners)
        self.cancel_scope = anyio.CancelScope()
        self.done = anyio.Event()
        self.text = TextLog()
        self.usage = Usage()
        self.outcome: Reply | CallError | None = None
        self.cancel_reason = STOPPED_UNREAD

    @property
    def was_stopped(self) -> bool:
        """True if the call has ended because it was stopped."""
        return self.cancel_scope.cancelled_caught

    def publish_event(self, event: CallEvent) -> None:
        """Keep what was said, and pass it on."""
        if type(event) is TextDelta:
            self.text.append(replace_lone_surrogates(event.text))
        elif isinstance(event, MessageStart):
            self.usage = event.usage
        for listen in self.listeners:
            listen(event)

    def cancel_run(self, reason: str) -> None:
        """End it now, for a reason that completes "INCOMPLETE: "."""
        if not self.cancel_scope.cancel_called:
            self.cancel_reason = reason
            self.cancel_scope.cancel()

    def set_time_left(self, seconds: float) -> None:
        """It may run for so many seconds more, and is then stopped; `inf` for as long as it takes."""
        self.cancel_scope.deadline = anyio.current_time() + seconds

    def provisional_record(self) -> call_journal.JournaledCall:
        """The call's record before the journal has one: it waits for the SDK, or for the list of models."""
        return call_journal.JournaledCall(id=self.call.id, worker="", started_at=time.time(), model=self.call.model)

    def partial_usage(self) -> Usage:
        """The account up to now, its output estimated from the characters that have come."""
        usage = replace(
            self.usage,
            output_tokens=round(self.text.chars / CHARS_PER_TOKEN),
            estimated=True,
            call_id=self.call.id,
            user=self.call.user,
            trace_id=self.call.trace_id,
        )
        cost = pricing.request_cost(usage.model, usage)
        if cost is None:
            return usage
        return replace(usage, cost_usd=float(cost), pricing_as_of=pricing.price_list_version())
