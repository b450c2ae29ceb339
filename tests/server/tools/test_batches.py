"""`batch=true`: the same answers through the Message Batches API, at half the price."""

from __future__ import annotations

import json
import sqlite3
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest

from mcp_server_claude.jobs import batch_items, batch_submission, job_runner
from mcp_server_claude.simulator import Pace, Simulator, directive
from support.mcp_session import McpSession, connect
from support.simulator_requests import message_requests

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable
    from pathlib import Path

    from mcp.types import CallToolResult

pytestmark = pytest.mark.anyio
PATIENCE_S = 600.0
"""Seconds after which a test that hangs fails; how busy the machine is proves nothing."""


@pytest.fixture
async def api() -> AsyncIterator[Simulator]:
    """The API, where a batch has ended when it is looked at for the first time."""
    async with Simulator(pace=Pace(ttft_s=0, tokens_per_s=0)) as simulator:
        yield simulator


@pytest.fixture
async def slow_api() -> AsyncIterator[Simulator]:
    """The API, where batches are in progress until the test processes them."""
    async with Simulator(pace=Pace(ttft_s=0, tokens_per_s=0), batch_duration_s=None) as simulator:
        yield simulator


@pytest.fixture(autouse=True)
def _quick_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals that are as short as the simulator's batches."""
    monkeypatch.setattr(batch_items, "MIN_POLL_INTERVAL_S", 0.01)
    monkeypatch.setattr(job_runner, "JOB_POLL_INTERVAL_S", 0.05)


@pytest.fixture
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Soon a batch that cannot be found counts as never submitted."""
    monkeypatch.setattr(batch_submission, "SUBMISSION_GRACE_S", 0.2)


@asynccontextmanager
async def at_desk(api: Simulator, tmp_path: Path, **fields: Any) -> AsyncGenerator[McpSession]:
    project = tmp_path / "project"
    project.mkdir(exist_ok=True)
    async with connect(
        "memory", "auto", tmp_path / "data", base_url=api.url, project_dir=str(project), **fields
    ) as session:
        yield session


async def run_map(desk: McpSession, items: list[object], **arguments: object) -> CallToolResult:
    arguments = {"prompt": "Name the colour of {item}. [[sim: tokens=6]]", "items": items, "batch": True, **arguments}
    with anyio.fail_after(PATIENCE_S):
        return await desk.client.call_tool("claude_map", arguments)


async def ask(desk: McpSession, prompt: str, **arguments: object) -> CallToolResult:
    with anyio.fail_after(PATIENCE_S):
        return await desk.client.call_tool("claude_ask", {"prompt": prompt, "batch": True, **arguments})


async def read_job(desk: McpSession, job_id: str, **arguments: object) -> CallToolResult:
    with anyio.fail_after(PATIENCE_S):
        return await desk.client.call_tool("claude_jobs", {"id": job_id, **arguments})


def job(result: CallToolResult) -> dict[str, Any]:
    assert result.meta is not None, texts(result)
    return result.meta["mcp-server-claude/job"]


def texts(result: CallToolResult) -> str:
    return "\n".join(cast("Any", block).text for block in result.content if block.type == "text")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def query(desk: McpSession, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(desk.data_dir / "store.db")) as connection:
        return connection.execute(sql).fetchall()


async def test_a_map_in_a_batch_answers_each_item_once_in_order(api: Simulator, tmp_path: Path) -> None:
    items: list[object] = [f"thing {n}" for n in range(30)]
    async with at_desk(api, tmp_path) as desk:
        result = await run_map(desk, items, output="out.jsonl")
        assert (job(result)["state"], job(result)["done"], job(result)["batch"]) == ("complete", 30, True)
        entries = query(desk, 'select state, "end", service_tier, input_tokens, output_tokens, cost_micros from entry')
    written = lines(tmp_path / "project" / "out.jsonl")
    assert [line["input"] for line in written] == items
    assert {line["state"] for line in written} == {"done"}
    assert not message_requests(api)
    assert len(api.batch_items) == 30
    assert {entry[:3] for entry in entries} == {("closed", "complete", "batch")}
    answered = sorted((item.input_tokens, item.output_tokens) for item in api.batch_items)
    assert sorted(entry[3:5] for entry in entries) == answered
    bill = api.bill()
    assert sum(entry[5] for entry in entries) == round(sum(float(row.usd or 0) for row in bill) * 1e6)


async def test_a_question_in_a_batch_is_a_job_at_once_and_its_answer_can_be_read(
    slow_api: Simulator, tmp_path: Path
) -> None:
    async with at_desk(slow_api, tmp_path) as desk:
        started = await ask(desk, f"What is tea? {directive(text='A drink.')}")
        name = job(started)["id"]
        assert "up to 24 hours" in texts(started)
        await until(lambda: batches(slow_api))
        waiting = await read_job(desk, name)
        assert "INCOMPLETE: it is in a batch" in texts(waiting)
        slow_api.process_batches()
        answered = await read_job(desk, name, wait=3600)
        assert texts(answered).startswith("A drink.")
        usage = cast("dict[str, Any]", answered.meta)["mcp-server-claude/usage"]
        assert (usage["service_tier"], usage["complete"], usage["thread"]) == ("batch", True, None)
        (cost,) = query(desk, "select cost_micros from entry")[0]
    assert usage["cost_usd"] == pytest.approx(cost / 1e6)
    assert cost == round(sum(float(row.usd or 0) for row in slow_api.bill()) * 1e6)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [({"thread": "t_0123456789abcdef"}, "thread"), ({"tools": ["read"]}, "tools"), ({"model": "opsu"}, "opsu")],
)
async def test_what_a_batch_does_not_take_is_refused_by_name(
    api: Simulator, tmp_path: Path, arguments: dict[str, object], named: str
) -> None:
    async with at_desk(api, tmp_path) as desk:
        if "thread" in arguments:
            first = await desk.client.call_tool("claude_ask", {"prompt": "tea"})
            arguments = {"thread": cast("dict[str, Any]", first.meta)["mcp-server-claude/usage"]["thread"]}
        refused = await ask(desk, "And?", **arguments)
    assert refused.is_error
    assert named in texts(refused)
    assert not batches(api)


async def test_expired_and_errored_items_are_reported_and_the_same_call_asks_for_them_again(
    api: Simulator, tmp_path: Path
) -> None:
    faults = [directive(batch="expired", times=1), directive(batch="errored", times=1), "", ""]
    items: list[object] = [f"thing {n} {fault}" for n, fault in enumerate(faults)]
    async with at_desk(api, tmp_path) as desk:
        first = await run_map(desk, items, output="out.jsonl")
        assert (job(first)["state"], job(first)["done"], job(first)["failed"]) == ("incomplete", 2, 2)
        assert "24 hours" in texts(first)
        reported = {line["item"]: line["error"]["kind"] for line in lines(tmp_path / "project" / "out.jsonl")[:2]}
        assert reported == {0: "expired", 1: "api_error"}
        again = await run_map(desk, items, output="out.jsonl")
        assert (job(again)["id"], job(again)["state"], job(again)["done"]) == (job(first)["id"], "complete", 4)
        ends = query(desk, 'select "end", failure, cost_micros > 0 from entry order by started_at, id')
    assert sorted(ends, key=str) == [
        *[("complete", None, 1)] * 4,
        ("failed", "api_error", 0),
        ("failed", "expired", 0),
    ]
    assert [len(each) for each in batches(api)] == [4, 2]


async def test_what_a_batch_left_out_can_be_asked_without_one(api: Simulator, tmp_path: Path) -> None:
    items: list[object] = [f"one {directive(batch='expired')}", "two"]
    async with at_desk(api, tmp_path) as desk:
        first = await run_map(desk, items)
        again = await run_map(desk, items, batch=False)
    assert (job(again)["id"], job(again)["state"], job(again)["batch"]) == (job(first)["id"], "complete", False)
    assert len(message_requests(api)) == 1


async def test_a_stop_is_passed_on_and_what_was_answered_is_kept(slow_api: Simulator, tmp_path: Path) -> None:
    async with at_desk(slow_api, tmp_path, detach_after_s=0.01) as desk:
        name = job(await run_map(desk, ["one", "two", "three"]))["id"]
        await until(lambda: batches(slow_api))
        slow_api.process_batches(1)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(process_once_canceled, slow_api)
            await read_job(desk, name, cancel=True)
        stopped = await read_job(desk, name, wait=3600)
        assert (job(stopped)["state"], job(stopped)["done"], job(stopped)["cancelled"]) == ("cancelled", 1, 2)
        assert query(desk, 'select "end", count(*) from entry group by "end"') == [("cancelled", 2), ("complete", 1)]
        assert query(desk, "select sum(held) from budget") in ([(None,)], [(0,)])
    assert len(slow_api.batch_items) == 1


async def test_a_batch_is_collected_by_the_next_server(slow_api: Simulator, tmp_path: Path) -> None:
    async with at_desk(slow_api, tmp_path, detach_after_s=0.01) as desk:
        name = job(await run_map(desk, ["one", "two", "three"]))["id"]
        await until(lambda: query(desk, "select 1 from message_batch where state = 'submitted'"))
    slow_api.process_batches()
    async with at_desk(slow_api, tmp_path) as desk:
        result = await read_job(desk, name, wait=3600)
        assert (job(result)["state"], job(result)["done"]) == ("complete", 3)
        assert query(desk, "select state, count(*) from entry group by state") == [("closed", 3)]
    assert [len(each) for each in batches(slow_api)] == [3]


async def test_a_batch_whose_response_was_lost_is_found_and_not_sent_again(api: Simulator, tmp_path: Path) -> None:
    api.fail_batch_requests("create")
    async with at_desk(api, tmp_path) as desk:
        assert job(await run_map(desk, ["one", "two", "three"]))["done"] == 3
    assert [len(each) for each in batches(api)] == [3]
    assert len(api.batch_items) == 3


@pytest.mark.usefixtures("short_grace")
async def test_a_batch_that_never_reached_the_api_is_sent_again(api: Simulator, tmp_path: Path) -> None:
    api.fail_batch_requests("create", status=500, times=2)
    async with at_desk(api, tmp_path) as desk:
        assert job(await run_map(desk, ["one", "two"]))["done"] == 2
        assert query(desk, "select count(*) from entry") == [(2,)]
    assert len(api.batch_items) == 2


@pytest.mark.usefixtures("short_grace")
@pytest.mark.parametrize("status", [429, 529])
async def test_a_batch_that_is_refused_for_now_is_sent_later(api: Simulator, tmp_path: Path, status: int) -> None:
    api.fail_batch_requests("create", status=status, times=2)
    async with at_desk(api, tmp_path) as desk:
        assert job(await run_map(desk, ["one", "two"]))["done"] == 2
    assert len(api.batch_items) == 2


@pytest.mark.usefixtures("short_grace")
async def test_a_batch_that_is_refused_for_good_fails_its_items_and_costs_nothing(
    api: Simulator, tmp_path: Path
) -> None:
    api.fail_batch_requests("create", status=400)
    async with at_desk(api, tmp_path, budget_usd_per_day=5.0) as desk:
        result = await run_map(desk, ["one", "two"])
        assert (job(result)["state"], job(result)["failed"]) == ("incomplete", 2)
        assert query(desk, "select spent, held from budget where scope = 'total'") == [(0, 0)]
    assert not api.batch_items


@pytest.mark.usefixtures("short_grace")
async def test_a_wrong_key_stops_the_job_with_its_reason(api: Simulator, tmp_path: Path) -> None:
    api.fail_batch_requests("create", status=401)
    async with at_desk(api, tmp_path) as desk:
        result = await run_map(desk, ["one", "two"])
    assert (job(result)["state"], job(result)["cancelled"]) == ("incomplete", 2)
    assert "API key" in job(result)["reason"]


@pytest.mark.usefixtures("short_grace")
async def test_results_that_break_off_are_read_again_and_paid_once(api: Simulator, tmp_path: Path) -> None:
    api.fail_batch_requests("results", times=2)
    api.fail_batch_requests("retrieve", status=500, times=2)
    async with at_desk(api, tmp_path, budget_usd_per_day=50.0) as desk:
        assert job(await run_map(desk, [f"thing {n}" for n in range(40)]))["done"] == 40
        ((spent, held),) = query(desk, "select spent, held from budget where scope = 'total'")
        assert query(desk, "select count(*), sum(cost_micros) from entry where state = 'closed'") == [(40, spent)]
    assert held == 0
    assert len(api.batch_items) == 40


@pytest.mark.usefixtures("short_grace")
async def test_results_that_are_gone_are_failures_that_count_against_the_budget(
    slow_api: Simulator, tmp_path: Path
) -> None:
    async with at_desk(slow_api, tmp_path, budget_usd_per_day=5.0, detach_after_s=0.01) as desk:
        name = job(await run_map(desk, ["one"]))["id"]
        await until(lambda: query(desk, "select 1 from message_batch where state = 'submitted'"))
        ((held,),) = query(desk, "select held from budget where scope = 'total'")
        slow_api.archive_batch(query(desk, "select upstream_id from message_batch")[0][0])
        result = await read_job(desk, name, wait=3600)
        assert job(result)["failed"] == 1
        assert "no longer available" in texts(result)
        assert query(desk, "select spent, held from budget where scope = 'total'") == [(held, 0)]


@pytest.mark.usefixtures("short_grace")
async def test_what_a_budget_does_not_pay_for_waits_until_a_batch_has_ended(api: Simulator, tmp_path: Path) -> None:
    async with at_desk(api, tmp_path) as desk:
        result = await run_map(desk, [f"thing {n}" for n in range(6)], max_usd=0.2)
        assert (job(result)["state"], job(result)["done"]) == ("complete", 6)
        ((spent, held),) = query(desk, "select spent, held from budget where scope like 'job:%'")
        assert query(desk, "select max(held_micros) <= 200000, sum(cost_micros) from entry") == [(1, spent)]
    assert held == 0
    assert len(batches(api)) > 1


@pytest.mark.usefixtures("short_grace")
async def test_a_budget_that_pays_for_no_item_stops_the_job(api: Simulator, tmp_path: Path) -> None:
    async with at_desk(api, tmp_path) as desk:
        result = await run_map(desk, ["one", "two"], max_usd=0.000001)
    assert job(result)["state"] == "incomplete"
    assert "too little for another item" in job(result)["reason"]
    assert not batches(api)


@pytest.mark.usefixtures("short_grace")
async def test_answers_of_a_batch_are_held_to_their_schema(api: Simulator, tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"colour": {"type": "string"}}, "required": ["colour"]}
    wrong = directive(text='{"color": 1}')
    async with at_desk(api, tmp_path) as desk:
        result = await run_map(desk, ["one", f"two {wrong}"], prompt="{item}", schema=schema, output="out.jsonl")
    good, bad = lines(tmp_path / "project" / "out.jsonl")
    assert isinstance(good["answer"]["colour"], str)
    assert bad["error"]["kind"] == "schema_mismatch"
    assert "asked to correct" not in bad["error"]["message"]
    assert job(result)["failed"] == 1


@pytest.mark.usefixtures("short_grace")
async def test_an_answer_of_a_batch_that_is_cut_says_so(api: Simulator, tmp_path: Path) -> None:
    async with at_desk(api, tmp_path) as desk:
        name = job(await ask(desk, f"Long {directive(tokens=30, stop='max_tokens')}", max_tokens=2000))["id"]
        result = await read_job(desk, name, wait=3600)
    assert "INCOMPLETE: it reached max_tokens" in texts(result)


async def test_a_dry_run_prices_a_batch_at_half(api: Simulator, tmp_path: Path) -> None:
    async with at_desk(api, tmp_path) as desk:
        asked = await run_map(desk, ["tea " * 1000], batch=False, dry_run=True, model="opus")
        batch = await run_map(desk, ["tea " * 1000], dry_run=True, model="opus")
    at_once, offered = (usd_cells(texts(asked), way) for way in ("as requested", "batch=true (within 24 h)"))
    assert usd_cells(texts(batch), "as requested") == offered
    assert at_once[1] == pytest.approx(2 * offered[1], rel=0.02)
    assert "batch=true" not in texts(batch)


@pytest.mark.usefixtures("short_grace")
async def test_a_large_job_is_sent_in_several_batches(
    api: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_submission, "MAX_BATCH_REQUESTS", 8)
    monkeypatch.setattr(batch_submission, "ITEMS_PER_CLAIM", 3)
    async with at_desk(api, tmp_path) as desk:
        assert job(await run_map(desk, [f"thing {n}" for n in range(20)]))["done"] == 20
        monkeypatch.setattr(batch_submission, "MAX_BATCH_BYTES", 900)
        assert job(await run_map(desk, ["tea " * 100 for _ in range(4)]))["done"] == 4
    assert [len(each) for each in batches(api)] == [8, 8, 4, 1, 1, 1, 1]


@pytest.mark.usefixtures("short_grace")
async def test_a_long_beginning_that_all_share_is_cached_for_an_hour_by_a_batch_of_one_before_the_others(
    api: Simulator, tmp_path: Path
) -> None:
    prompt = "Rules for the naming of colours. " * 900 + "Name that of {item}. [[sim: tokens=6]]"
    items: list[object] = [f"thing {n}" for n in range(6)]
    async with at_desk(api, tmp_path, budget_usd_per_day=50.0) as desk:
        priced = await run_map(desk, items, prompt=prompt, dry_run=True)
        assert job(await run_map(desk, items, prompt=prompt))["done"] == 6
        tokens = "count(nullif(cache_creation_input_tokens, 0)), count(nullif(cache_read_input_tokens, 0))"
        assert query(desk, f"select {tokens} from entry") == [(1, 5)]  # noqa: S608 - a constant
        ((cost,),) = query(desk, "select sum(cost_micros) from entry")
        assert query(desk, "select spent, held from budget where scope = 'total'") == [(cost, 0)]
        assert query(desk, "select max(held_micros) <= 50000000 from entry") == [(1,)]
    assert [len(each) for each in batches(api)] == [1, 5]
    assert cost == pytest.approx(sum(float(row.usd or 0) for row in api.bill()) * 1e6, abs=6)
    controls = {control for request in api.requests for control in cache_controls(request.body)}
    assert controls == {"1h"}
    assert priced.meta is not None
    estimate = priced.meta["mcp-server-claude/estimate"]["variants"][0]
    assert estimate["input_usd"] < cost / 1e6 < estimate["typical_usd"]


async def test_a_short_beginning_is_not_waited_for_and_keeps_the_lifetime_of_the_settings(
    api: Simulator, tmp_path: Path
) -> None:
    prompt = "Rules for the naming of colours. " * 100 + "Name that of {item}. [[sim: tokens=6]]"
    async with at_desk(api, tmp_path) as desk:
        await run_map(desk, ["tea", "milk", "rice", "rye"], prompt=prompt)
    assert [len(each) for each in batches(api)] == [4]
    assert {control for request in api.requests for control in cache_controls(request.body)} == {"5m"}


async def test_a_single_question_in_a_batch_writes_nothing_to_the_cache(api: Simulator, tmp_path: Path) -> None:
    async with at_desk(api, tmp_path) as desk:
        started = await ask(desk, "What is tea? " * 3000, system="Rules. " * 3000)
        answered = await read_job(desk, job(started)["id"], wait=3600)
        assert cast("dict[str, Any]", answered.meta)["mcp-server-claude/usage"]["complete"]
        assert query(desk, "select cache_creation_input_tokens from entry") == [(0,)]
    assert not [control for request in api.requests for control in cache_controls(request.body)]


def cache_controls(value: object) -> list[str]:
    """The lifetimes of all breakpoints in a request."""
    if isinstance(value, list):
        return [control for each in cast("list[object]", value) for control in cache_controls(each)]
    if not isinstance(value, dict):
        return []
    fields = cast("dict[str, Any]", value)
    own = [fields["cache_control"].get("ttl", "5m")] if "cache_control" in fields else []
    return own + [
        control for name, each in fields.items() if name != "cache_control" for control in cache_controls(each)
    ]


async def process_once_canceled(api: Simulator) -> None:
    await until(lambda: any(request.path.endswith("/cancel") for request in api.requests))
    api.process_batches()


def batches(api: Simulator) -> list[list[str]]:
    """The custom ids of each batch that reached the API."""
    created = [
        cast("dict[str, Any]", request.body)
        for request in api.requests
        if request.method == "POST" and request.path == "/v1/messages/batches" and request.body
    ]
    return [[each["custom_id"] for each in body["requests"]] for body in created]


def usd_cells(table: str, way: str) -> list[float]:
    """The amounts in the row of a table."""
    row = next(line for line in table.splitlines() if line.startswith(f"| {way} |"))
    return [float(cell.strip(" $").split()[0]) for cell in row.split("|") if cell.strip().startswith("$")]


async def until(is_true: Callable[[], object]) -> None:
    """Wait for something that another task or the API does; it sets no event."""
    with anyio.fail_after(PATIENCE_S):
        while not is_true():  # noqa: ASYNC110 - another task or the API sets no event
            await anyio.sleep(0.02)
