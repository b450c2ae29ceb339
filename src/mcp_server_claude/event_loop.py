"""The event loop of a server. Under load it gathers what arrives within two milliseconds, as network cards coalesce
interrupts (Linux, "NAPI").

Hundreds of streams would wake the loop thousands of times a second, each time for one delta. A pause before the loop
waits for events makes one wake-up of several. It is made only after a twentieth of a second with that many wake-ups,
and only where no callback is ready: a call alone, and a loop that has work, never wait for it.
"""

from __future__ import annotations

import asyncio
import selectors
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

PAUSE_S = 0.002
"""Seconds for which events are gathered; an event is that much too late at most."""
WINDOW_S = 0.05
"""Seconds over which wake-ups are counted."""
BUSY_WAKE_UPS = 40
"""Wake-ups in a window from which the next window has pauses."""
MIN_WAKE_UPS = 10
"""Wake-ups in a window with pauses below which the next one has none; with pauses there are 25 at most."""


def event_loop_options() -> dict[str, object]:
    """The options of `anyio.run` for a server. On Windows the loop has no selector, and is the system's default."""
    return {} if sys.platform == "win32" else {"loop_factory": _new_event_loop}


class CoalescingSelector(selectors.DefaultSelector):
    """The system's selector, which pauses before it waits while there are many wake-ups.

    `now` returns seconds of a monotonic clock, and `pause` waits for so many.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic, pause: Callable[[float], None] = time.sleep) -> None:
        super().__init__()
        self._now = now
        self._pause = pause
        self._window_end = 0.0
        self._wake_ups = 0
        self._is_busy = False

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """The events that are there, or the first that come within `timeout` seconds (None: without limit)."""
        if timeout is None or timeout > 0:
            self._count_wake_up()
            if self._is_busy:
                pause_s = PAUSE_S if timeout is None else min(PAUSE_S, timeout)
                self._pause(pause_s)
                timeout = None if timeout is None else timeout - pause_s
        return super().select(timeout)

    def _count_wake_up(self) -> None:
        now = self._now()
        if now >= self._window_end:
            enough = self._wake_ups >= (MIN_WAKE_UPS if self._is_busy else BUSY_WAKE_UPS)
            self._is_busy = enough and now < self._window_end + WINDOW_S
            self._wake_ups, self._window_end = 0, now + WINDOW_S
        self._wake_ups += 1


def _new_event_loop() -> asyncio.AbstractEventLoop:
    return asyncio.SelectorEventLoop(CoalescingSelector())
