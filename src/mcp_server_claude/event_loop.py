"""The event loop of a server. Under load it gathers what arrives within five milliseconds, as network cards coalesce
interrupts (Linux, "NAPI").

Hundreds of streams would wake the loop thousands of times a second, each time for one delta. A pause before the loop
waits for events makes one wake-up of several. It is made only after a twentieth of a second with that many events, and
only where no callback is ready: a call alone, and a loop that has work, never wait for it. Threads and signals end it.

Events are counted, not wake-ups. Of these a busy machine makes fewer by itself, so the pauses ended there and began
again, though each still saved CPU.
"""

from __future__ import annotations

import asyncio
import select
import selectors
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import FileDescriptorLike

PAUSE_S = 0.005
"""Seconds for which events are gathered; an event is that much too late at most."""
WINDOW_S = 0.05
"""Seconds over which events are counted."""
BUSY_EVENTS = 20
"""Events in a window from which the next window has pauses."""
MIN_EVENTS = 5
"""Events in a window with pauses below which the next one has none; those of one socket are 10 at most."""


def event_loop_options() -> dict[str, object]:
    """The options of `anyio.run` for a server. On Windows the loop has no selector, and is the system's default."""
    return {} if sys.platform == "win32" else {"loop_factory": CoalescingEventLoop}


def end_pauses_at(fd: int) -> None:
    """Let what arrives at a file end the pauses of the running event loop, where it has any: the messages of a client
    are rare, and a cancel has to be quick.
    """
    loop = asyncio.get_running_loop()
    if isinstance(loop, CoalescingEventLoop):
        loop.selector.end_pauses_at(fd)


class CoalescingSelector(selectors.DefaultSelector):
    """The system's selector, which pauses before it waits while there are many events.

    The first file that is registered ends a pause as soon as it can be read: asyncio's is the socket by which threads
    and signals wake the loop. So do those of `end_pauses_at`. `now` returns seconds of a monotonic clock, and `pause`,
    if given, waits for so many in place of that.
    """

    def __init__(
        self, now: Callable[[], float] = time.monotonic, pause: Callable[[float], object] | None = None
    ) -> None:
        super().__init__()
        self._urgent_files = select.poll()
        self._has_urgent_files = False
        self._now = now
        self._pause = pause or self._wait_for_urgent_files
        self._window_end = 0.0
        self._events = 0
        self._is_busy = False

    def register(self, fileobj: FileDescriptorLike, events: int, data: object = None) -> selectors.SelectorKey:
        """Watch a file."""
        key = super().register(fileobj, events, data)
        if not self._has_urgent_files:
            self.end_pauses_at(key.fd)
        return key

    def end_pauses_at(self, fd: int) -> None:
        """End a pause also as soon as this file can be read."""
        self._urgent_files.register(fd, select.POLLIN)
        self._has_urgent_files = True

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """The events that are there, or the first that come within `timeout` seconds (None: without limit)."""
        if timeout is not None and timeout <= 0:
            return super().select(timeout)
        if self._has_pause():
            pause_s = PAUSE_S if timeout is None else min(PAUSE_S, timeout)
            self._pause(pause_s)
            timeout = None if timeout is None else timeout - pause_s
        events = super().select(timeout)
        self._events += len(events)
        return events

    def _has_pause(self) -> bool:
        now = self._now()
        if now >= self._window_end:
            enough = self._events >= (MIN_EVENTS if self._is_busy else BUSY_EVENTS)
            self._is_busy = enough and now < self._window_end + WINDOW_S
            self._events, self._window_end = 0, now + WINDOW_S
        return self._is_busy

    def _wait_for_urgent_files(self, seconds: float) -> None:
        self._urgent_files.poll(seconds * 1e3)


class CoalescingEventLoop(asyncio.SelectorEventLoop):
    """An event loop with such a selector."""

    def __init__(self) -> None:
        self.selector = CoalescingSelector()
        super().__init__(self.selector)
