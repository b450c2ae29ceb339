"""Frames of many senders on one pipe: each is written whole, and none waits for the turn of another's task."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import pytest

from mcp_server_claude.server.stdout_writer import (
    MAX_BYTES_AT_ONCE,
    MAX_OVERTAKING_FRAMES,
    MIN_LARGE_FRAME_BYTES,
    StdoutWriter,
)
from mcp_server_claude.server.unanswered_requests import UnansweredRequests

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform == "win32", reason="pipes are POSIX's"),
]

MORE_THAN_A_PIPE = 200_000


@contextmanager
def writer_and_reader() -> Generator[tuple[StdoutWriter, int]]:
    """A writer, and the descriptor of the client that reads what it writes."""
    reading, writing = os.pipe()
    try:
        yield StdoutWriter(writing, UnansweredRequests()), reading
    finally:
        for descriptor in (reading, writing):
            with suppress(OSError):  # a test has closed one
                os.close(descriptor)


def frame(name: str, size: int = 20) -> bytes:
    return f"{name}:".encode() + b"x" * size + b"\n"


async def read_frames(reading: int, received: bytearray, enough: anyio.Event) -> None:
    """Read until enough."""
    os.set_blocking(reading, False)
    while True:
        try:
            received += os.read(reading, 1 << 16)
        except BlockingIOError:
            if enough.is_set():
                return
            await anyio.lowlevel.checkpoint()


async def test_frames_that_the_pipe_takes_are_written_without_waiting() -> None:
    with writer_and_reader() as (writer, reading):
        steps = [writer.write_frame(frame(str(n))).__await__() for n in range(100)]
        for each in steps:
            with pytest.raises(StopIteration):
                next(each)
        assert os.read(reading, 1 << 16) == b"".join(frame(str(n)) for n in range(100))


async def test_frames_that_waited_are_written_together_by_the_first_sender_that_can() -> None:
    with writer_and_reader() as (writer, reading):
        received, done = bytearray(), anyio.Event()
        tasks = [asyncio.create_task(writer.write_frame(frame("large", MORE_THAN_A_PIPE)))]
        await anyio.wait_all_tasks_blocked()
        tasks += [asyncio.create_task(writer.write_frame(frame(str(n)))) for n in range(100)]
        await anyio.wait_all_tasks_blocked()
        async with anyio.create_task_group() as readers:
            readers.start_soon(read_frames, reading, received, done)
            await tasks[0]
            await anyio.lowlevel.checkpoint()  # the others are woken
            assert all(each.done() for each in tasks)
            done.set()
        assert received == frame("large", MORE_THAN_A_PIPE) + b"".join(frame(str(n)) for n in range(100))


async def test_a_sender_does_not_wait_for_the_frames_after_its_own() -> None:
    with writer_and_reader() as (writer, reading):
        tasks = [asyncio.create_task(writer.write_frame(frame(str(n), MORE_THAN_A_PIPE))) for n in range(2)]
        await anyio.wait_all_tasks_blocked()
        received = 0
        while received < MORE_THAN_A_PIPE:
            received += len(os.read(reading, 1 << 12))
            await anyio.wait_all_tasks_blocked()
        assert [each.done() for each in tasks] == [True, False]
        tasks[1].cancel()


async def test_other_tasks_run_while_a_large_frame_is_written(tmp_path: Path) -> None:
    path, large, iterations = tmp_path / "out", frame("large", 8 * MAX_BYTES_AT_ONCE), 0

    async def count_iterations() -> None:
        nonlocal iterations
        while True:
            await anyio.lowlevel.checkpoint()
            iterations += 1

    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)  # a file can always be written
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(count_iterations)
            await StdoutWriter(descriptor, UnansweredRequests()).write_frame(large)
            tasks.cancel_scope.cancel()
    finally:
        os.close(descriptor)
    assert iterations >= 4
    assert path.read_bytes() == large


async def test_small_frames_go_before_large_ones_but_no_large_one_waits_for_ever() -> None:
    with writer_and_reader() as (writer, reading):
        large = [frame(f"large {n}", MORE_THAN_A_PIPE) for n in range(3)]
        small = [frame(str(n)) for n in range(2 * MAX_OVERTAKING_FRAMES)]
        received, done = bytearray(), anyio.Event()
        async with anyio.create_task_group() as readers:
            tasks: list[asyncio.Task[None]] = []
            for each in (*large, *small):
                tasks.append(asyncio.create_task(writer.write_frame(each)))
                await anyio.lowlevel.checkpoint()
            readers.start_soon(read_frames, reading, received, done)
            await asyncio.gather(*tasks)
            done.set()
    first, last = small[:MAX_OVERTAKING_FRAMES], small[MAX_OVERTAKING_FRAMES:]
    assert bytes(received).splitlines(keepends=True) == [large[0], *first, large[1], *last, large[2]]


async def test_a_sender_that_is_cancelled_when_it_should_go_on_stops_nobody() -> None:
    with writer_and_reader() as (writer, reading):
        received, done = bytearray(), anyio.Event()
        first = asyncio.create_task(writer.write_frame(frame("first", MORE_THAN_A_PIPE)))
        await anyio.wait_all_tasks_blocked()
        second = asyncio.create_task(writer.write_frame(frame("second", MORE_THAN_A_PIPE)))
        third = asyncio.create_task(writer.write_frame(frame("third", MORE_THAN_A_PIPE)))
        await anyio.wait_all_tasks_blocked()
        first.add_done_callback(lambda _: second.cancel())
        async with anyio.create_task_group() as readers:
            readers.start_soon(read_frames, reading, received, done)
            with anyio.fail_after(60):
                await third
            done.set()
        assert received.startswith(frame("first", MORE_THAN_A_PIPE))
        assert received.endswith(frame("third", MORE_THAN_A_PIPE))


async def test_all_senders_learn_that_the_client_has_closed_its_end() -> None:
    with writer_and_reader() as (writer, reading):
        tasks = [asyncio.create_task(writer.write_frame(frame(str(n), MORE_THAN_A_PIPE))) for n in range(3)]
        await anyio.wait_all_tasks_blocked()
        os.close(reading)
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(each) for each in outcomes] == [anyio.BrokenResourceError] * 3
        with pytest.raises(anyio.BrokenResourceError):
            await writer.write_frame(frame("later"))


@pytest.mark.parametrize("seed", range(20))
async def test_frames_are_whole_and_in_order_whoever_is_cancelled(seed: int) -> None:
    chance = random.Random(seed)
    with writer_and_reader() as (writer, reading):
        received, done = bytearray(), anyio.Event()
        frames = [frame(str(n), chance.choice((20, 3_000, 50_000, MORE_THAN_A_PIPE))) for n in range(60)]
        tasks: list[asyncio.Task[None]] = []
        outcomes: list[BaseException | None] = []
        async with anyio.create_task_group() as readers:
            for each in frames:
                tasks.append(asyncio.create_task(writer.write_frame(each)))
                if len(tasks) == 20:
                    readers.start_soon(read_frames, reading, received, done)
                for _ in range(chance.randrange(3)):
                    await anyio.lowlevel.checkpoint()
                if chance.random() < 0.4:
                    chance.choice(tasks).cancel()
            outcomes += await asyncio.gather(*tasks, return_exceptions=True)
            await writer.write_frame(frame("last"))
            done.set()
    lines = bytes(received).splitlines(keepends=True)
    assert lines.pop() == frame("last")
    was_sent = [each is None for each in outcomes]
    for is_large in (True, False):  # whole, once each, in their order
        expected = [each for each in frames if each in lines and (len(each) >= MIN_LARGE_FRAME_BYTES) == is_large]
        assert expected == [each for each in lines if (len(each) >= MIN_LARGE_FRAME_BYTES) == is_large]
    assert {each for each, sent in zip(frames, was_sent, strict=True) if sent} <= set(lines)
    assert 0 < sum(was_sent) < len(frames)
