"""Whatever goes wrong upstream, and whenever: each call ends in one of four ways and is complete in the ledger."""

from __future__ import annotations

import asyncio
import gc
import random
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from mcp_server_claude.simulator import Pace, Simulator
from support.chaos.call_plans import CallPlan, random_plans
from support.chaos.call_results import OUTCOMES, CallResult, ask_all, classify, find_violations, poll_until
from support.mcp_session import McpSession, connect

if TYPE_CHECKING:
    from support.chaos.chaos_size import ChaosSize

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("each_database")]

EACH = 300
"""Calls in a round; the simulator's headers allow 4,000 requests a minute, and chance makes about two of a call."""
ALSO = ("status", "error", "drop", "fin", "eof", "malformed", "badindex", "badutf8", "empty")
IMPATIENT: dict[str, Any] = {
    "bytes_timeout_s": 2.0,
    "event_timeout_s": 2.5,
    "retry_for_s": 5,
    "max_retries": 5,
    "max_concurrent": 40,
    "heartbeat_s": 0.5,
    "models_wait_s": 30,
    "log_level": "error",
}


@dataclass
class Half:
    """Half of a round: in one of them chance adds faults of its own, so that several kinds come in a row."""

    api: Simulator
    session: McpSession
    plans: list[CallPlan]
    outcomes: list[CallResult] = field(default_factory=list[CallResult])

    async def run(self) -> None:
        self.outcomes = await ask_all(self.session, self.plans, at_once=60)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts what is open as Linux tells it")
async def test_every_call_ends_in_one_of_four_ways_and_is_complete_in_the_ledger(
    size: ChaosSize, tmp_path: Path
) -> None:
    ends: Counter[str] = Counter()
    short: Counter[str] = Counter()
    for number, first in enumerate(range(0, size.calls, EACH)):
        seed = size.seed + number
        random.seed(seed)  # of the jitter between two tries
        before = open_files()
        (tmp_path / str(number)).mkdir()
        wrong = await a_round(
            seed, random_plans(seed, min(EACH, size.calls - first), first=first), tmp_path / str(number), ends, short
        )
        assert not wrong, f"seed {seed}, {len(wrong)} wrong:\n" + "\n".join(wrong[:20])
        gc.collect()
        with anyio.fail_after(30):
            await poll_until(lambda before=before: open_files() == before)
    assert set(OUTCOMES) <= set(ends), ends
    assert short.total() < size.calls / 2, short


async def a_round(
    seed: int, plans: list[CallPlan], directory: Path, ends: Counter[str], short: Counter[str]
) -> list[str]:
    """What is wrong, and how its calls ended: all, and those that came to no whole answer on a machine that kept up."""
    stormy = [plan if plan.expected == "refused" else replace(plan, expected="any") for plan in plans[1::2]]
    pace = Pace(ttft_s=0.003, tokens_per_s=0)
    async with (
        Simulator(pace=pace) as calm_api,
        Simulator(pace=pace, fault_rate=0.15, faults=ALSO, seed=seed) as stormy_api,
        connect("memory", "auto", directory / "calm", base_url=calm_api.url, **IMPATIENT) as calm_session,
        connect("memory", "legacy", directory / "storm", base_url=stormy_api.url, **IMPATIENT) as stormy_session,
    ):
        halves = [Half(calm_api, calm_session, plans[::2]), Half(stormy_api, stormy_session, stormy)]
        for half in halves:
            await half.session.ask("Call #99999. Warm up.")
        idle = tasks()
        async with anyio.create_task_group() as both:
            for half in halves:
                both.start_soon(half.run)
        with anyio.fail_after(30):
            for half in halves:
                await half.api.wait_until_idle()
                await half.session.info(about="usage", since="today")  # comes after whatever was posted
            await poll_until(lambda: tasks() == idle)
        wrong = [each for half in halves for each in find_violations(half.outcomes, half.api, half.session.data_dir)]
    if not wrong:
        for outcome in halves[0].outcomes + halves[1].outcomes:
            end = "cancelled" if outcome.result is None else classify(outcome)
            ends[end] += 1
            short[end] += end != "complete" and not outcome.ran_while_stalled
    return wrong


def tasks() -> Counter[str]:
    """The tasks of this event loop, by what they run."""
    return Counter(getattr(task.get_coro(), "__qualname__", "?") for task in asyncio.all_tasks())


def open_files() -> Counter[str]:
    """What this process holds open, by kind."""
    found: Counter[str] = Counter()
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the one that lists them is gone
            found[str(descriptor.readlink()).partition(":")[0]] += 1
    return found
