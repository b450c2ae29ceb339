"""The turns of streams at full speed: one in each iteration of the event loop, in their order."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections import Counter
from typing import Self

import anyio
import anyio.lowlevel
import pytest

from mcp_server_claude.anthropic_api.read_turns import THREADS_INTERVAL_S, THREADS_PAUSE_S, ReadTurns

pytestmark = pytest.mark.anyio


class IterationCounter:
    """Counts the iterations of the event loop while its block runs."""

    def __init__(self) -> None:
        self.iterations = 0
        self._handle: asyncio.Handle | None = None

    def __enter__(self) -> Self:
        self._count()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._handle is not None
        self._handle.cancel()

    def _count(self) -> None:
        self.iterations += 1
        self._handle = asyncio.get_running_loop().call_soon(self._count)


async def test_a_stream_alone_does_not_wait() -> None:
    turns = ReadTurns()
    with IterationCounter() as counter:
        before = counter.iterations
        await turns.wait_for_turn()
        assert counter.iterations == before


async def test_a_second_turn_in_an_iteration_waits_for_the_next_one() -> None:
    turns = ReadTurns()
    with IterationCounter() as counter:
        await turns.wait_for_turn()
        before = counter.iterations
        await turns.wait_for_turn()
        assert counter.iterations > before


async def test_each_iteration_has_one_turn_and_the_streams_take_them_by_turns() -> None:
    turns = ReadTurns()
    taken: list[tuple[int, str]] = []
    with IterationCounter() as counter:

        async def read(name: str) -> None:
            for _ in range(4):
                await turns.wait_for_turn()
                taken.append((counter.iterations, name))

        async with anyio.create_task_group() as tasks:
            for name in "abc":
                tasks.start_soon(read, name)
    assert max(Counter(iteration for iteration, _ in taken).values()) == 1
    order = "".join(name for _, name in taken)
    assert order[0] == "a"  # at once, before the others have asked
    assert all({*order[at : at + 3]} == {*"abc"} for at in range(1, 8)), order


async def test_a_cancelled_stream_does_not_keep_the_turn_of_the_others() -> None:
    turns = ReadTurns()
    taken: list[str] = []

    async def read(name: str) -> None:
        await turns.wait_for_turn()
        taken.append(name)
        if name == "a":  # the second has its turn next, the third and the fourth wait
            asyncio.get_running_loop().call_soon(readers[2].cancel)

    readers = [asyncio.create_task(read(name)) for name in "abcd"]
    await asyncio.wait(readers)
    assert readers[2].cancelled()
    assert taken == ["a", "b", "d"]
    await read("later")
    assert taken[-1] == "later"


async def test_threads_get_a_pause_at_intervals_while_streams_wait() -> None:
    now = 100.0
    pauses: list[float] = []
    turns = ReadTurns(lambda: now, pauses.append)

    async def read() -> None:
        await turns.wait_for_turn()

    await read()
    await anyio.lowlevel.checkpoint()
    assert pauses == []  # nobody waited
    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(read)
    assert pauses == [THREADS_PAUSE_S]
    now += THREADS_INTERVAL_S
    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(read)
    assert pauses == [THREADS_PAUSE_S] * 2


def test_the_turns_do_not_keep_an_event_loop_that_has_ended() -> None:
    async def use_turns() -> weakref.ref[asyncio.AbstractEventLoop]:
        await ReadTurns.of_running_loop().wait_for_turn()
        return weakref.ref(asyncio.get_running_loop())

    loop = asyncio.run(use_turns())
    gc.collect()
    assert loop() is None
