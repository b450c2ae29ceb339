"""Two servers on one database: under load, and with a budget that fifty calls want at once."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from mcp_server_claude.simulator import Pace, Simulator, directive
from support.chaos import stored_calls
from support.chaos.call_plans import CallPlan, call_marker, random_plans
from support.chaos.call_results import CallResult, ask_all, classify, find_violations
from support.mcp_session import FAILURE_META, connect, text_blocks
from support.server_database import select_rows

if TYPE_CHECKING:
    from pathlib import Path

    from support.chaos.chaos_size import ChaosSize

pytestmark = [pytest.mark.usefixtures("each_database"), pytest.mark.anyio, pytest.mark.slow]

BUDGET_USD = 0.1
IMPATIENT: dict[str, Any] = {
    "bytes_timeout_s": 2.0,
    "event_timeout_s": 3.0,
    "retry_for_s": 5,
    "max_retries": 5,
    "max_concurrent": 25,
    "models_wait_s": 30,
    "log_level": "error",
}


async def ask_two_servers(api: Simulator, data_dir: Path, plans: list[CallPlan], **fields: Any) -> list[CallResult]:
    """Every second call over stdio to one server process, the others to another; both on one database."""
    outcomes: list[CallResult] = []

    async def use(name: str, share: list[CallPlan]) -> None:
        async with connect("stdio", "auto", data_dir, base_url=api.url, **(IMPATIENT | fields)) as session:
            await session.info(about="models")
            ready[name].set()
            await both_are_ready()
            outcomes.extend(await ask_all(session, share, at_once=25))
            await session.client.call_tool("claude_jobs", {})  # after all that was posted: an exit waits half a second

    async def both_are_ready() -> None:
        for each in ready.values():
            await each.wait()

    ready = {"one": anyio.Event(), "two": anyio.Event()}
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(use, "one", plans[::2])
        tasks.start_soon(use, "two", plans[1::2])
    with anyio.fail_after(30):
        await api.wait_until_idle()
    return outcomes


async def test_two_servers_on_one_database_lose_nothing_and_report_no_error(size: ChaosSize, tmp_path: Path) -> None:
    plans = random_plans(size.seed - 1, max(40, size.calls // 10))
    async with Simulator(pace=Pace(ttft_s=0.003, tokens_per_s=0)) as api:
        outcomes = await ask_two_servers(api, tmp_path / "data", plans)
        wrong = find_violations(outcomes, api, tmp_path / "data")
    assert not wrong, f"seed {size.seed - 1}, {len(wrong)} wrong:\n" + "\n".join(wrong[:20])
    assert len(outcomes) == len(plans)
    for outcome in outcomes:
        if outcome.result is not None:
            assert "ledger" not in "".join(text_blocks(outcome.result)[1:]), outcome.plan
    workers = {row["worker"] for rows in stored_calls.ledger_by_call(tmp_path / "data").values() for row in rows}
    assert len(workers) == 2


async def test_fifty_concurrent_calls_of_two_servers_never_exceed_the_budget_together(
    size: ChaosSize, tmp_path: Path
) -> None:
    chance = random.Random(size.seed)
    plans = [dear(chance, number) for number in range(150)]  # fifty at a time
    async with Simulator(pace=Pace(ttft_s=0.02, tokens_per_s=3_000), max_count_delay_s=0.5) as api:
        outcomes = await ask_two_servers(api, tmp_path / "data", plans, budget_usd_per_day=BUDGET_USD)
        records = [record for each in stored_calls.requests_by_call(api.requests).values() for record in each]
        wrong = find_violations(outcomes, api, tmp_path / "data")
    assert not wrong, f"seed {size.seed}, {len(wrong)} wrong:\n" + "\n".join(wrong[:20])
    # What was still on the wire when a caller left, nobody can count: those requests count as they were booked.
    lines = select_rows(tmp_path / "data", "select request_id, cost_micros from entry where \"end\" = 'cancelled'")
    left = {line["request_id"] for line in lines}
    spent = round(
        sum(stored_calls.true_cost(record) for record in records if record.request_id not in left) * 1_000_000
    )
    spent += sum(line["cost_micros"] or 0 for line in lines)
    # How many are refused while the first ones hold the budget is a matter of speed.
    assert 0 < spent <= 1e6 * BUDGET_USD, f"seed {size.seed}"
    (budget,) = select_rows(tmp_path / "data", "select * from budget")
    assert budget["held"] == 0
    assert not select_rows(tmp_path / "data", "select * from hold")
    assert spent - len(records) <= budget["spent"] <= 1e6 * BUDGET_USD, f"seed {size.seed}"  # each line is rounded
    ends = [classify(outcome) for outcome in outcomes if outcome.result is not None]
    assert "refused" in ends, ends
    assert {"complete", "incomplete"} & set(ends), (
        ends
    )  # whether the budget cuts all that it admits is a matter of speed
    for outcome in outcomes:
        if outcome.result is not None and classify(outcome) == "refused":
            assert outcome.result.meta is not None
            assert outcome.result.meta[FAILURE_META]["kind"] == "budget"


def dear(chance: random.Random, number: int) -> CallPlan:
    """A call that costs about a hundredth of a dollar; some break, and some are cancelled."""
    keys: dict[str, Any] = {"tokens": chance.choice((50, 400, 900))}
    if chance.random() < 0.3:
        keys |= {"fault": chance.choice(("drop", "eof", "error", "fin")), "times": 1, "at": chance.randrange(300)}
    model = chance.choice(("sonnet", "claude-haiku-4-5", "claude-sonnet-4-6", "opus"))
    arguments: dict[str, object] = {"model": model, "max_tokens": chance.choice((0, 300, 1_000))}
    plan = CallPlan(
        number=number, prompt=f"{call_marker(number)} {directive(**keys)}", label=f"{keys}", arguments=arguments
    )
    return replace(plan, cancel_after_s=chance.random() * 0.5) if chance.random() < 0.15 else plan
