"""The clock that wakes the readers of answers: together, in time, and not at all while no reader waits."""

from __future__ import annotations

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
    woken: list[float] = []
    start = (clock.time() // TICK_S + 2) * TICK_S

    async def rest(part: float) -> None:
        await DeliverySignal(clock).rest(start + part * TICK_S)
        woken.append(clock.time())

    async with anyio.create_task_group() as tasks:
        for n in range(100):
            tasks.start_soon(rest, 0.005 * (n + 1))
    assert len(woken) == 100
    assert min(woken) >= start + 0.5 * TICK_S  # no reader before its time
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
