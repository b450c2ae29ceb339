"""What changes between the submission of a batch and its results, which are paid for: its model, or the clock."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest

from mcp_server_claude.jobs import batch_items, batch_submission, job_runner
from mcp_server_claude.simulator import Pace, Simulator, directive
from support.mcp_session import McpSession, connect

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mcp.types import CallToolResult

    from mcp_server_claude.simulator import LoggedRequest

pytestmark = pytest.mark.anyio
PATIENCE_S = 600.0
"""Seconds after which a test that hangs fails; how busy the machine is proves nothing."""
BATCHES_PATH = "/v1/messages/batches"
MODEL = "claude-sonnet-4-6"
SCHEMA = {"type": "object", "properties": {"colour": {"type": "string"}}, "required": ["colour"]}


@pytest.fixture(autouse=True)
def _quick_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals that are as short as the simulator's batches."""
    monkeypatch.setattr(batch_items, "MIN_POLL_INTERVAL_S", 0.01)
    monkeypatch.setattr(job_runner, "JOB_POLL_INTERVAL_S", 0.05)


def leave_list(entry: dict[str, Any]) -> dict[str, Any] | None:
    """The model is listed no more."""
    del entry


def retire(entry: dict[str, Any]) -> dict[str, Any]:
    """The model was retired."""
    return {
        **entry,
        "lifecycle": "retired",
        "deprecated_at": "2026-01-01T00:00:00Z",
        "retires_at": "2026-02-01T00:00:00Z",
    }


def lose_capabilities(entry: dict[str, Any]) -> dict[str, Any]:
    """The model takes neither batches nor schemas any more: it always thinks, and has no structured outputs."""
    absent = {"supported": False}
    thinking = {"supported": True, "types": {"adaptive": {"supported": True}}}
    changes = {"batch": absent, "structured_outputs": absent, "thinking": thinking}
    return {**entry, "capabilities": entry["capabilities"] | changes}


@pytest.mark.parametrize("change", [leave_list, retire, lose_capabilities])
async def test_results_are_collected_and_paid_once_whatever_became_of_their_model(
    tmp_path: Path, change: Callable[[dict[str, Any]], dict[str, Any] | None]
) -> None:
    data_dir = tmp_path / "data"
    async with Simulator(pace=Pace(ttft_s=0, tokens_per_s=0), batch_duration_s=None) as api:
        async with connect("memory", "auto", data_dir, base_url=api.url, budget_usd_per_day=5.0) as desk:
            questions = (
                {"prompt": f"A colour? {directive(text='Red.')}"},
                {"prompt": "A colour?", "schema": SCHEMA},
                {"prompt": f"A colour? {directive(batch='errored')}"},
            )
            jobs = [await start_job(desk, {**each, "model": MODEL}) for each in questions]
            await until(lambda: batches_in(data_dir, "submitted") == len(jobs))
        change_model(data_dir, change)
        api.process_batches()
        async with connect("memory", "auto", data_dir, base_url=api.url, budget_usd_per_day=5.0) as desk:
            refused = await desk.client.call_tool("claude_ask", {"prompt": "x", "model": MODEL, "batch": True})
            assert refused.is_error  # the change has been noticed
            text, value, error = [
                await desk.client.call_tool("claude_jobs", {"id": each, "wait": 3600}) for each in jobs
            ]
        assert first_text(text).startswith("Red.")
        assert isinstance(json.loads(first_text(value))["colour"], str)
        assert "Internal server error" in cast("Any", error.content[-1]).text
        with closing(sqlite3.connect(data_dir / "store.db")) as connection:
            entries = connection.execute("select model, state, cost_micros from entry").fetchall()
            held, spent = connection.execute("select held, spent from budget").fetchone()
        assert {entry[:2] for entry in entries} == {(MODEL, "closed")}
        assert sum(entry[2] for entry in entries) == round(sum(float(row.usd or 0) for row in api.bill()) * 1e6)
        assert (held, spent) == (0, sum(entry[2] for entry in entries))


@pytest.mark.parametrize("state", ["submitting", "submitted"])
async def test_a_clock_that_is_set_back_neither_delays_the_results_nor_sends_the_batch_again(
    tmp_path: Path, state: str
) -> None:
    data_dir = tmp_path / "data"
    async with Simulator(pace=Pace(ttft_s=0, tokens_per_s=0), batch_duration_s=None) as api:
        if state == "submitting":  # the response is lost
            api.fail_batch_requests("create")
        async with connect("memory", "auto", data_dir, base_url=api.url) as desk:
            job = await start_job(desk, {"prompt": f"A colour? {directive(text='Red.')}"})
            await until(lambda: batches_in(data_dir, state) and sent_batches(api))
        with closing(sqlite3.connect(data_dir / "store.db")) as connection, connection:  # as if it had been years ahead
            connection.execute("update message_batch set submitted_at = submitted_at + 1e9, next_poll_at = 1e10")
        api.process_batches()
        async with connect("memory", "auto", data_dir, base_url=api.url) as desk:
            answered = await desk.client.call_tool("claude_jobs", {"id": job, "wait": 3600})
        assert first_text(answered).startswith("Red.")
        assert len(sent_batches(api)) == len(api.batch_items) == 1


async def test_a_lost_batch_is_found_where_the_apis_clock_is_an_hour_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_submission, "SUBMISSION_GRACE_S", 0.0)
    pace = Pace(ttft_s=0, tokens_per_s=0)
    async with Simulator(pace=pace, batch_duration_s=None, batch_clock_offset_s=-3600.0) as api:
        api.fail_batch_requests("create")
        async with connect("memory", "auto", tmp_path / "data", base_url=api.url) as desk:
            job = await start_job(desk, {"prompt": f"A colour? {directive(text='Red.')}"})
            await until(lambda: sum((each.method, each.path) == ("GET", BATCHES_PATH) for each in api.requests) > 2)
            api.process_batches()
            answered = await desk.client.call_tool("claude_jobs", {"id": job, "wait": 3600})
        assert first_text(answered).startswith("Red.")
        assert len(sent_batches(api)) == len(api.batch_items) == 1


async def test_a_batch_that_was_not_created_is_sent_again_whatever_others_send_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_submission, "SUBMISSION_GRACE_S", 0.0)
    data_dir = tmp_path / "data"
    async with Simulator(pace=Pace(ttft_s=0, tokens_per_s=0), batch_duration_s=None) as api:
        api.fail_batch_requests("create", status=500)
        async with connect("memory", "auto", data_dir, base_url=api.url) as desk:
            job = await start_job(desk, {"prompt": f"A colour? {directive(text='Red.')}"})
            await until(lambda: batches_in(data_dir, "submitting") and sent_batches(api))
        with closing(sqlite3.connect(data_dir / "store.db")) as connection, connection:
            connection.execute("update message_batch set submitted_at = submitted_at - 7200, next_poll_at = 0")
        async with connect("memory", "auto", tmp_path / "others", base_url=api.url) as others:
            await start_job(others, {"prompt": f"Another? {directive(text='Blue.')}"})
            await until(lambda: batches_in(tmp_path / "others", "submitted"))
        async with connect("memory", "auto", data_dir, base_url=api.url) as desk:
            await until(lambda: batches_in(data_dir, "submitted"))
            api.process_batches()
            answered = await desk.client.call_tool("claude_jobs", {"id": job, "wait": 3600})
        assert first_text(answered).startswith("Red.")


def sent_batches(api: Simulator) -> list[LoggedRequest]:
    return [each for each in api.requests if (each.method, each.path) == ("POST", BATCHES_PATH)]


async def start_job(desk: McpSession, arguments: dict[str, object]) -> str:
    started = await desk.client.call_tool("claude_ask", {**arguments, "batch": True})
    return cast("dict[str, Any]", started.meta)["mcp-server-claude/job"]["id"]


def first_text(result: CallToolResult) -> str:
    return cast("Any", result.content[0]).text


def change_model(data_dir: Path, change: Callable[[dict[str, Any]], dict[str, Any] | None]) -> None:
    """Change the model in the copy of the API's list, which the server takes for the list of today."""
    (path,) = data_dir.glob("models-*.json")
    saved = json.loads(path.read_bytes())
    saved["data"] = [new for each in saved["data"] if (new := change(each) if each["id"] == MODEL else each)]
    path.write_text(json.dumps(saved))


def batches_in(data_dir: Path, state: str) -> int:
    with closing(sqlite3.connect(data_dir / "store.db")) as connection:
        return connection.execute("select count(*) from message_batch where state = ?", [state]).fetchone()[0]


async def until(is_true: Callable[[], object]) -> None:
    with anyio.fail_after(PATIENCE_S):
        while not is_true():  # noqa: ASYNC110 - another task sets no event
            await anyio.sleep(0.01)
