"""Rows of jobs that cannot be read: they hold up no other job, and end no server."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest

from mcp_server_claude.jobs import batch_items, job_runner
from mcp_server_claude.simulator import Pace, Simulator
from mcp_server_claude.store import job_records
from support.mcp_session import McpSession, connect

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

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
            with anyio.fail_after(PATIENCE_S):
                while not submitted_batches(data_dir):  # noqa: ASYNC110 - another task sets no event
                    await anyio.sleep(0.01)
        with closing(sqlite3.connect(data_dir / "store.db")) as connection, connection:
            connection.execute(damage)
        api.process_batches()
        async with connect("memory", "auto", data_dir, base_url=api.url) as desk:
            other = await start_job(desk, "two", background=True)
            with anyio.fail_after(PATIENCE_S):
                answered = await desk.client.call_tool("claude_jobs", {"id": other, "wait": 3600})
    assert cast("dict[str, Any]", answered.meta)["mcp-server-claude/usage"]["complete"]


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


async def start_job(desk: McpSession, prompt: str, **arguments: object) -> str:
    started = await desk.client.call_tool("claude_ask", {"prompt": f"{prompt} [[sim: tokens=3]]", **arguments})
    return cast("dict[str, Any]", started.meta)["mcp-server-claude/job"]["id"]


def submitted_batches(data_dir: Path) -> int:
    with closing(sqlite3.connect(data_dir / "store.db")) as connection:
        return connection.execute("select count(*) from message_batch where state = 'submitted'").fetchone()[0]
