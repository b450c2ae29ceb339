"""The watch over one call: once a second it compares timestamps, and ends a stream from which nothing comes."""

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
    from mcp_server_claude.settings import Settings

MAX_CHECK_INTERVAL_S = 1.0


class StreamWatchdog:
    """Looks at the stream that is `watch_stream`ed. One for a call; its `run` is the call's only task of its own."""

    def __init__(self, settings: Settings, *, on_tick: Callable[[], None]) -> None:
        self._settings = settings
        self._on_tick = on_tick
        self._deadline = time.monotonic() + settings.deadline_s
        self._check_interval_s = min(
            MAX_CHECK_INTERVAL_S, settings.bytes_timeout_s / 4, settings.event_timeout_s / 4, settings.deadline_s / 4
        )
        self._watched: _WatchedStream | None = None

    async def run(self) -> None:
        """Look every second, and have the tick do what else is to be done then, until cancelled."""
        while True:
            await anyio.sleep(self._check_interval_s)
            self._on_tick()
            if self._watched is not None:
                self._check(self._watched)

    async def watch_stream(self, stream: MessageStream, receive: Callable[[], Awaitable[None]]) -> None:
        """Run `stream`, which feeds `answer`, for as long as something comes of it.

        Raises:
            TemporaryError: Nothing came for too long, or the call's time was up.
        """
        self._watched = guarded = _WatchedStream(stream)
        try:
            with guarded.scope:
                await receive()
        finally:
            self._watched = None
        if guarded.scope.cancelled_caught:
            raise TemporaryError(guarded.message, kind=guarded.kind, request_id=stream.request_id)

    def _check(self, watched: _WatchedStream) -> None:
        now = time.monotonic()
        silent, eventless = watched.idle_times(now)
        if now > self._deadline:
            watched.cancel(
                "deadline", f"The call took longer than {number_formatting.format_seconds(self._settings.deadline_s)}."
            )
        elif silent > self._settings.bytes_timeout_s:
            watched.cancel(
                "stream_timeout", f"Nothing came from the Messages API for {number_formatting.format_seconds(silent)}."
            )
        elif eventless > self._settings.event_timeout_s and not watched.stream.in_thinking_block:
            watched.cancel(
                "stream_timeout", f"The Messages API sent no event for {number_formatting.format_seconds(eventless)}."
            )


class _WatchedStream:
    """One stream under watch: when bytes and events last came."""

    def __init__(self, answer: MessageStream) -> None:
        self.stream = answer
        self.scope = anyio.CancelScope()
        self.message = ""
        self.kind = ""
        self._bytes_seen, self._events_seen = -1, -1
        self._byte_at = self._event_at = time.monotonic()

    def idle_times(self, now: float) -> tuple[float, float]:
        """Seconds without a byte, and without an event. A ping is bytes, but no event."""
        if self.stream.bytes_received() != self._bytes_seen:
            self._bytes_seen, self._byte_at = self.stream.bytes_received(), now
        if self.stream.event_count != self._events_seen:
            self._events_seen, self._event_at = self.stream.event_count, now
        return now - self._byte_at, now - self._event_at

    def cancel(self, kind: str, message: str) -> None:
        self.kind, self.message = kind, message
        self.scope.cancel()


@asynccontextmanager
async def background_task(task: Callable[[], Coroutine[object, object, None]]) -> AsyncGenerator[None]:
    """Run `task` for as long as the block does. What the block raises comes out as it is, not in a group."""
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
