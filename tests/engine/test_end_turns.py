"""Turns for the ends of answers: in their order, while the event loop is on time, and for each in the end."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import pytest

from mcp_server_claude.engine.end_turns import INTERVAL_S, MAX_INTERVAL_S, MAX_WAIT_S, ON_TIME_S, EndTurns
from support.mcp_session import STYLE_META, connect
from support.simulator_requests import message_requests

if TYPE_CHECKING:
    from pathlib import Path

    from mcp_server_claude.simulator import Simulator

pytestmark = pytest.mark.anyio


class Clock:
    """A clock that stands still for some readings, and then goes forward by `step_s` seconds with each."""

    def __init__(self, step_s: float, *, still: int = 0) -> None:
        self.step_s = step_s
        self.time = 0.0
        self._still = still

    def __call__(self) -> float:
        self._still -= 1
        if self._still < 0:
            self.time += self.step_s
        return self.time


async def times_of_turns(step_s: float, count: int) -> list[float]:
    """The times at which so many answers that end at once have their turns, with a loop that is late by `step_s`."""
    clock = Clock(step_s, still=count + 1)  # each reads it when it ends, and the first that waits sets the timer
    turns, times = EndTurns(clock), list[float]()

    async def end() -> None:
        await turns.wait_for_turn()
        times.append(clock.time)

    async with anyio.create_task_group() as tasks:
        for _ in range(count):
            tasks.start_soon(end)
    return times


async def test_an_answer_alone_does_not_wait() -> None:
    turns = EndTurns(Clock(INTERVAL_S))
    for _ in range(3):
        with pytest.raises(StopIteration):
            turns.wait_for_turn().__await__().__next__()


async def test_answers_that_end_at_once_take_their_turns_in_order() -> None:
    turns, ended = EndTurns(), list[int]()

    async def end(number: int) -> None:
        await turns.wait_for_turn()
        ended.append(number)

    async with anyio.create_task_group() as tasks:
        for number in range(10):
            tasks.start_soon(end, number)
            await anyio.lowlevel.checkpoint()
    assert ended == list(range(10))


async def test_a_cancelled_answer_takes_no_turn() -> None:
    turns = EndTurns()
    await turns.wait_for_turn()
    first, second = (asyncio.create_task(turns.wait_for_turn()) for _ in range(2))
    await anyio.lowlevel.checkpoint()
    first.cancel()
    with anyio.fail_after(60):
        await second
    assert first.cancelled()


async def test_while_the_loop_is_late_turns_are_rare() -> None:
    times = await times_of_turns(1.2 * ON_TIME_S, 4)
    assert all(MAX_INTERVAL_S <= later - earlier <= 3 * MAX_INTERVAL_S for earlier, later in pairwise(times))


async def test_while_the_loop_is_on_time_turns_come_one_after_the_other() -> None:
    times = await times_of_turns(ON_TIME_S / 10, 20)
    assert all(0 < later - earlier <= ON_TIME_S for earlier, later in pairwise(times))


@pytest.mark.parametrize("lateness", [1.2, 2.0, 5.0])
async def test_no_answer_waits_for_long_however_late_the_loop_is(lateness: float) -> None:
    times = await times_of_turns(lateness * ON_TIME_S, 200)
    assert times == sorted(times)
    assert MAX_WAIT_S < times[-1] < 3 * MAX_WAIT_S  # also where that is less than an iteration of the loop for each


async def wait_for_ever(_: EndTurns) -> None:
    await anyio.sleep_forever()


async def test_an_item_of_a_job_waits_for_no_turn(
    api: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EndTurns, "wait_for_turn", wait_for_ever)
    data_dir, project_dir = tmp_path / "data", str(tmp_path)  # the latter gets the job's output
    async with connect("memory", "auto", data_dir, base_url=api.url, project_dir=project_dir) as session:
        with anyio.fail_after(60):
            arguments = {"items": ["tea", "cake"], "prompt": "What is {item}?"}
            result = await session.client.call_tool("claude_map", arguments)
    assert not result.is_error
    assert [row["end"] for row in session.ledger_rows()] == ["complete"] * 2


async def test_the_text_of_an_answer_that_waits_for_its_end_is_sent_and_its_request_closed_if_it_is_cancelled(
    api: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.reset()
    monkeypatch.setattr(EndTurns, "wait_for_turn", wait_for_ever)
    text, is_whole = "", anyio.Event()

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        nonlocal text
        del progress, total
        text += message or ""
        if text in [each.text for each in message_requests(api)]:
            is_whole.set()

    async with connect("memory", "auto", tmp_path / "data", base_url=api.url) as session:

        async def ask() -> None:
            await session.client.call_tool(
                "claude_ask", {"prompt": "What is tea?"}, progress_callback=on_progress, meta={STYLE_META: "text"}
            )

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            with anyio.fail_after(60):
                await is_whole.wait()
            tasks.cancel_scope.cancel()
    (row,) = session.ledger_rows()
    assert (row["state"], row["end"]) == ("closed", "cancelled")
    assert row["output_tokens"]
