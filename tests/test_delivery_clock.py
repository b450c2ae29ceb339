"""The clock that wakes the readers of answers: together, in time, and not at all while no reader waits."""

from __future__ import annotations

import asyncio
import gc
import math
import weakref
from functools import partial
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import pytest

from mcp_server_claude.delivery_clock import TICK_S, DeliveryClock, DeliverySignal

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.anyio


async def test_one_tick_wakes_all_readers_that_are_due_within_it() -> None:
    clock = DeliveryClock()
    waits: list[tuple[float, float]] = []
    start = (clock.time() // TICK_S + 10) * TICK_S

    async def rest(part: float) -> None:
        begin = clock.time()
        await DeliverySignal(clock).rest(start + part * TICK_S)
        waits.append((begin, clock.time()))

    async with anyio.create_task_group() as tasks:
        for n in range(100):
            tasks.start_soon(rest, 0.005 * (n + 1))
    assert len(waits) == 100
    # No reader before its time, nor at a tick of its own; on a busy machine some may begin when they are due already.
    assert all(end >= start + 0.5 * TICK_S for begin, end in waits if begin < start)
    assert not clock.is_running


@pytest.mark.parametrize("end", [DeliverySignal.set, DeliverySignal.close])
async def test_a_signal_ends_a_wait_at_once_with_its_timer(end: Callable[[DeliverySignal], None]) -> None:
    clock = DeliveryClock()
    signal = DeliverySignal(clock)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(signal.wait, 3600)
        await anyio.wait_all_tasks_blocked()
        assert clock.is_running
        with anyio.fail_after(60):
            end(signal)
            await anyio.wait_all_tasks_blocked()
    assert not clock.is_running


async def test_a_pause_outlasts_new_text_and_is_followed_by_no_further_wait() -> None:
    clock = DeliveryClock()
    signal = DeliverySignal(clock)
    until = clock.time() + 0.05
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(signal.rest, until)
        await anyio.wait_all_tasks_blocked()
        signal.set()
    assert clock.time() >= until
    with anyio.fail_after(60):
        await signal.wait()  # set during the rest


@pytest.mark.parametrize("is_set_before", [True, False])
async def test_what_comes_before_the_end_of_an_interval_ends_a_wait_then(*, is_set_before: bool) -> None:
    clock = DeliveryClock()
    signal = DeliverySignal(clock)
    until = clock.time() + 0.05
    if is_set_before:
        signal.set()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(signal.wait, 3600, not_before=until))
        await anyio.wait_all_tasks_blocked()
        signal.set()
    assert clock.time() >= until
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(signal.wait, 3600)  # it was consumed
        await anyio.wait_all_tasks_blocked()
        assert clock.is_running
        signal.close()


async def test_an_interval_in_which_nothing_comes_does_not_end_a_wait() -> None:
    clock = DeliveryClock()
    signal = DeliverySignal(clock)
    woken: list[float] = []

    async def wait() -> None:
        await signal.wait(3600, not_before=clock.time() + TICK_S)
        woken.append(clock.time())

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.sleep(3 * TICK_S)
            assert not woken
            signal.set()  # after the interval: at once
            await anyio.wait_all_tasks_blocked()
            assert woken


async def test_a_tick_does_not_end_a_wait_that_has_begun_after_it() -> None:
    clock = DeliveryClock()
    signal = DeliverySignal(clock)
    results: list[bool] = []

    async def read() -> None:
        results.append(await signal.wait(3600))
        results.append(await signal.wait(3600))

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            await anyio.wait_all_tasks_blocked()
            signal.set()
            signal.due = 0.0
            getattr(clock, "_wake_due")()  # noqa: B009 - private: the tick in the same iteration as the signal
            await anyio.wait_all_tasks_blocked()
            assert results == [True]
            signal.set()
    assert results == [True, True]


async def test_a_wait_says_whether_it_was_ended_by_a_signal() -> None:
    signal = DeliverySignal(DeliveryClock())
    assert not await signal.wait(TICK_S)
    signal.set()
    assert await signal.wait(3600)
    assert not await signal.wait(TICK_S)
    signal.close()
    assert await signal.wait(3600)


async def test_closing_ends_a_wait_before_the_end_of_its_interval() -> None:
    signal = DeliverySignal(DeliveryClock())
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(signal.wait, 3600, not_before=signal.clock.time() + 3600))
            await anyio.wait_all_tasks_blocked()
            signal.set()
            signal.close()


async def test_closing_ends_a_pause_and_all_later_waits() -> None:
    signal = DeliverySignal(DeliveryClock())
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(signal.rest, signal.clock.time() + 3600)
            await anyio.wait_all_tasks_blocked()
            signal.close()
        await signal.wait()
        await signal.rest(signal.clock.time() + 3600)
        await signal.wait(3600)


async def test_a_later_reader_with_an_earlier_time_is_not_delayed() -> None:
    clock = DeliveryClock()
    order: list[str] = []

    async def rest(name: str, seconds: float) -> None:
        await DeliverySignal(clock).rest(clock.time() + seconds)
        order.append(name)

    with anyio.move_on_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(rest, "late", 3600)
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(rest, "early", 0.01)
            while not order:
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
    assert order == ["early"]
    assert not clock.is_running


async def test_a_loop_has_one_clock() -> None:
    assert DeliveryClock.of_running_loop() is DeliverySignal().clock
    assert not DeliveryClock.of_running_loop().is_running


@pytest.mark.parametrize(
    ("now", "begin", "interval_s", "expected"),
    [
        (10.0, math.inf, 0.1, 10.1),  # woken at its tick: the next is an interval later
        (10.019, math.inf, 0.1, 10.1),  # some work later still
        (10.021, math.inf, 0.1, 10.12),
        (10.0, math.inf, 0.05, 10.06),
        (10.0, math.inf, 0.001, 10.02),
        (10.0, math.inf, 10.0, 20.0),
        (10.03, 10.021, 0.1, 10.12),  # what was sent came in this tick
        (10.03, 10.02, 0.1, 10.12),
        (10.03, 10.019, 0.1, 10.1),  # in the one before: a tick is made up for
        (10.03, 9.5, 0.1, 10.1),  # long before: no more than a tick
    ],
)
async def test_an_interval_begins_with_a_tick(
    now: float, begin: float, interval_s: float, expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = DeliveryClock()
    with monkeypatch.context() as patch:
        patch.setattr(asyncio.get_running_loop(), "time", lambda: now)
        until = clock.time_after(interval_s, begin)
    assert until == pytest.approx(expected)


async def test_the_interval_after_a_message_begins_when_its_text_came(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 10.019
    signal = DeliverySignal(DeliveryClock())
    rests: list[float] = []

    async def record_rest(until: float) -> None:
        rests.append(until)

    with monkeypatch.context() as patch:
        patch.setattr(asyncio.get_running_loop(), "time", lambda: now)
        patch.setattr(signal, "rest", record_rest)
        signal.set()
        now = 10.023  # sent a tick late
        await signal.rest_for(0.1)
    assert rests == [pytest.approx(10.1)]


async def test_what_reads_text_is_woken_before_what_sends_it() -> None:
    clock = DeliveryClock()
    due = (clock.time() // TICK_S + 50) * TICK_S  # all wait by then
    order: list[bool] = []

    async def rest(*, is_source: bool) -> None:
        await DeliverySignal(clock, is_source=is_source).rest(due)
        order.append(is_source)

    async with anyio.create_task_group() as tasks:
        for n in range(40):
            tasks.start_soon(partial(rest, is_source=n % 2 == 1))
    assert order == [True] * 20 + [False] * 20


def test_the_clock_does_not_keep_an_event_loop_that_has_ended() -> None:
    async def use_clock() -> weakref.ref[asyncio.AbstractEventLoop]:
        await DeliverySignal().wait(TICK_S)
        return weakref.ref(asyncio.get_running_loop())

    loop = asyncio.run(use_clock())
    gc.collect()
    assert loop() is None


async def test_what_is_handled_at_once_extends_a_wait() -> None:
    clock = DeliveryClock()
    signal = DeliverySignal(clock)
    handled: list[float] = []

    def handle() -> bool:
        handled.append(clock.time())
        if len(handled) == 3:
            return False
        signal.extend_wait(3600)
        return True

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(signal.wait, 3600, handle=handle))
        await anyio.wait_all_tasks_blocked()
        signal.set()
        await anyio.wait_all_tasks_blocked()
        signal.set()
        await anyio.wait_all_tasks_blocked()
        assert clock.is_running  # it waits still
        signal.set()  # not handled: the wait ends
        signal.set()  # it has ended, and there is nothing to handle
    assert len(handled) == 3
    assert not clock.is_running


async def test_a_wait_that_is_extended_in_the_tick_that_would_end_it_goes_on_and_ends_later() -> None:
    clock = DeliveryClock()
    signal = DeliverySignal(clock)
    seconds = 3600.0
    results: list[bool] = []

    def handle() -> bool:
        signal.extend_wait(seconds)
        return True

    async def wait() -> None:
        results.append(await signal.wait(3600, handle=handle))

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            signal.due = 0.0
            getattr(clock, "_wake_due")()  # noqa: B009 - private: the tick, and the signal in the same iteration
            signal.set()
            await anyio.wait_all_tasks_blocked()
            assert not results
            assert clock.is_running
            seconds = TICK_S
            signal.set()
    assert results == [False]  # by the timer


async def test_after_an_extended_wait_the_next_is_not_handled_before_its_time() -> None:
    clock = DeliveryClock()
    signal = DeliverySignal(clock)
    until: list[float] = []

    def handle() -> bool:
        until.append(signal.extend_wait(7200, interval_s=3600))
        return True

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(signal.wait, 7200, handle=handle))
        await anyio.wait_all_tasks_blocked()
        before = clock.time()
        signal.set()
        assert signal.due > before + 7000
        signal.set()
        assert [signal.due] == until
        assert before + 3600 - TICK_S <= signal.due <= clock.time() + 3600
        signal.close()
