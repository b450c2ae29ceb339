"""The clock of everything that is sent to readers at an interval: MCP progress, events of `/chat`, heartbeats.

Text is gathered for an interval after each message. With a timer for each reader, two hundred streams would wake the
event loop two thousand times a second. One timer for all of them wakes the readers that are due together. There is no
timer while no reader waits.

Upstream responses are read at the same ticks (`anthropic_api.read_coalescing`), and before the others: what was read is
sent in the tick that read it, and waits for one interval, not for two.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from collections.abc import Callable

TICK_S = 0.02
"""Seconds between two wake-ups at least; a reader is woken that much too late at most."""
TICK_TOLERANCE = 1e-6
"""The part of a tick by which a time may miss a tick because it is not a whole number in binary."""


class DeliveryClock:
    """The clock of one event loop. `DeliverySignal`s wait on it."""

    def __init__(self) -> None:
        self._waiting: set[DeliverySignal] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._wakes_at = math.inf

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
        return asyncio.get_running_loop().time()

    def time_after(self, interval_s: float, begin: float = math.inf, now: float | None = None) -> float:
        """The tick at the end of an interval that begins with the latest tick, or with that before the time `now`.

        A task that rests until then again and again is woken once an interval. If the interval began now, the task's
        own work and the rounding to a tick would be added each time.

        A `begin` in an earlier tick moves the interval one tick forward at most. With the time of the text that was
        sent, a task that fell behind its source on a busy machine is with it again after a few intervals, and the
        intervals stay nearly as long.
        """
        latest = self._tick(asyncio.get_running_loop().time() if now is None else now)
        first = latest if begin >= latest * TICK_S else latest - 1
        return (first + math.ceil(interval_s / TICK_S - TICK_TOLERANCE)) * TICK_S

    def start_wait(self, signal: DeliverySignal) -> asyncio.Future[None]:
        """A future that is done at the tick after the signal is due."""
        self._waiting.add(signal)
        self.wake_at(signal.due)
        return asyncio.get_running_loop().create_future()

    def end_wait(self, signal: DeliverySignal) -> None:
        """Forget a signal. The timer stops with the last one."""
        self._waiting.discard(signal)
        if not self._waiting and self._timer is not None:
            self._timer.cancel()
            self._timer, self._wakes_at = None, math.inf

    def _tick(self, time_s: float) -> int:
        """The number of the latest tick at a time."""
        return math.floor(time_s / TICK_S + TICK_TOLERANCE)

    def wake_at(self, due: float) -> None:
        """Wake the signals that are due then at the tick after this time."""
        if due >= self._wakes_at:
            return
        at = math.ceil(due / TICK_S - TICK_TOLERANCE) * TICK_S  # the same for all that are due within a tick
        if at >= self._wakes_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._wakes_at = asyncio.get_running_loop().call_at(at, self._wake_due), at

    def _wake_due(self) -> None:
        self._timer, self._wakes_at = None, math.inf
        now, next_due = asyncio.get_running_loop().time() + TICK_TOLERANCE * TICK_S, math.inf
        others: list[tuple[DeliverySignal, asyncio.Future[None]]] = []
        for signal in self._waiting:
            if signal.due > now:
                next_due = min(next_due, signal.due)
            elif signal.is_source:
                signal.wake()
            elif signal.future is not None:
                others.append((signal, signal.future))
        if others:
            # runs after the tasks of the sources have been resumed
            asyncio.get_running_loop().call_soon(_wake_all, others, now)
        if next_due < math.inf:
            self.wake_at(next_due)


class DeliverySignal:
    """A signal that one task waits for, a limited time, or until it is closed.

    `is_source`: its task reads what the others send, and is woken before them.
    """

    def __init__(self, clock: DeliveryClock | None = None, *, is_source: bool = False) -> None:
        self.is_source = is_source
        self.clock = clock or DeliveryClock.of_running_loop()
        self.due = math.inf
        self.is_closed = False
        self._is_set = False
        self._set_at = math.inf
        self._is_resting = False
        self._not_before = -math.inf
        self._handle: Callable[[], bool] | None = None
        self.future: asyncio.Future[None] | None = None

    def set(self) -> None:
        """End the current `wait`, or else the next one. A `rest` goes on."""
        self._is_set = True
        self._set_at = self.clock.time()
        if self._is_resting or self.future is None:
            return
        if self._set_at < self._not_before:
            self.due = min(self.due, self._not_before)
            self.clock.wake_at(self.due)
        elif self._handle is None or self.future.done() or not self._handle():
            self.wake()

    def close(self) -> None:
        """End every wait and rest, now and from now on."""
        self.is_closed = True
        self.wake()

    async def wait(
        self,
        seconds: float = math.inf,
        *,
        not_before: float = -math.inf,
        handle: Callable[[], bool] | None = None,
    ) -> bool:
        """Wait until the signal is set or closed, or for about so many seconds. A signal that was set is consumed.

        One that is set before the time `not_before` of the clock ends the wait then. It is a `rest` that does not wake
        its task where nothing came.

        `handle` is called when the signal is set after that time. If it returns True, having called `extend_wait`, the
        wait goes on: no task is woken for what can be done at once.

        Returns:
            False if the time has passed.
        """
        if not self.is_closed:
            now = self.clock.time()
            if not self._is_set or now < not_before:
                self._not_before, self._handle = not_before, handle
                await self._wait_until(not_before if self._is_set else now + seconds)
                self._not_before, self._handle = -math.inf, None
        was_set, self._is_set = self._is_set, False
        return was_set or self.is_closed

    def extend_wait(self, seconds: float, *, interval_s: float = 0) -> float:
        """Let the current wait go on for so many seconds more, as if the signal had not been set.

        Returns:
            The time before which another `set` does not end the wait: `interval_s` seconds later.
        """
        self._is_set = False
        self._not_before = self.clock.time_after(interval_s, now=self._set_at)
        self.due = self._set_at + seconds
        self.clock.wake_at(self.due)
        return self._not_before

    async def rest_for(self, interval_s: float) -> None:
        """Rest for an interval after what was sent, whose time is that of the latest `set`."""
        await self.rest(self.clock.time_after(interval_s, self._set_at))

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
        if self.future is not None and not self.future.done():
            self.future.set_result(None)

    async def _wait_until(self, due: float) -> None:
        self.due = due
        self.future = self.clock.start_wait(self)
        try:
            await self.future
        finally:
            self.future = None
            self.clock.end_wait(self)


def _wake_all(waits: list[tuple[DeliverySignal, asyncio.Future[None]]], now: float) -> None:
    """End these waits, but none that a signal has begun since, nor one that was extended."""
    for signal, future in waits:
        if not future.done() and signal.due <= now:
            future.set_result(None)


# No value refers to its loop, else no entry would ever be dropped.
_clocks: WeakKeyDictionary[asyncio.AbstractEventLoop, DeliveryClock] = WeakKeyDictionary()
