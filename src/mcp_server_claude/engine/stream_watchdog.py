"""The watch over one call: once a second it compares timestamps, and ends a stream from which nothing comes."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio

from mcp_server_claude import number_formatting
from mcp_server_claude.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine

    from mcp_server_claude.anthropic_api import MessageStream
    from mcp_server_claude.settings import Settings

EACH_S = 1.0


class Watch:
    """Looks at the stream that is `guard`ed. One for a call; its `run` is the call's only task of its own."""

    def __init__(self, settings: Settings, *, tick: Callable[[], None]) -> None:
        self._settings = settings
        self._tick = tick
        self._deadline = time.monotonic() + settings.deadline_s
        self._each = min(EACH_S, settings.bytes_timeout_s / 4, settings.event_timeout_s / 4, settings.deadline_s / 4)
        self._guarded: _Guarded | None = None

    async def run(self) -> None:
        """Look every second, and have the tick do what else is to be done then, until cancelled."""
        while True:
            await anyio.sleep(self._each)
            self._tick()
            if self._guarded is not None:
                self._look(self._guarded)

    async def guard(self, answer: MessageStream, stream: Callable[[], Awaitable[None]]) -> None:
        """Run `stream`, which feeds `answer`, for as long as something comes of it.

        Raises:
            Unavailable: Nothing came for too long, or the call's time was up.
        """
        self._guarded = guarded = _Guarded(answer)
        try:
            with guarded.scope:
                await stream()
        finally:
            self._guarded = None
        if guarded.scope.cancelled_caught:
            raise Unavailable(guarded.why, kind=guarded.kind, request_id=answer.request_id)

    def _look(self, guarded: _Guarded) -> None:
        now = time.monotonic()
        silent, eventless = guarded.look(now)
        if now > self._deadline:
            guarded.end(
                "deadline", f"The call took longer than {number_formatting.format_seconds(self._settings.deadline_s)}."
            )
        elif silent > self._settings.bytes_timeout_s:
            guarded.end("stall", f"Nothing came from the Messages API for {number_formatting.format_seconds(silent)}.")
        elif eventless > self._settings.event_timeout_s and not guarded.answer.in_thinking_block:
            guarded.end("stall", f"The Messages API sent no event for {number_formatting.format_seconds(eventless)}.")


class _Guarded:
    """One stream under watch: when bytes and events last came."""

    def __init__(self, answer: MessageStream) -> None:
        self.answer = answer
        self.scope = anyio.CancelScope()
        self.why = ""
        self.kind = ""
        self._bytes, self._events = -1, -1
        self._byte_at = self._event_at = time.monotonic()

    def look(self, now: float) -> tuple[float, float]:
        """Seconds without a byte, and without an event. A ping is bytes, but no event."""
        if self.answer.bytes_received() != self._bytes:
            self._bytes, self._byte_at = self.answer.bytes_received(), now
        if self.answer.event_count != self._events:
            self._events, self._event_at = self.answer.event_count, now
        return now - self._byte_at, now - self._event_at

    def end(self, kind: str, why: str) -> None:
        self.kind, self.why = kind, why
        self.scope.cancel()


@asynccontextmanager
async def beside(task: Callable[[], Coroutine[object, object, None]]) -> AsyncGenerator[None]:
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
