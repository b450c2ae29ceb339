"""The selector of a server's event loop: pauses under load, and none for a loop that rests or works."""

from __future__ import annotations

import asyncio
import math
import os
import selectors
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import anyio
import pytest

from mcp_server_claude import event_loop
from mcp_server_claude.event_loop import (
    BUSY_EVENTS,
    MIN_EVENTS,
    PAUSE_S,
    WINDOW_S,
    CoalescingSelector,
    end_pauses_at,
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
    """A selector with sockets that always have something to read, on a `FakeClock`."""

    def __init__(self, sockets: int = 1) -> None:
        self.clock = FakeClock()
        self.selector = CoalescingSelector(lambda: self.clock.now, self.clock.pause)
        self._sockets: list[socket.socket] = []
        for _ in range(sockets):
            reader, writer = socket.socketpair()
            self._sockets += [reader, writer]
            writer.send(b"x")
            self.selector.register(reader, selectors.EVENT_READ)

    def wake_up(self, times: int, *, timeout: float | None = None) -> None:
        """Wait for the events so many times within one window."""
        for _ in range(times):
            assert len(self.selector.select(timeout)) == len(self._sockets) / 2
        self.clock.now += WINDOW_S

    def close(self) -> None:
        self.selector.close()
        for each in self._sockets:
            each.close()


@pytest.fixture
def loaded() -> Generator[LoadedSelector]:
    selector = LoadedSelector()
    yield selector
    selector.close()


def test_few_events_never_pause(loaded: LoadedSelector) -> None:
    for _ in range(10):
        loaded.wake_up(BUSY_EVENTS - 1)
    assert loaded.clock.pauses == []


def test_many_events_pause_from_the_next_window_on(loaded: LoadedSelector) -> None:
    loaded.wake_up(BUSY_EVENTS)
    assert loaded.clock.pauses == []
    loaded.wake_up(3)
    assert loaded.clock.pauses == [PAUSE_S] * 3


def test_many_events_of_one_wake_up_pause_too() -> None:
    many = LoadedSelector(sockets=BUSY_EVENTS)
    for _ in range(5):
        many.wake_up(1)
    assert many.clock.pauses == [PAUSE_S] * 4
    many.close()


def test_pauses_go_on_while_there_are_events_and_end_when_they_become_rare(loaded: LoadedSelector) -> None:
    loaded.wake_up(BUSY_EVENTS)
    for _ in range(5):
        loaded.wake_up(MIN_EVENTS)
    assert len(loaded.clock.pauses) == 5 * MIN_EVENTS
    loaded.wake_up(MIN_EVENTS - 1)
    before = len(loaded.clock.pauses)
    loaded.wake_up(5)
    assert len(loaded.clock.pauses) == before


def test_a_loop_that_was_idle_has_no_pause(loaded: LoadedSelector) -> None:
    loaded.wake_up(BUSY_EVENTS)
    loaded.clock.now += WINDOW_S
    loaded.wake_up(5)
    assert loaded.clock.pauses == []


def test_a_loop_with_ready_callbacks_has_no_pause_and_its_events_do_not_count(loaded: LoadedSelector) -> None:
    for _ in range(3):
        loaded.wake_up(10 * BUSY_EVENTS, timeout=0)
    loaded.wake_up(BUSY_EVENTS)
    loaded.wake_up(5, timeout=0)
    assert loaded.clock.pauses == []


def test_a_pause_ends_with_the_next_timer(loaded: LoadedSelector) -> None:
    loaded.wake_up(BUSY_EVENTS)
    loaded.wake_up(1, timeout=PAUSE_S / 4)
    assert loaded.clock.pauses == [PAUSE_S / 4]


def test_a_server_runs_on_a_loop_with_this_selector() -> None:
    async def selector_of_loop() -> object:
        return getattr(asyncio.get_running_loop(), "_selector", None)

    assert isinstance(run_in_server_loop(selector_of_loop), CoalescingSelector)


@pytest.fixture
def _hours_of_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that is always busy, with pauses of an hour."""
    monkeypatch.setattr(event_loop, "PAUSE_S", 3600.0)
    monkeypatch.setattr(event_loop, "MIN_EVENTS", 0)
    monkeypatch.setattr(event_loop, "BUSY_EVENTS", 0)
    monkeypatch.setattr(event_loop, "WINDOW_S", math.inf)


@pytest.mark.usefixtures("_hours_of_pause")
def test_a_message_of_the_client_ends_a_pause() -> None:
    reader, writer = os.pipe()

    async def wait_for_message() -> bytes:
        end_pauses_at(reader)
        threading.Timer(0.05, os.write, (writer, b"cancel")).start()
        await anyio.wait_readable(reader)
        return os.read(reader, 100)

    assert run_in_server_loop(wait_for_message) == b"cancel"
    os.close(reader)
    os.close(writer)


def test_other_loops_have_no_pauses_to_end() -> None:
    async def end_them() -> None:
        end_pauses_at(0)

    with ThreadPoolExecutor(1) as threads:
        threads.submit(anyio.run, end_them).result()


@pytest.mark.usefixtures("_hours_of_pause")
def test_threads_and_timers_end_a_pause() -> None:
    async def work() -> list[int]:
        selector = getattr(asyncio.get_running_loop(), "_selector", None)
        assert isinstance(selector, CoalescingSelector)
        done: list[int] = []
        for number in range(200):
            await anyio.to_thread.run_sync(lambda: None)
            if number % 50 == 0:
                await anyio.sleep(0.001)
                done.append(number)
        return done

    assert run_in_server_loop(work) == [0, 50, 100, 150]
