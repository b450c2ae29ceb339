from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest

from mcp_server_claude import number_formatting, pricing
from mcp_server_claude.anthropic_api.models.model_capabilities import ClaudeModel
from mcp_server_claude.call_types import CHARS_PER_TOKEN, Call, Limits
from mcp_server_claude.engine.spending_limit import DEFAULT_RESERVED_TOKENS, SpendingLimit
from mcp_server_claude.settings import Settings
from mcp_server_claude.simulator import Pace, Simulator, directive
from mcp_server_claude.store.budget_reservations import InsufficientBudget
from support.mcp_session import FAKE_KEY, McpSession, connect, failure_meta, text_blocks, usage_meta
from support.server_database import change_rows, database_fields, select_rows

if TYPE_CHECKING:
    from pathlib import Path

    from mcp.types import CallToolResult

    from mcp_server_claude.pricing import PriceRates
    from mcp_server_claude.simulator import LoggedRequest

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("each_database")]
MODEL = "claude-sonnet-5-5"
FAST = Pace(ttft_s=0, tokens_per_s=0)
LONG_VALUE: dict[str, object] = {"type": "object", "properties": {"tea": {"const": "tea " * 400}}, "required": ["tea"]}


def rates(model: str = MODEL) -> PriceRates:
    found = pricing.find_rates(model)
    assert found is not None
    return found


def micros(tokens: int, per_million: Decimal) -> int:
    return math.ceil(tokens * per_million)


def requests_to(api: Simulator, path: str = "/v1/messages") -> list[LoggedRequest]:
    return [record for record in api.requests if record.path == path]


def max_tokens(record: LoggedRequest) -> int:
    return cast("int", cast("dict[str, object]", record.body)["max_tokens"])


def cost(result: CallToolResult) -> int:
    """What the account says that a call cost, in micro-dollars."""
    return round(cast("float", usage_meta(result)["cost_usd"]) * 1_000_000)


def budget(data_dir: Path) -> tuple[int, int]:
    """What is spent and what is held of the day, in micro-dollars."""
    rows = select_rows(data_dir, "select spent, held from budget where scope = 'total'")
    (holds,) = select_rows(data_dir, "select coalesce(sum(micros), 0) as micros from hold where scope = 'total'")
    assert len(rows) <= 1
    spent, held = (rows[0]["spent"], rows[0]["held"]) if rows else (0, 0)
    assert held == holds["micros"]
    return spent, held


async def during(session: McpSession, api: Simulator, *, think: int = 0, **arguments: object) -> tuple[int, int]:
    """The budget while a call streams that stalls after a word or two; then it is cancelled."""
    reported = anyio.Event()
    found: list[tuple[int, int]] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        assert progress >= 0
        assert total is None
        if message:
            reported.set()

    prompt = f"Tell me. {directive(think=think, tokens=400, fault='stall', at=90)}"
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(
                lambda: session.client.call_tool(
                    "claude_ask", {"prompt": prompt, "model": MODEL, **arguments}, progress_callback=on_progress
                )
            )
            await reported.wait()
            found.append(budget(session.data_dir))
            tasks.cancel_scope.cancel()
        await api.wait_until_idle()
    await session.client.call_tool("claude_jobs", {})  # the store writes in order: by now the call is settled
    return found[0]


# --------------------------------------------------------------------- max_usd


@pytest.mark.parametrize("max_usd", [0.003, 0.0012345])
async def test_the_cost_limit_of_a_call_is_enforced_through_max_tokens_and_reported(
    upstream: Simulator, tmp_path: Path, max_usd: float
) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        result = await session.ask("Tell me. [[sim: tokens=5000]]", model=MODEL, max_usd=max_usd)
    (request,) = requests_to(upstream)
    left = round(max_usd * 1_000_000, 1) // 1 - micros(request.input_tokens, rates().cache_write)
    assert max_tokens(request) == math.floor(Decimal(left) / rates().output)
    answer, _, last = text_blocks(result)
    assert answer == request.text
    assert last.startswith("INCOMPLETE: it reached what the budget allows.")
    assert "max_usd" in last
    assert 0.9 * max_usd < cast("float", usage_meta(result)["cost_usd"]) <= max_usd
    assert usage_meta(result)["stop_reason"] == "max_tokens"


@pytest.mark.parametrize(
    ("sim", "schema", "sentence"),
    [
        (directive(think=5000, tokens=100), None, "output tokens that the budget allows were used for thinking."),
        ("", LONG_VALUE, "was used up before the JSON was complete."),
    ],
    ids=["thinking", "json"],
)
async def test_an_error_after_a_cut_by_a_budget_names_the_budget(
    upstream: Simulator, tmp_path: Path, sim: str, schema: dict[str, object] | None, sentence: str
) -> None:
    arguments: dict[str, Any] = {"schema": schema} if schema else {}
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        result = await session.ask(f"Tell me. {sim}", model=MODEL, max_usd=0.003, **arguments)
    assert failure_meta(result)["kind"] == "max_tokens"
    (message, *_) = text_blocks(result)
    assert sentence in message
    assert "Raise the limit (max_usd, or the budget a day)." in message
    assert "larger max_tokens" not in message
    assert 0 < cast("float", usage_meta(result)["cost_usd"]) <= 0.003


@pytest.mark.parametrize("cache", ["5m", "1h", "off"])
async def test_cache_writes_count_towards_the_limit(upstream: Simulator, tmp_path: Path, cache: str) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url, cache=cache) as session:
        result = await session.ask(f"{'tea ' * 4000}[[sim: tokens=5000]]", model=MODEL, max_usd=0.02)
    assert bool(usage_meta(result)["cache_creation_input_tokens"]) == (cache != "off")
    assert 0.019 < cast("float", usage_meta(result)["cost_usd"]) <= 0.02


async def test_an_answer_that_ends_at_max_tokens_does_not_name_the_budget_as_reason(
    upstream: Simulator, tmp_path: Path
) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        result = await session.ask("Tell me. [[sim: tokens=5000]]", model=MODEL, max_usd=1, max_tokens=100)
    assert max_tokens(requests_to(upstream)[0]) == 100
    assert "it reached max_tokens (100)" in text_blocks(result)[-1]


async def test_an_insufficient_limit_is_rejected_before_anything_is_sent(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        result = await session.ask("Tell me. " * 500, model=MODEL, max_usd=0.0001)
        assert session.ledger_rows() == []
    assert not requests_to(upstream)
    assert failure_meta(result)["kind"] == "max_usd"
    assert failure_meta(result)["class"] == "request_error"
    (outcomes,) = text_blocks(result)
    assert outcomes.startswith("max_usd of ")
    assert "is too low: the prompt and a short answer may cost $0.0" in outcomes
    assert usage_meta(result)["cost_usd"] == 0


async def test_the_cost_of_the_first_stream_reduces_the_limit_of_its_continuation(
    upstream: Simulator, tmp_path: Path
) -> None:
    max_usd = 0.01
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        with_cap = directive(think=0, tokens=5000, fault="eof", times=1, at=1000)
        result = await session.ask(f"Tell me. {with_cap}", model=MODEL, max_usd=max_usd)
        first, second = session.ledger_rows()
    assert cast("int", second["held_micros"]) == 10_000 - cast("int", first["cost_micros"])
    assert text_blocks(result)[-1].startswith("INCOMPLETE: it reached what the budget allows.")
    assert cast("float", usage_meta(result)["cost_usd"]) <= max_usd
    assert usage_meta(result)["resumed"] is True


async def test_a_stream_that_broke_after_uncounted_thinking_uses_up_the_limit_of_its_call(
    upstream: Simulator, tmp_path: Path
) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        with_cap = directive(think=30, tokens=5000, fault="eof", times=1, at=1000)
        result = await session.ask(f"Tell me. {with_cap}", model=MODEL, max_usd=0.01)
        (row,) = session.ledger_rows()
    answer, footer, last = text_blocks(result)
    assert answer == requests_to(upstream)[0].text
    assert last.startswith("INCOMPLETE: max_usd of ")
    surplus = cast("int", row["held_micros"]) - cast("int", row["cost_micros"])
    assert f"{number_formatting.format_usd(surplus / 1e6)} more counts against the limit" in footer


@pytest.mark.parametrize("limit", [{"max_usd": 0.004}, {"budget_usd_per_day": 0.004}], ids=["call", "day"])
async def test_the_estimate_of_a_request_that_broke_never_exceeds_what_was_reserved(
    upstream: Simulator, tmp_path: Path, limit: dict[str, float]
) -> None:
    """Its text has more characters a token than the estimate assumes, as most English prose has."""
    fields = {"base_url": upstream.url, "retry_for_s": 0} | {name: limit[name] for name in limit if name != "max_usd"}
    arguments: dict[str, Any] = {name: limit[name] for name in limit if name == "max_usd"}
    async with connect("memory", "auto", tmp_path / "data", **fields) as session:
        prompt = f"Tell me. {directive(think=0, tokens=5000, fault='drop', at=1550)}"
        result = await session.ask(prompt, model=MODEL, **arguments)
        assert usage_meta(result)["estimated"]
        assert usage_meta(result)["output_tokens"] == max_tokens(requests_to(upstream)[0]) < 1550 / CHARS_PER_TOKEN
        assert 0.9 * 4000 < cost(result) <= 4000
        if "budget_usd_per_day" in limit:
            assert budget(session.data_dir) == (cost(result), 0)


async def test_a_call_that_reached_its_limit_before_a_break_keeps_its_text(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        with_cap = directive(tokens=900, fault="eof", times=1, at=1000)
        result = await session.ask(f"Tell me. {with_cap}", model=MODEL, max_usd=0.0032)
    (request,) = requests_to(upstream)
    answer, _, last = text_blocks(result)
    assert answer == request.text
    assert last.startswith("INCOMPLETE: max_usd of ")
    assert " of it is left, and the prompt and a short answer may cost $" in last
    assert not result.is_error


# --------------------------------------------------------------------- the budget of a day


@pytest.mark.parametrize("think", [0, 30])
async def test_the_exact_limit_of_a_call_is_reserved_while_it_runs_and_released_on_cancellation(
    upstream: Simulator, tmp_path: Path, think: int
) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url, budget_usd_per_day=1) as session:
        spent, held = await during(session, upstream, max_tokens=1000, think=think)
        (request,) = requests_to(upstream)
        assert held == micros(request.input_tokens, rates().cache_write) + micros(1000, rates().output)
        assert spent == 0
        (line,) = session.ledger_rows()
        assert line["end"] == "cancelled"
        assert line["held_micros"] == held
        # Thinking that the API has not counted may have cost all of the reservation.
        assert budget(session.data_dir) == (line["held_micros" if think else "cost_micros"], 0)
        assert 0 < cast("int", line["cost_micros"]) < held


async def test_after_an_answer_its_cost_is_recorded_and_nothing_is_reserved(
    upstream: Simulator, tmp_path: Path
) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url, budget_usd_per_day=1) as session:
        results = [await session.ask(f"Tell me. [[sim: tokens={n}]]", model=MODEL) for n in (10, 700)]
        assert budget(session.data_dir) == (sum(map(cost, results)), 0)


@pytest.mark.parametrize("fault", ["status=400", "status=401", "fault=html", "fault=spend_limit", "stop=refusal at=0"])
async def test_after_a_failure_without_cost_nothing_is_reserved_or_recorded(
    upstream: Simulator, tmp_path: Path, fault: str
) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url, budget_usd_per_day=1) as session:
        result = await session.ask(f"Tell me. [[sim: {fault}]]", model=MODEL)
        assert result.is_error
        assert budget(session.data_dir) == (0, 0)


@pytest.mark.parametrize("display", ["omitted", "summarized"])
async def test_a_request_that_broke_after_uncounted_thinking_counts_as_reserved_and_the_footer_reports_it(
    tmp_path: Path, display: str
) -> None:
    async with (
        Simulator(pace=FAST, default_thinking=True) as upstream,
        connect(
            "memory", "auto", tmp_path / "data", base_url=upstream.url, budget_usd_per_day=1, thinking_display=display
        ) as session,
    ):
        prompt = f"Tell me. {directive(tokens=400, think=300, fault='eof', times=1, at=900)}"
        result = await session.ask(prompt, model=MODEL, max_tokens=1000)
        first, second = session.ledger_rows()
        spent, held = budget(session.data_dir)
    reserved = cast("int", first["held_micros"])
    surplus = reserved - cast("int", first["cost_micros"])
    assert (spent, held) == (reserved + cast("int", second["cost_micros"]), 0)
    assert spent - cost(result) == surplus > 0
    note = f"{number_formatting.format_usd(surplus / 1e6)} more counts against the limit: a request broke off"
    assert note in text_blocks(result)[1]


async def test_a_request_that_broke_after_a_search_counts_as_reserved(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url, budget_usd_per_day=9) as session:
        prompt = f"Tea? {directive(search='on', fault='drop')}"
        result = await session.ask(prompt, tools=["web"], model=MODEL, max_tokens=1000)
        (row,) = session.ledger_rows()
        assert budget(session.data_dir) == (row["held_micros"], 0)
    assert "more counts against the limit" in "".join(text_blocks(result))


async def test_every_attempt_and_continuation_has_a_reservation_of_its_own(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url, budget_usd_per_day=1) as session:
        result = await session.ask(
            f"Tell me. {directive(think=0, tokens=900, fault='eof', times=1, at=1400)}", model=MODEL, max_tokens=1000
        )
        first, second = session.ledger_rows()
        assert budget(session.data_dir) == (cost(result), 0)
    one, two = requests_to(upstream)
    assert len(requests_to(upstream, "/v1/messages/count_tokens")) == 2
    assert max_tokens(two) == 1000 - round(1400 / CHARS_PER_TOKEN)
    for line, request in ((first, one), (second, two)):
        entrance = micros(request.input_tokens, rates().cache_write)
        assert line["held_micros"] == entrance + micros(max_tokens(request), rates().output)
    assert usage_meta(result)["complete"] is True


async def test_a_paused_turn_is_reserved_again_when_it_resumes(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url, budget_usd_per_day=1) as session:
        await session.ask("Look it up. [[sim: stop=pause_turn]]", model=MODEL, max_tokens=1000)
        assert [cast("int", line["held_micros"]) > 0 for line in session.ledger_rows()] == [True, True]
        assert budget(session.data_dir)[1] == 0


async def test_a_call_without_max_tokens_reserves_no_more_than_16000(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url, budget_usd_per_day=9) as session:
        _, held = await during(session, upstream)
        await session.ask("x", model=MODEL, max_tokens=20_000)
    unasked, with_cap = requests_to(upstream)
    assert max_tokens(unasked) == DEFAULT_RESERVED_TOKENS == 16_000
    assert held == micros(unasked.input_tokens, rates().cache_write) + micros(16_000, rates().output)
    assert max_tokens(with_cap) == 20_000


async def test_an_answer_is_limited_to_the_rest_of_the_daily_budget_and_the_next_is_rejected(
    upstream: Simulator, tmp_path: Path
) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url, budget_usd_per_day=0.004) as session:
        cut = await session.ask("Tell me. [[sim: tokens=5000]]", model=MODEL)
        upstream.reset()
        refused = await session.ask("Tell me. [[sim: tokens=5000]]", model=MODEL)
        spent, held = budget(session.data_dir)
    assert text_blocks(cut)[-1].startswith("INCOMPLETE: it reached what the budget allows.")
    assert (spent, held) == (cost(cut), 0)
    assert spent <= 4000
    assert not requests_to(upstream)
    now = datetime.now(UTC)
    reset = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    (outcomes,) = text_blocks(refused)
    assert outcomes.startswith("The server's budget of $0.0040 a day has ")
    assert f"It resets at {reset:%Y-%m-%d} 00:00 UTC." in outcomes
    assert failure_meta(refused)["kind"] == "budget"
    assert failure_meta(refused)["retryable"] is True
    wait = cast("float", failure_meta(refused)["retry_after_s"])
    assert abs(wait - (reset - now).total_seconds()) < 60


async def test_concurrent_calls_of_two_servers_never_exceed_the_daily_budget_together(
    upstream: Simulator, tmp_path: Path
) -> None:
    where = tmp_path / "data"
    cap = 0.02
    results: list[CallToolResult] = []

    async def ask(session: McpSession, n: int) -> None:
        results.append(await session.ask(f"{n} [[sim: tokens=500]]", model=MODEL, max_tokens=900))

    async with (
        connect("memory", "auto", where, base_url=upstream.url, budget_usd_per_day=cap) as one,
        connect("memory", "auto", where, base_url=upstream.url, budget_usd_per_day=cap) as two,
    ):
        await one.info()
        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                for n in range(24):
                    tasks.start_soon(ask, one if n % 2 else two, n)
        spent, held = budget(where)
    answered = [result for result in results if not result.is_error]
    assert {failure_meta(result)["kind"] for result in results if result.is_error} == {"budget"}
    assert 0 < sum(map(cost, answered)) == spent <= 20_000
    assert held == 0
    assert len(answered) == len(requests_to(upstream))


# --------------------------------------------------------------------- users

ASK = """
import json, sys
import anyio
from mcp_server_claude.errors import CallError
from mcp_server_claude.call_types import Call, Limits
from mcp_server_claude.services.lazy_services import Services
from mcp_server_claude.settings import Settings

fields, who = json.loads(sys.argv[1]), json.loads(sys.argv[2])

async def main():
    outcomes = []

    async def ask(jobs, user, cap, n):
        limits = Limits(usd_per_day=cap)
        prompt = f"{user} {n} [[sim: tokens=500]]"
        call = Call(prompt=prompt, model="claude-sonnet-5-5", max_tokens=900, user=user, limits=limits)
        try:
            reply = await jobs.run_call(call, lambda event: None)
            outcomes.append([user, round(reply.usage.cost_usd * 1e6), ""])
        except CallError as failure:
            outcomes.append([user, 0, f"{failure.kind}: {failure}"])

    async with Services.lifespan(Settings.model_validate(fields)) as services:
        jobs = (await services.open()).calls
        print("ready", flush=True)
        sys.stdin.readline()
        async with anyio.create_task_group() as tasks:
            for user, cap, calls in who:
                for n in range(calls):
                    tasks.start_soon(ask, jobs, user, cap, n)
    print(json.dumps(outcomes), flush=True)

anyio.run(main)
"""


def ask_in_two_processes(
    who: list[tuple[str, float | None, int]], **fields: object
) -> dict[str, tuple[int, list[str]]]:
    """Each user's calls at once in two real processes: the cost of the answered ones, in micro-dollars, and the errors
    of the others.
    """
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    fields |= database_fields(fields["data_dir"])
    arguments = [json.dumps({"api_key": FAKE_KEY} | fields, default=str), json.dumps(who)]
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", ASK, *arguments],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    env=environment,
                )
            )
            for _ in range(2)
        ]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        text = [json.loads(process.communicate()[0]) for process in processes]
    outcomes: list[tuple[str, int, str]] = [outcome for each in text for outcome in each]
    return {
        name: (
            sum(cost for user, cost, _ in outcomes if user == name),
            [why for user, _, why in outcomes if user == name and why],
        )
        for name, *_ in who
    }


def scopes(data_dir: Path) -> dict[str, tuple[int, int]]:
    """What is spent and what is held in each scope, in micro-dollars."""
    assert select_rows(data_dir, "select * from hold") == []
    rows = select_rows(data_dir, "select scope, spent, held from budget")
    return {row["scope"]: (row["spent"], row["held"]) for row in rows}


@pytest.mark.slow
async def test_a_spent_budget_of_one_user_stops_no_other_user(upstream: Simulator, tmp_path: Path) -> None:
    where = tmp_path / "data"
    who: list[tuple[str, float | None, int]] = [("ada", 0.02, 10), ("bob", 5.0, 6), ("eve", None, 3)]
    spent = await anyio.to_thread.run_sync(
        lambda: ask_in_two_processes(who, base_url=upstream.url, data_dir=where, max_concurrent=8)
    )
    (adas, refused), (bobs, bob_refused), (_, eve_refused) = spent.values()
    assert bob_refused == eve_refused == []
    assert 0 < adas <= 20_000
    assert 0 < len(refused) < 20
    assert all(why.startswith("budget: Your budget of $0.020 a day has ") for why in refused)
    assert all("It resets at " in why and why.endswith(" 00:00 UTC. Nothing more was sent.") for why in refused)
    assert scopes(where) == {"user:ada": (adas, 0), "user:bob": (bobs, 0)}
    assert len(requests_to(upstream)) == 20 - len(refused) + 12 + 6


async def test_the_budget_of_the_server_holds_for_all_users_together_and_each_user_has_one_below_it(
    upstream: Simulator, tmp_path: Path
) -> None:
    where = tmp_path / "data"
    who: list[tuple[str, float | None, int]] = [("ada", 0.01, 6), ("bob", 0.5, 10)]
    spent = await anyio.to_thread.run_sync(
        lambda: ask_in_two_processes(who, base_url=upstream.url, data_dir=where, budget_usd_per_day=0.04)
    )
    (adas, _), (bobs, bob_refused) = spent.values()
    assert adas <= 10_000
    assert 0 < adas + bobs <= 40_000
    assert {why[: why.index("$")] for why in bob_refused} == {"budget: The server's budget of "}
    assert scopes(where) == {"user:ada": (adas, 0), "user:bob": (bobs, 0), "total": (adas + bobs, 0)}


@pytest.mark.slow
async def test_the_cost_of_a_user_before_their_budget_was_set_counts(upstream: Simulator, tmp_path: Path) -> None:
    where = tmp_path / "data"

    def with_cap(cap: float | None) -> tuple[int, list[str]]:
        return ask_in_two_processes([("ada", cap, 1)], base_url=upstream.url, data_dir=where)["ada"]

    before, refused = await anyio.to_thread.run_sync(with_cap, None)
    assert before > 0
    assert not refused
    _, refused = await anyio.to_thread.run_sync(with_cap, before / 1e6)
    assert len(refused) == 2
    assert "has $0 left" in refused[0]
    assert len(requests_to(upstream)) == 2


@pytest.mark.sqlite_only
def test_an_exceeded_budget_is_reported_with_its_owner(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, budget_usd_per_day=10)
    spending_limit = SpendingLimit(
        settings, Call(prompt="x", user="ada", limits=Limits(usd_per_day=2.0)), ClaudeModel(id=MODEL)
    )
    assert spending_limit.is_limited
    assert spending_limit.reservation_for(10, 1000).scopes == (("total", 10_000_000), ("user:ada", 2_000_000))
    mine, ours = (
        spending_limit.budget_error(InsufficientBudget("user:ada", 1500)),
        spending_limit.budget_error(InsufficientBudget("total", 0)),
    )
    assert str(mine).startswith("Your budget of $2.00 a day has $0.0015 left, too little for this call. It resets")
    assert str(ours).startswith("The server's budget of $10.00 a day has $0 left, too little for this call.")
    assert mine.kind == ours.kind == "budget"
    assert mine.should_retry is False


@pytest.mark.sqlite_only
def test_a_mythos_model_without_a_price_counts_as_a_fable_model(tmp_path: Path) -> None:
    fable = pricing.highest_rates("fable")
    assert fable is not None
    assert pricing.find_rates("claude-mythos-9") is None
    for model in (ClaudeModel(id="claude-mythos-9", line="mythos"), ClaudeModel(id="vendor/claude-mythos-9")):
        spending_limit = SpendingLimit(Settings(data_dir=tmp_path), Call(prompt="x", max_usd=5), model)
        assert spending_limit.reservation_for(1000, 1000).max_micros == micros(1000, fable.cache_write) + micros(
            1000, fable.output
        )


async def test_a_workspace_with_inference_in_the_us_reserves_and_records_a_tenth_more(tmp_path: Path) -> None:
    async with (
        Simulator(pace=FAST, inference_geo="us") as upstream,
        connect("memory", "auto", tmp_path / "data", base_url=upstream.url, budget_usd_per_day=1) as session,
    ):
        await session.ask("Tea?", model=MODEL, max_tokens=1000)
        result = await session.ask("Tea?", model=MODEL, max_tokens=1000)
        first, second = session.ledger_rows()
        spent, held = budget(session.data_dir)
    request = requests_to(upstream)[-1]
    price = (request.input_tokens * rates().input + request.output_tokens * rates().output) * Decimal("1.1")
    assert cost(result) == second["cost_micros"] == round(price)
    assert second["held_micros"] == micros(request.input_tokens, rates().cache_write * Decimal("1.1")) + micros(
        1000, rates().output * Decimal("1.1")
    )
    assert (spent, held) == (cast("int", first["cost_micros"]) + cast("int", second["cost_micros"]), 0)
    assert usage_meta(result)["inference_geo"] == second["inference_geo"] == "us"
    assert "inference in us" in text_blocks(result)[1]


# --------------------------------------------------------------------- prices, counting, and where nothing can be kept


async def test_an_unknown_price_counts_at_the_highest_of_its_family_and_is_reported(tmp_path: Path) -> None:
    dearest = pricing.highest_rates("haiku")
    assert dearest is not None
    async with (
        Simulator(pace=FAST, models="missing") as gateway,
        connect("memory", "auto", tmp_path / "data", base_url=gateway.url, budget_usd_per_day=1) as session,
    ):
        result = await session.ask("Tell me.", model="vendor/claude-haiku-99", max_tokens=1000)
        (line,) = session.ledger_rows()
        spent, held = budget(session.data_dir)
    (request,) = requests_to(gateway)
    assert line["held_micros"] == micros(request.input_tokens, dearest.cache_write) + micros(1000, dearest.output)
    price = (request.input_tokens * dearest.input + request.output_tokens * dearest.output) / 1_000_000
    assert spent == round(price * 1_000_000)
    assert held == 0
    assert usage_meta(result)["cost_usd"] is None
    assert line["cost_micros"] is None
    footer = text_blocks(result)[1]
    assert "the price of vendor/claude-haiku-99 is unknown: counted at the highest price of its family" in footer


async def test_without_a_limit_nothing_is_reported_about_the_highest_price(tmp_path: Path) -> None:
    async with (
        Simulator(pace=FAST, models="missing") as gateway,
        connect("memory", "auto", tmp_path / "data", base_url=gateway.url) as session,
    ):
        result = await session.ask("Tell me.", model="claude-haiku-99")
    assert "highest price" not in text_blocks(result)[1]
    assert "price unknown" in text_blocks(result)[1]


async def test_the_input_is_counted_only_with_a_cost_limit(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        await session.ask("x", model=MODEL, max_tokens=50)
        assert not requests_to(upstream, "/v1/messages/count_tokens")
        await session.ask("x", model=MODEL, max_usd=0.5)
        assert len(requests_to(upstream, "/v1/messages/count_tokens")) == 1


@pytest.mark.sqlite_only
@pytest.mark.skipif(sys.platform == "win32", reason="an open file cannot be removed there")
async def test_a_budget_whose_ledger_was_removed_is_rejected_and_the_running_call_goes_on(
    upstream: Simulator, tmp_path: Path
) -> None:
    fields = {"base_url": upstream.url, "budget_usd_per_day": 1}
    async with connect("memory", "auto", tmp_path / "data", **fields) as session:
        with anyio.fail_after(30):
            begun, released = anyio.Event(), anyio.Event()
            results: list[CallToolResult] = []
            refused: list[CallToolResult] = []

            async def on_progress(progress: float, total: float | None, message: str | None) -> None:
                assert (progress >= 0, total) == (True, None)
                if message:
                    begun.set()
                    await released.wait()

            async def ask() -> None:
                results.append(
                    await session.client.call_tool(
                        "claude_ask", {"prompt": "Tell me.", "model": MODEL}, progress_callback=on_progress
                    )
                )

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ask)
                await begun.wait()
                (tmp_path / "data" / "store.db").unlink()
                refused.append(await session.ask("x", model=MODEL))
                released.set()
    assert failure_meta(refused[0])["kind"] == "store"
    assert "A budget is set, but it cannot be kept. The ledger is not being kept: " in text_blocks(refused[0])[0]
    assert not results[0].is_error
    assert "was removed or replaced. Stop the server, delete " in text_blocks(results[0])[1]
    assert len(requests_to(upstream)) == 1


@pytest.mark.parametrize("limit", [None, 1])
async def test_a_call_whose_rows_are_deleted_while_it_runs_is_recorded_with_its_cost(
    upstream: Simulator, tmp_path: Path, limit: float | None
) -> None:
    data_dir = tmp_path / "data"
    fields = {"base_url": upstream.url} | ({"budget_usd_per_day": limit} if limit else {})
    async with connect("memory", "auto", data_dir, **fields) as session:
        await session.ask("First.", model=MODEL)
        deleted: list[str] = []

        async def on_progress(progress: float, total: float | None, message: str | None) -> None:
            assert (progress >= 0, total) == (True, None)
            if message and not deleted:
                deleted.append(message)
                change_rows(data_dir, "delete from hold; delete from entry; delete from budget; delete from process")

        prompt = f"Tell me. {directive(tokens=60, pace=200, chars=4)}"
        arguments = {"prompt": prompt, "model": MODEL}
        result = await session.client.call_tool("claude_ask", arguments, progress_callback=on_progress)
        assert deleted
        assert not result.is_error
        costs = [cost(result), cost(await session.ask("Last.", model=MODEL))]
        rows = select_rows(data_dir, 'select state, "end", cost_micros from entry order by started_at')
        assert rows == [{"state": "closed", "end": "complete", "cost_micros": each} for each in costs]
        assert budget(data_dir) == ((sum(costs) if limit else 0), 0)


@pytest.mark.sqlite_only
async def test_a_budget_without_a_ledger_on_disk_is_rejected_and_nothing_is_sent(
    upstream: Simulator, tmp_path: Path
) -> None:
    """The data directory cannot be made: a file is in its way."""
    where = tmp_path / "data"
    where.write_text("in the way")
    async with connect("memory", "auto", where, base_url=upstream.url, budget_usd_per_day=1) as session:
        result = await session.ask("x")
    assert failure_meta(result)["class"] == "configuration_error"
    assert failure_meta(result)["kind"] == "store"
    assert "A budget is set, but it cannot be kept. The ledger is kept in memory: " in text_blocks(result)[0]
    assert not requests_to(upstream)
    async with connect("memory", "auto", where, base_url=upstream.url) as session:
        result = await session.ask("x")
    assert not result.is_error
    assert "The ledger is kept in memory: " in text_blocks(result)[1]
