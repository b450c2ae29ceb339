"""The clock of everything that is sent to readers at an interval: MCP progress, events of `/chat`, heartbeats.

Text is gathered for an interval after each message. With a timer for each reader, two hundred streams would wake the
event loop two thousand times a second. One timer for all of them wakes the readers that are due together. There is no
timer while no reader waits.
"""

from __future__ import annotations

import asyncio
import math
from weakref import WeakKeyDictionary

TICK_S = 0.02
"""Seconds between two wake-ups at least; a reader is woken that much too late at most."""


class DeliveryClock:
    """The clock of one event loop. `DeliverySignal`s wait on it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: set[DeliverySignal] = set()
        self._timer: asyncio.TimerHandle | None = None

    @classmethod
    def of_running_loop(cls) -> DeliveryClock:
        """The clock of the running event loop."""
        loop = asyncio.get_running_loop()
        clock = _clocks.get(loop)
        if clock is None:
            clock = _clocks[loop] = cls()
        return clock

    @property
    def is_running(self) -> bool:
        """True while a timer is set."""
        return self._timer is not None

    def time(self) -> float:
        """The time of the event loop in seconds."""
        return self._loop.time()

    def start_wait(self, signal: DeliverySignal) -> asyncio.Future[None]:
        """A future that is done at the tick after the signal is due."""
        self._waiting.add(signal)
        if signal.due < math.inf:
            self._set_timer(signal.due)
        return self._loop.create_future()

    def end_wait(self, signal: DeliverySignal) -> None:
        """Forget a signal. The timer stops with the last one."""
        self._waiting.discard(signal)
        if not self._waiting and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set_timer(self, due: float) -> None:
        at = math.ceil(due / TICK_S) * TICK_S  # the same for all that are due within a tick
        if self._timer is not None:
            if self._timer.when() <= at:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._wake_due)

    def _wake_due(self) -> None:
        self._timer = None
        now, next_due = self._loop.time(), math.inf
        for signal in self._waiting:
            if signal.due <= now:
                signal.wake()
            else:
                next_due = min(next_due, signal.due)
        if next_due < math.inf:
            self._set_timer(next_due)


class DeliverySignal:
    """A signal that one task waits for, a limited time, or until it is closed."""

    def __init__(self, clock: DeliveryClock | None = None) -> None:
        self.clock = clock or DeliveryClock.of_running_loop()
        self.due = math.inf
        self.is_closed = False
        self._is_set = False
        self._is_resting = False
        self._future: asyncio.Future[None] | None = None

    def set(self) -> None:
        """End the current `wait`, or else the next one. A `rest` goes on."""
        self._is_set = True
        if not self._is_resting:
            self.wake()

    def close(self) -> None:
        """End every wait and rest, now and from now on."""
        self.is_closed = True
        self.wake()

    async def wait(self, seconds: float = math.inf) -> None:
        """Wait until the signal is set or closed, or for about so many seconds. A signal that was set is consumed."""
        if not self._is_set and not self.is_closed:
            await self._wait_until(self.clock.time() + seconds)
        self._is_set = False

    async def rest(self, until: float) -> None:
        """Wait until a time of the clock, or until the signal is closed."""
        if until > self.clock.time() and not self.is_closed:
            self._is_resting = True
            try:
                await self._wait_until(until)
            finally:
                self._is_resting = False

    def wake(self) -> None:
        """End what is being waited for."""
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    async def _wait_until(self, due: float) -> None:
        self.due = due
        self._future = self.clock.start_wait(self)
        try:
            await self._future
        finally:
            self._future = None
            self.clock.end_wait(self)


_clocks: WeakKeyDictionary[asyncio.AbstractEventLoop, DeliveryClock] = WeakKeyDictionary()
