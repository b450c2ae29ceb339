"""The selector of a server's event loop: pauses under load, and none for a loop that rests or works."""

from __future__ import annotations

import asyncio
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import anyio
import pytest

from mcp_server_claude.event_loop import (
    BUSY_WAKE_UPS,
    MIN_WAKE_UPS,
    PAUSE_S,
    WINDOW_S,
    CoalescingSelector,
    event_loop_options,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the loop of Windows has no selector")


T = TypeVar("T")


def run_in_server_loop(function: Callable[[], Awaitable[T]]) -> T:
    """Run a function as a server does, on a thread of its own: other tests leave a loop on theirs."""
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(lambda: anyio.run(function, backend_options=event_loop_options())).result()


class FakeClock:
    """A clock that goes on only where a test or a pause says so."""

    def __init__(self) -> None:
        self.now = 100.0
        self.pauses: list[float] = []

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


class LoadedSelector:
    """A selector with a socket that always has something to read, on a `FakeClock`."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.selector = CoalescingSelector(lambda: self.clock.now, self.clock.pause)
        self._reader, self._writer = socket.socketpair()
        self._writer.send(b"x")
        self.selector.register(self._reader, 1)

    def wake_up(self, times: int, *, timeout: float | None = None) -> None:
        """Wait for the event so many times within one window."""
        for _ in range(times):
            assert self.selector.select(timeout)
        self.clock.now += WINDOW_S

    def close(self) -> None:
        self.selector.close()
        self._reader.close()
        self._writer.close()


@pytest.fixture
def loaded() -> Generator[LoadedSelector]:
    selector = LoadedSelector()
    yield selector
    selector.close()


def test_few_wake_ups_never_pause(loaded: LoadedSelector) -> None:
    for _ in range(10):
        loaded.wake_up(BUSY_WAKE_UPS - 1)
    assert loaded.clock.pauses == []


def test_many_wake_ups_pause_from_the_next_window_on(loaded: LoadedSelector) -> None:
    loaded.wake_up(BUSY_WAKE_UPS)
    assert loaded.clock.pauses == []
    loaded.wake_up(3)
    assert loaded.clock.pauses == [PAUSE_S] * 3


def test_pauses_go_on_while_there_are_wake_ups_and_end_when_they_become_rare(loaded: LoadedSelector) -> None:
    loaded.wake_up(BUSY_WAKE_UPS)
    for _ in range(5):
        loaded.wake_up(MIN_WAKE_UPS)
    assert len(loaded.clock.pauses) == 5 * MIN_WAKE_UPS
    loaded.wake_up(MIN_WAKE_UPS - 1)
    before = len(loaded.clock.pauses)
    loaded.wake_up(5)
    assert len(loaded.clock.pauses) == before


def test_a_loop_that_was_idle_has_no_pause(loaded: LoadedSelector) -> None:
    loaded.wake_up(BUSY_WAKE_UPS)
    loaded.clock.now += WINDOW_S
    loaded.wake_up(5)
    assert loaded.clock.pauses == []


def test_a_loop_with_ready_callbacks_has_no_pause_and_counts_as_no_wake_up(loaded: LoadedSelector) -> None:
    for _ in range(3):
        loaded.wake_up(10 * BUSY_WAKE_UPS, timeout=0)
    loaded.wake_up(BUSY_WAKE_UPS)
    loaded.wake_up(5, timeout=0)
    assert loaded.clock.pauses == []


def test_a_pause_ends_with_the_next_timer(loaded: LoadedSelector) -> None:
    loaded.wake_up(BUSY_WAKE_UPS)
    loaded.wake_up(1, timeout=PAUSE_S / 4)
    assert loaded.clock.pauses == [PAUSE_S / 4]


def test_a_server_runs_on_a_loop_with_this_selector() -> None:
    async def selector_of_loop() -> object:
        return getattr(asyncio.get_running_loop(), "_selector", None)

    assert isinstance(run_in_server_loop(selector_of_loop), CoalescingSelector)


def test_timers_and_threads_wake_a_busy_loop() -> None:
    async def work() -> list[int]:
        loop = asyncio.get_running_loop()
        selector = getattr(loop, "_selector", None)
        assert isinstance(selector, CoalescingSelector)
        done: list[int] = []
        for number in range(200):
            await anyio.to_thread.run_sync(lambda: None)
            if number % 50 == 0:
                await anyio.sleep(0.001)
                done.append(number)
        return done

    assert run_in_server_loop(work) == [0, 50, 100, 150]
