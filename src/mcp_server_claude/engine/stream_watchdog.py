"""A watchdog for one call: it compares timestamps once a second and cancels a stream that stays silent.

Only the time in which this process ran counts as silence. A suspended process reads nothing, and what arrived meanwhile
lies unread: it is no fault of the stream.
"""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio

from mcp_server_claude import number_formatting
from mcp_server_claude.errors import TemporaryError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine

    from mcp_server_claude.anthropic_api.message_stream import MessageStream
    from mcp_server_claude.engine.call_deadline import CallDeadline
    from mcp_server_claude.settings import Settings

MAX_CHECK_INTERVAL_S = 1.0


class StreamWatchdog:
    """Checks the stream that `watch_stream` runs. Its `run` is the only background task of a call."""

    def __init__(self, settings: Settings, deadline: CallDeadline, *, on_tick: Callable[[], None]) -> None:
        self._settings = settings
        self._deadline = deadline
        self._on_tick = on_tick
        self._check_interval_s = min(
            MAX_CHECK_INTERVAL_S, settings.bytes_timeout_s / 4, settings.event_timeout_s / 4, settings.deadline_s / 4
        )
        # A check that is late by less is that of a busy machine, which reads its streams between two checks.
        self._suspension_s = min(settings.bytes_timeout_s, settings.event_timeout_s) / 2
        self._watched: _WatchedStream | None = None

    async def run(self) -> None:
        """Check once a second and call `on_tick`, until cancelled."""
        while True:
            due_at = time.monotonic() + self._check_interval_s
            await anyio.sleep(self._check_interval_s)
            late_s = time.monotonic() - due_at
            self._on_tick()
            if self._watched is not None:
                if late_s > self._suspension_s:
                    self._watched.extend(late_s)
                self._check(self._watched)

    async def watch_stream(self, stream: MessageStream, receive: Callable[[], Awaitable[None]]) -> None:
        """Run `receive`, which feeds `stream`, and cancel it when the stream stays silent.

        Raises:
            TemporaryError: Nothing came for too long, or the call passed its deadline.
        """
        self._watched = watched = _WatchedStream(stream)
        try:
            with watched.scope:
                await receive()
        finally:
            self._watched = None
        if watched.scope.cancelled_caught:
            raise TemporaryError(watched.message, kind=watched.kind, request_id=stream.request_id)

    def _check(self, watched: _WatchedStream) -> None:
        now = time.monotonic()
        byte_idle_s, event_idle_s = watched.idle_times(now)
        if not self._deadline.remaining_s():
            watched.cancel("deadline", str(self._deadline.error()))
        elif byte_idle_s > self._settings.bytes_timeout_s:
            watched.cancel(
                "stream_timeout",
                f"Nothing came from the Messages API for {number_formatting.format_seconds(byte_idle_s)}.",
            )
        elif event_idle_s > self._settings.event_timeout_s and not watched.stream.in_thinking_block:
            watched.cancel(
                "stream_timeout",
                f"The Messages API sent no event for {number_formatting.format_seconds(event_idle_s)}.",
            )


class _WatchedStream:
    """One stream, with the times of its latest byte and its latest event."""

    def __init__(self, stream: MessageStream) -> None:
        self.stream = stream
        self.scope = anyio.CancelScope()
        self.message = ""
        self.kind = ""
        self._bytes_seen, self._events_seen = -1, -1
        self._byte_at = self._event_at = time.monotonic()

    def idle_times(self, now: float) -> tuple[float, float]:
        """Seconds since the latest byte and the latest event. A ping is bytes, not an event."""
        if self.stream.bytes_received() != self._bytes_seen:
            self._bytes_seen, self._byte_at = self.stream.bytes_received(), now
        if self.stream.event_count != self._events_seen:
            self._events_seen, self._event_at = self.stream.event_count, now
        return now - self._byte_at, now - self._event_at

    def extend(self, seconds: float) -> None:
        """Leave out a time in which this process did not run."""
        self._byte_at += seconds
        self._event_at += seconds

    def cancel(self, kind: str, message: str) -> None:
        self.kind, self.message = kind, message
        self.scope.cancel()


@asynccontextmanager
async def background_task(task: Callable[[], Coroutine[object, object, None]]) -> AsyncGenerator[None]:
    """Run `task` until the block ends. An exception of the block is raised as it is, not in a group."""
    failure: Exception | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(task)
        try:
            yield
        except Exception as error:  # noqa: BLE001 - raised again below
            failure = error
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure
