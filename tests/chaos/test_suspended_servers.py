"""Servers that are suspended and resumed, with clocks that step, on one database: the budget holds, and every owner
closes
its own requests.
"""

from __future__ import annotations

import random
import signal
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest

from mcp_server_claude.simulator import Pace, Simulator, directive
from support.chaos import stored_calls
from support.chaos.call_plans import call_marker
from support.chaos.call_results import poll_until
from support.chaos.stepped_clock import SteppedClock
from support.mcp_session import FAILURE_META, connect
from support.server_database import MissingDatabaseError, Row, select_rows
from support.stdio_process import Message, StdioProcess, stdio_process, tool_call

if TYPE_CHECKING:
    from pathlib import Path

    from support.chaos.chaos_size import ChaosSize

pytestmark = [
    pytest.mark.usefixtures("each_database"),
    pytest.mark.anyio,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's"),
]

SERVERS = 3
CALLS = 12
"""Calls in flight in each."""
BUDGET_USD = 0.05
STEPS_S = (-86_400 * 400, -3_600, -40, 0, 40, 3_600, 86_400 * 400)


@dataclass
class Victim:
    """A server that is stopped again and again while its calls are answered."""

    first: int
    clock: SteppedClock
    stdio: StdioProcess
    results: dict[int, Message] = field(default_factory=dict[int, Message])

    @property
    def is_done(self) -> bool:
        return len(self.results) == CALLS

    async def read_results(self) -> None:
        for number in range(self.first, self.first + CALLS):
            self.results[number] = cast("Message", (await self.stdio.read_response(number))["result"])

    async def suspend_and_step(self, chance: random.Random) -> None:
        while not self.is_done:
            self.clock.step_to(chance.choice(STEPS_S))
            await anyio.sleep(chance.random() * 0.3)
            self.stdio.process.send_signal(signal.SIGSTOP)
            self.clock.step_to(chance.choice(STEPS_S))
            await anyio.sleep(chance.random() * 0.7)
            self.stdio.process.send_signal(signal.SIGCONT)


async def test_budgets_hold_while_servers_are_suspended_clocks_step_and_counts_are_slow(
    size: ChaosSize, tmp_path: Path
) -> None:
    for number in range(max(1, size.kills // 10)):
        seed = size.seed + number
        chance = random.Random(seed)
        data_dir = tmp_path / f"data-{number}"
        async with Simulator(pace=Pace(ttft_s=0.02, tokens_per_s=2_000), max_count_delay_s=0.5) as api:
            results = await a_round(api, data_dir, chance)
            await api.wait_until_idle()
            records = stored_calls.requests_by_call(api.requests)
        where = f"seed {seed}"
        kinds = {failure_kind(result) for result in results.values()}
        assert kinds <= {"", "budget", "stream_timeout", "deadline"}, where
        rows = select_rows(data_dir, "select * from entry")
        assert {row["state"] for row in rows} <= {"closed"}, where
        assert "interrupted" not in {row["end"] for row in rows}, f"{where}: a suspended server was taken for dead"
        assert len(rows) >= sum(map(len, records.values())), where
        (budget,) = select_rows(data_dir, "select * from budget")
        assert budget["held"] == 0, where
        assert not select_rows(data_dir, "select * from hold where spent < 0"), where
        booked = sum(row["cost_micros"] or 0 for row in rows)
        assert booked - len(rows) <= budget["spent"] <= 1e6 * BUDGET_USD, where
        exact = {row["request_id"] for row in rows if not row["estimated"]}
        true_micros = sum(
            round(stored_calls.true_cost(record) * 1_000_000)
            for each in records.values()
            for record in each
            if record.request_id in exact
        )
        assert true_micros <= 1e6 * BUDGET_USD, where


async def a_round(api: Simulator, data_dir: Path, chance: random.Random) -> dict[int, Message]:
    """The results of all calls of the servers of one round."""
    fields: dict[str, Any] = {"base_url": api.url, "budget_usd_per_day": BUDGET_USD, "log_level": "warning"}
    victims: list[Victim] = []
    async with anyio.create_task_group() as servers:

        async def live(place: int, seed: int) -> None:
            clock = SteppedClock(data_dir.parent / f"{data_dir.name}-clock-{place}")
            name = f"{data_dir.name}-{place}"
            async with stdio_process(data_dir, command=clock.command(), name=name, **fields) as stdio:
                await stdio.initialize()
                victim = Victim(place * CALLS, clock, stdio)
                for call in range(victim.first, victim.first + CALLS):
                    await stdio.send(expensive_call(chance, call))
                victims.append(victim)
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(victim.suspend_and_step, random.Random(seed))
                    await victim.read_results()
                stdio.process.send_signal(signal.SIGCONT)
                stdio.close_stdin()
                assert await stdio.wait_for_exit() == 0

        for place in range(SERVERS):
            servers.start_soon(live, place, chance.randrange(2**32))
        await poll_until(lambda: len(victims) == SERVERS)
        async with connect("memory", "auto", data_dir, **fields) as session:
            while not all(victim.is_done for victim in victims):
                await session.client.call_tool("claude_jobs", {})  # closes what dead processes left open
                await anyio.sleep(0.1)
    return {number: result for victim in victims for number, result in victim.results.items()}


def expensive_call(chance: random.Random, number: int) -> Message:
    keys: dict[str, Any] = {"tokens": chance.choice((50, 300, 600)), "think": 0}
    if chance.random() < 0.3:
        keys |= {"fault": chance.choice(("drop", "eof", "error")), "times": 1, "at": chance.randrange(300)}
    return tool_call(
        number, f"{call_marker(number)} {directive(**keys)}", model=chance.choice(("haiku", "sonnet")), max_tokens=1_000
    )


def failure_kind(result: Message) -> str:
    meta = cast("dict[str, dict[str, str]]", result.get("_meta") or {})
    return meta[FAILURE_META]["kind"] if FAILURE_META in meta else ""


async def test_a_suspended_server_keeps_its_reservation_and_records_its_cost(tmp_path: Path) -> None:
    """Meanwhile another one, whose clock is ahead, lists the calls and finds the budget taken."""
    data_dir = tmp_path / "data"
    clock = SteppedClock(tmp_path / "clock")
    async with Simulator(pace=Pace(ttft_s=0, tokens_per_s=0)) as api:
        fields: dict[str, Any] = {"base_url": api.url, "budget_usd_per_day": 0.02, "log_level": "warning"}
        async with (
            stdio_process(data_dir, real=True, name="owner", **fields) as owner,
            stdio_process(data_dir, command=clock.command(), name="other", **fields) as other,
        ):
            await owner.initialize()
            await other.initialize()
            # 1,000 tokens of Sonnet cost $0.015, so that there is no room for a second one.
            text = "x" * 3_000
            prompt = f"{call_marker(0)} {directive(text=text, pace=400, chars=40)}"
            await owner.send(tool_call(0, prompt, model="claude-sonnet-4-6", max_tokens=1_000))
            await poll_until(lambda: bool(open_requests(data_dir)))
            owner.process.send_signal(signal.SIGSTOP)
            clock.step_to(86_400 * 400)
            await other.send(tool_call(1, "", tool="claude_jobs"))
            await other.read_response(1)
            call = tool_call(2, f"{call_marker(2)} Again.", model="claude-sonnet-4-6", max_tokens=1_000, max_usd=0.015)
            await other.send(call)
            second = cast("Message", (await other.read_response(2))["result"])
            assert [row["state"] for row in open_requests(data_dir)] == ["open"]
            owner.process.send_signal(signal.SIGCONT)
            first = cast("Message", (await owner.read_response(0))["result"])
        assert cast("list[dict[str, str]]", first["content"])[0]["text"] == text
        rows = stored_calls.ledger_by_call(data_dir)
        assert [row["end"] for row in rows[0]] == ["complete"]
        assert failure_kind(second) in {"budget", ""}  # what little was left may be enough for a short answer
        (budget,) = select_rows(data_dir, "select * from budget")
        spent = sum(row["cost_micros"] for each in rows.values() for row in each)
        assert (budget["held"], budget["spent"]) == (0, spent)
        assert budget["spent"] <= 20_000


def open_requests(data_dir: Path) -> list[Row]:
    try:
        return select_rows(data_dir, "select * from entry where state = 'open'")
    except MissingDatabaseError:  # not made yet
        return []
