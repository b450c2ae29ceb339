"""A server that is killed between the request for a batch and the id of the batch: nothing is paid twice or lost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest

import support
from mcp_server_claude.jobs import batch_items, batch_submission, job_runner
from mcp_server_claude.simulator import Pace, Simulator
from mcp_server_claude.store import message_batches
from support.crash_point import KILLED
from support.mcp_session import connect
from support.server_database import select_rows
from support.stdio_process import stdio_process

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcp.types import CallToolResult

    from mcp_server_claude.store import Transaction

pytestmark = pytest.mark.anyio
PATIENCE_S = 600.0
"""Seconds after which a test that hangs fails; how busy the machine is proves nothing."""
CRASH_POINT = str(Path(support.__path__[0]) / "crash_point.py")
CREATE_BATCH = ("mcp_server_claude.anthropic_api.message_batches", "create_batch")
ARGUMENTS: dict[str, Any] = {
    "prompt": "Name the colour of {item}. [[sim: tokens=6]]",
    "items": ["tea", "milk", "rice"],
    "batch": True,
}


@pytest.fixture(autouse=True)
def quick_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits of the second server that are as short as the simulator's batches."""
    monkeypatch.setattr(batch_items, "MIN_POLL_INTERVAL_S", 0.01)
    monkeypatch.setattr(batch_submission, "SUBMISSION_GRACE_S", 0.2)
    monkeypatch.setattr(job_runner, "JOB_POLL_INTERVAL_S", 0.05)


async def crash_at(crash_point: Sequence[str], tmp_path: Path, **fields: Any) -> None:
    """Start the job in a server that kills itself at a function."""
    (tmp_path / "project").mkdir()
    params = {"name": "claude_map", "arguments": ARGUMENTS}
    async with stdio_process(tmp_path / "data", command=[CRASH_POINT, *crash_point], **fields) as server:
        await server.initialize()
        await server.send({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
        assert await server.wait_for_exit() == KILLED, server.stderr.read_text()


async def finish_job(tmp_path: Path, **fields: Any) -> dict[str, Any]:
    """Have another server finish the job; the job as it is then."""
    async with connect("memory", "auto", tmp_path / "data", **fields) as session:
        with anyio.fail_after(PATIENCE_S):
            return job_of(await session.client.call_tool("claude_map", ARGUMENTS))


def job_of(result: CallToolResult) -> dict[str, Any]:
    assert result.meta is not None, result.content
    return result.meta["mcp-server-claude/job"]


def sent_batches(api: Simulator) -> list[int]:
    """The number of requests of each batch that the API has created."""
    bodies = [
        cast("dict[str, Any]", request.body)
        for request in api.requests
        if request.method == "POST" and request.path == "/v1/messages/batches"
    ]
    return [len(body["requests"]) for body in bodies]


@pytest.mark.parametrize(("when", "sent"), [("before", []), ("after", [3])])
async def test_a_batch_is_sent_and_paid_once_where_its_server_is_killed_at_its_request(
    tmp_path: Path, when: str, sent: list[int]
) -> None:
    async with Simulator(pace=Pace(ttft_s=0, tokens_per_s=0)) as api:
        fields: dict[str, Any] = {"base_url": api.url, "project_dir": str(tmp_path / "project")}
        fields["budget_usd_per_day"] = 50.0
        await crash_at((*CREATE_BATCH, when), tmp_path, **fields)
        assert sent_batches(api) == sent
        assert select_rows(tmp_path / "data", "select state, upstream_id from message_batch") == [
            {"state": "submitting", "upstream_id": ""}
        ]
        job = await finish_job(tmp_path, **fields)
        assert sent_batches(api) == [3]
        answered = sorted((item.input_tokens, item.output_tokens) for item in api.batch_items)
    assert (job["state"], job["done"], job["items"]) == ("complete", 3, 3)
    entries = select_rows(tmp_path / "data", 'select "end", input_tokens, output_tokens, cost_micros from entry')
    assert sorted((row["input_tokens"], row["output_tokens"]) for row in entries) == answered
    assert {row["end"] for row in entries} == {"complete"}
    (budget,) = select_rows(tmp_path / "data", "select spent, held from budget where scope = 'total'")
    assert budget == {"spent": sum(cast("int", row["cost_micros"]) for row in entries), "held": 0}


async def test_a_batch_of_a_killed_server_is_found_after_it_has_ended(tmp_path: Path) -> None:
    async with Simulator(pace=Pace(ttft_s=0, tokens_per_s=0), batch_duration_s=None) as api:
        fields: dict[str, Any] = {"base_url": api.url, "project_dir": str(tmp_path / "project")}
        await crash_at((*CREATE_BATCH, "after"), tmp_path, **fields)
        async with connect("memory", "auto", tmp_path / "data", detach_after_s=0.01, **fields) as session:
            job_id = job_of(await session.client.call_tool("claude_map", ARGUMENTS))["id"]
            with anyio.fail_after(PATIENCE_S):
                while lists_of_batches(api) < 3:
                    await session.client.call_tool("claude_jobs", {"id": job_id, "wait": 0.05})
                api.process_batches()
                job = job_of(await session.client.call_tool("claude_jobs", {"id": job_id, "wait": PATIENCE_S}))
        assert sent_batches(api) == [3]
        assert len(api.batch_items) == 3
    assert (job["state"], job["done"]) == ("complete", 3)


async def test_a_batch_that_another_server_claims_while_it_is_filled_loses_no_item(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where this server was suspended until the other took it for dead."""
    create_batch, claimed = message_batches.create_batch, list[str]()

    def create_and_lose(tx: Transaction, job_id: str, worker: str, now: float) -> message_batches.BatchRecord:
        batch = create_batch(tx, job_id, worker, now)
        if not claimed:
            claimed.append(batch.id)
            tx.execute("update message_batch set owner = '', fence = fence + 1 where id = :id", {"id": batch.id})
        return batch

    monkeypatch.setattr(message_batches, "create_batch", create_and_lose)
    async with Simulator(pace=Pace(ttft_s=0, tokens_per_s=0)) as api:
        (tmp_path / "project").mkdir()
        fields: dict[str, Any] = {"base_url": api.url, "project_dir": str(tmp_path / "project")}
        job = await finish_job(tmp_path, budget_usd_per_day=50.0, **fields)
        assert claimed
        assert sent_batches(api) == [3]
    assert (job["state"], job["done"], job["items"]) == ("complete", 3, 3)
    assert select_rows(tmp_path / "data", 'select "end", count(*) as n from entry group by 1') == [
        {"end": "complete", "n": 3}
    ]
    assert select_rows(tmp_path / "data", "select held from budget where scope = 'total'") == [{"held": 0}]


def lists_of_batches(api: Simulator) -> int:
    """The number of times that a server has looked for its batch in the list of all."""
    return sum(request.method == "GET" and request.path.endswith("/batches") for request in api.requests)
