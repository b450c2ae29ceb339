"""Rows of jobs that cannot be read: they hold up no other job, and end no server."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest

from mcp_server_claude.jobs import batch_items, item_runner, job_runner
from mcp_server_claude.simulator import Pace, Simulator
from mcp_server_claude.store import job_records
from support.mcp_session import McpSession, connect
from support.server_database import select_rows
from support.simulator_requests import message_requests

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from mcp.types import CallToolResult

    from mcp_server_claude.store import Transaction
    from mcp_server_claude.store.job_records import JobRecord

pytestmark = pytest.mark.anyio
PATIENCE_S = 600.0
"""Seconds after which a test that hangs fails; how busy the machine is proves nothing."""


@pytest.fixture(autouse=True)
def _quick_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals that are as short as the simulator's batches."""
    monkeypatch.setattr(batch_items, "MIN_POLL_INTERVAL_S", 0.01)
    monkeypatch.setattr(job_runner, "JOB_POLL_INTERVAL_S", 0.05)


@pytest.mark.parametrize(
    "damage",
    ["update job set spec = '{'", "update job set spec = '[]'", "update job_item set progress = '{'"],
)
async def test_a_damaged_row_of_a_job_ends_no_server_and_holds_up_no_other_job(tmp_path: Path, damage: str) -> None:
    data_dir = tmp_path / "data"
    async with Simulator(pace=Pace(ttft_s=0, tokens_per_s=0), batch_duration_s=None) as api:
        async with connect("memory", "auto", data_dir, base_url=api.url) as desk:
            await start_job(desk, "one", batch=True)
            await until(lambda: submitted_batches(data_dir))
        change_rows(data_dir, damage)
        api.process_batches()
        async with connect("memory", "auto", data_dir, base_url=api.url) as desk:
            other = await start_job(desk, "two", background=True)
            with anyio.fail_after(PATIENCE_S):
                answered = await desk.client.call_tool("claude_jobs", {"id": other, "wait": 3600})
    assert cast("dict[str, Any]", answered.meta)["mcp-server-claude/usage"]["complete"]


async def test_the_answer_of_a_batch_is_saved_where_what_was_kept_of_its_call_is_damaged(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    async with Simulator(pace=Pace(ttft_s=0, tokens_per_s=0), batch_duration_s=None) as api:
        fields: dict[str, Any] = {"base_url": api.url, "budget_usd_per_day": 50.0}
        async with connect("memory", "auto", data_dir, **fields) as desk:
            job = await start_job(desk, "one", batch=True)
            await until(lambda: submitted_batches(data_dir))
        change_rows(data_dir, "update job_item set progress = '{'")
        (held,) = select_rows(data_dir, "select held from budget where scope = 'total'")
        api.process_batches()
        async with connect("memory", "auto", data_dir, **fields) as desk:
            answered = await desk.client.call_tool("claude_jobs", {"id": job, "wait": 3600})
        assert cast("dict[str, Any]", answered.meta)["mcp-server-claude/usage"]["complete"]
        assert len(api.batch_items) == 1
        async with connect("memory", "auto", data_dir, **fields):  # closes what dead processes left
            await until(lambda: not select_rows(data_dir, "select id from entry where state = 'open'"))
    assert cast("int", held["held"]) > 0
    (budget,) = select_rows(data_dir, "select spent, held from budget where scope = 'total'")
    assert budget == {"spent": held["held"], "held": 0}


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("update job set spec = '{'", "A bug in mcp-server-claude ended it."),
        ("update job_item set progress = '[1]'", "What was kept of it before it was sent is damaged."),
        ("update job_item set progress = '{}'", "What was kept of it before it was sent is damaged."),
    ],
)
async def test_a_damaged_item_of_a_batch_that_is_not_sent_yet_fails_once(
    tmp_path: Path, damage: str, reason: str
) -> None:
    data_dir = tmp_path / "data"
    async with Simulator(pace=Pace(ttft_s=0, tokens_per_s=0), batch_duration_s=None) as api:
        api.fail_batch_requests("create", status=429, times=100)
        async with connect("memory", "auto", data_dir, base_url=api.url) as desk:
            job = await start_job(desk, "one", batch=True)
            await until(lambda: select_rows(data_dir, "select id from message_batch where failures > 0"))
        change_rows(data_dir, damage)
        async with connect("memory", "auto", data_dir, base_url=api.url) as desk:
            failed = await desk.client.call_tool("claude_jobs", {"id": job, "wait": 3600})
        assert reason in text_of(failed)
    assert select_rows(data_dir, "select state from message_batch") == [{"state": "collected"}]


async def test_an_outcome_that_the_database_does_not_take_is_replaced_by_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(item_runner, "STORE_RETRY_DELAY_S", 0.01)
    data_dir = tmp_path / "data"
    async with (
        Simulator(pace=Pace(ttft_s=0, tokens_per_s=0)) as api,
        connect("memory", "auto", data_dir, base_url=api.url) as desk,
    ):
        await desk.client.call_tool("claude_ask", {"prompt": "zero"})  # the database is made with the first call
        refuse_state(data_dir, "done")
        job = await start_job(desk, "one", background=True)
        read = await desk.client.call_tool("claude_jobs", {"id": job, "wait": 3600})
        await until(lambda: select_rows(data_dir, "select id from job where state = 'closed'"))
        assert len(message_requests(api)) == 2
    (item,) = select_rows(data_dir, "select state, error from job_item")
    assert item["state"] == "failed"
    assert "Its answer could not be saved: " in cast("str", item["error"])
    assert "11 characters" in text_of(read)  # the call itself was written
    assert select_rows(data_dir, "select distinct state from entry") == [{"state": "closed"}]


async def test_an_item_whose_every_outcome_is_refused_is_not_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(item_runner, "STORE_RETRY_DELAY_S", 0.01)
    data_dir = tmp_path / "data"
    async with (
        Simulator(pace=Pace(ttft_s=0, tokens_per_s=0)) as api,
        connect("memory", "auto", data_dir, base_url=api.url) as desk,
    ):
        await desk.client.call_tool("claude_ask", {"prompt": "zero"})
        refuse_state(data_dir, "done")
        refuse_state(data_dir, "failed")
        await start_job(desk, "one", background=True)
        await until(lambda: "an outcome that the database does not take" in caplog.text)
        await start_job(desk, "two", background=True)
        await until(lambda: caplog.text.count("an outcome that the database does not take") == 2)
        assert len(message_requests(api)) == 3


async def test_a_bug_in_a_look_at_the_jobs_ends_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bugs = [ValueError("a bug")]
    find_open_jobs = job_records.open_jobs

    def open_jobs(tx: Transaction, scopes: Sequence[str]) -> list[JobRecord]:
        if bugs:
            raise bugs.pop()
        return find_open_jobs(tx, scopes)

    monkeypatch.setattr(job_records, "open_jobs", open_jobs)
    monkeypatch.setattr(job_runner, "BUG_RETRY_DELAY_S", 0.01)
    async with (
        Simulator(pace=Pace(ttft_s=0, tokens_per_s=0)) as api,
        connect("memory", "auto", tmp_path / "data", base_url=api.url) as desk,
    ):
        job = await start_job(desk, "one", background=True)
        answered = await desk.client.call_tool("claude_jobs", {"id": job, "wait": 3600})
    assert not bugs
    assert cast("dict[str, Any]", answered.meta)["mcp-server-claude/usage"]["complete"]


def refuse_state(data_dir: Path, state: str) -> None:
    """Let the database refuse items of a state, as a fault of this package could."""
    change_rows(
        data_dir,
        f"create trigger refuse_{state} before update on job_item when new.state = '{state}' "
        "begin select raise(abort, 'refused'); end",
    )


async def start_job(desk: McpSession, prompt: str, **arguments: object) -> str:
    started = await desk.client.call_tool("claude_ask", {"prompt": f"{prompt} [[sim: tokens=3]]", **arguments})
    return cast("dict[str, Any]", started.meta)["mcp-server-claude/job"]["id"]


def text_of(result: CallToolResult) -> str:
    return "\n".join(cast("Any", block).text for block in result.content)


def submitted_batches(data_dir: Path) -> int:
    return len(select_rows(data_dir, "select id from message_batch where state = 'submitted'"))


def change_rows(data_dir: Path, sql: str) -> None:
    with closing(sqlite3.connect(data_dir / "store.db")) as connection, connection:
        connection.execute(sql)


async def until(is_true: Callable[[], object]) -> None:
    with anyio.fail_after(PATIENCE_S):
        while not is_true():  # noqa: ASYNC110 - another task sets no event
            await anyio.sleep(0.01)
