"""A call while it runs in this process: its text so far, its listeners, and its outcome."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio

from mcp_server_claude import pricing
from mcp_server_claude.call_types import CHARS_PER_TOKEN, MessageStart, Reply, Usage
from mcp_server_claude.store import call_journal
from mcp_server_claude.text_log import TextLog

if TYPE_CHECKING:
    from mcp_server_claude.call_types import Call, CallEvent, Listener
    from mcp_server_claude.errors import CallError

STOPPED_BY_READER = "it was stopped."
STOPPED_UNREAD = "it no longer had readers."


class RunningCall:
    """A call of this process. `outcome` is set once it is `done`, unless the server ended first.

    `text` is the text of its answer so far, which the engine writes and all readers share. Each of the `listeners` gets
    every event; readers add their own. `started_at` is in unix seconds.
    """

    def __init__(self, call: Call, *listeners: Listener) -> None:
        self.call = call
        self.started_at = time.time()
        self.listeners = list(listeners)
        self.cancel_scope = anyio.CancelScope()
        self.done = anyio.Event()
        self.text = TextLog()
        self.usage = Usage()
        self.outcome: Reply | CallError | None = None
        self.cancel_reason = STOPPED_UNREAD
        self.traceparent = ""

    @property
    def was_stopped(self) -> bool:
        """True if the call has ended because it was stopped."""
        return self.cancel_scope.cancelled_caught

    def record_traceparent(self, traceparent: str) -> None:
        """Keep the `traceparent` of the call's span, by which the span of a job refers to it."""
        self.traceparent = traceparent

    def publish_event(self, event: CallEvent) -> None:
        """Pass an event on to the listeners. The engine has appended the text of a `TextDelta` to `text` before."""
        if isinstance(event, MessageStart):
            self.usage = event.usage
        for listener in self.listeners:
            listener(event)

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
        return call_journal.JournaledCall(id=self.call.id, worker="", started_at=self.started_at, model=self.call.model)

    def partial_usage(self) -> Usage:
        """The usage so far, its output estimated from the characters that have come."""
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
