"""A watchdog for one call: it compares timestamps once a second and cancels a stream that stays silent.

Only the time in which this process ran counts as silence. A suspended process reads nothing, and what arrived meanwhile
lies unread: it is no fault of the stream.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import anyio

from mcp_server_claude import number_formatting
from mcp_server_claude.errors import TemporaryError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

    from mcp_server_claude.anthropic_api.message_stream import MessageStream
    from mcp_server_claude.engine.call_deadline import CallDeadline
    from mcp_server_claude.settings import Settings

MAX_CHECK_INTERVAL_S = 1.0


class StreamWatchdog:
    """Checks the stream that `watch_stream` runs, within the block of `running`.

    By a timer: to start a task for each call and to cancel it would cost more than all of its checks.
    """

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
        self._due_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._failure: Exception | None = None

    @contextmanager
    def running(self) -> Generator[None]:
        """Check once a second and call `on_tick`, as long as the block runs.

        Raises:
            Exception: A check or `on_tick` has failed, which is a bug. It ends the stream, and the block.
        """
        self._start_timer()
        try:
            yield
        finally:
            if self._timer is not None:
                self._timer.cancel()
        self._raise_failure()

    def _start_timer(self) -> None:
        self._due_at = time.monotonic() + self._check_interval_s
        self._timer = asyncio.get_running_loop().call_later(self._check_interval_s, self._tick)

    def _tick(self) -> None:
        late_s = time.monotonic() - self._due_at
        try:
            self._on_tick()
            if self._watched is not None:
                if late_s > self._suspension_s:
                    self._watched.extend(late_s)
                self._check(self._watched)
        except Exception as bug:  # noqa: BLE001 - raised in the task of the call
            self._failure, self._timer = bug, None
            if self._watched is not None:
                self._watched.scope.cancel()
        else:
            self._start_timer()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    async def watch_stream(self, stream: MessageStream, receive: Callable[[], Awaitable[None]]) -> None:
        """Run `receive`, which feeds `stream`, and cancel it when the stream stays silent.

        Raises:
            TemporaryError: Nothing came for too long, or the call passed its deadline.
            Exception: As `running`.
        """
        self._raise_failure()  # no timer runs after one, so that nothing would end a silent stream
        self._watched = watched = _WatchedStream(stream)
        try:
            with watched.scope:
                await receive()
        finally:
            self._watched = None
        self._raise_failure()
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
