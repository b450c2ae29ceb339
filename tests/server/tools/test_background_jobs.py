"""Answers in the background: at once an id, later the answer, even if servers end in between."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from mcp_server_claude.server.tools import jobs as jobs_module
from mcp_server_claude.simulator import Simulator, directive
from support.mcp_session import (
    ALL_TRANSPORTS,
    McpSession,
    ProgressUpdate,
    ProtocolMode,
    Transport,
    connect,
    failure_meta,
    text_blocks,
    usage_meta,
)
from support.server_database import change_rows, select_rows
from support.simulator_requests import message_requests

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from mcp.types import CallToolResult

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("each_database")]

REFUSE_OUTCOMES = """
create table fault (n integer);
insert into fault values (0);
create trigger refuse before update of state on job_item
when new.state = 'done' and exists (select 1 from fault) begin select raise(abort, 'no'); end;
"""
REFUSE_OUTCOMES_ON_POSTGRES = """
create table fault (n integer);
insert into fault values (0);
create function refuse() returns trigger language plpgsql as $$ begin
if exists (select 1 from fault) then raise exception 'no'; end if; return new; end $$;
create trigger refuse before update of state on job_item for each row when (new.state = 'done')
execute function refuse();
"""
STALLED = directive(tokens=400, fault="stall", at=90)


@pytest.fixture
async def session(api: Simulator, tmp_path: Path) -> AsyncIterator[McpSession]:
    api.reset()
    async with connect("memory", "auto", tmp_path / "data", base_url=api.url) as session:
        yield session


def job_meta(result: CallToolResult) -> dict[str, object]:
    assert result.meta is not None
    return result.meta["mcp-server-claude/job"]


def job_id(result: CallToolResult) -> str:
    return str(job_meta(result)["id"])


async def jobs(session: McpSession, updates: list[ProgressUpdate] | None = None, **arguments: object) -> CallToolResult:
    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        del total
        if updates is not None:
            updates.append(ProgressUpdate(progress, message))

    return await session.client.call_tool("claude_jobs", dict(arguments), progress_callback=on_progress)


def query(session: McpSession, sql: str) -> list[tuple[object, ...]]:
    return [tuple(row.values()) for row in select_rows(session.data_dir, sql)]


async def read_until(session: McpSession, identity: str, text: str) -> None:
    while text_blocks(await jobs(session, id=identity, wait=0.05))[0] != text:
        pass


@pytest.mark.parametrize(("transport", "mode"), ALL_TRANSPORTS)
async def test_a_background_question_returns_a_job_at_once_and_its_answer_later(
    api: Simulator, tmp_path: Path, transport: Transport, mode: ProtocolMode
) -> None:
    api.reset()
    async with connect(transport, mode, tmp_path / "data", base_url=api.url) as session:
        started = await session.ask("What is tea? [[sim: tokens=40 think=0 pace=200]]", background=True)
        with anyio.fail_after(30):
            result = await jobs(session, id=job_id(started), wait=60)
    (request,) = message_requests(api)
    answer, line = text_blocks(result)
    assert answer == request.text
    assert line.startswith(f"[{job_id(started)} · c_")
    assert "· complete ·" in line
    assert usage_meta(result)["complete"] is True
    assert str(usage_meta(result)["thread"]).startswith("t_")


async def test_waiting_streams_the_answer_from_its_beginning(session: McpSession) -> None:
    started = await session.ask("Tell me. [[sim: tokens=120 think=0 pace=200 chars=4]]", background=True)
    updates: list[ProgressUpdate] = []
    with anyio.fail_after(30):
        result = await jobs(session, updates, id=job_id(started), wait=60)
    assert "".join(update.message or "" for update in updates) == text_blocks(result)[0]


async def test_a_running_job_shows_its_text_so_far(session: McpSession, api: Simulator) -> None:
    started = await session.ask(f"Tell me. {STALLED}", background=True)
    with anyio.fail_after(30):
        await api.wait_for_requests(2)
        while not any(request.text for request in message_requests(api)):
            await jobs(session, id=job_id(started), wait=0.05)
        await read_until(session, job_id(started), message_requests(api)[0].text)
        result = await jobs(session, id=job_id(started))
    assert "· running ·" in text_blocks(result)[1]
    assert text_blocks(result)[-1].startswith("INCOMPLETE: ")


async def test_a_cancelled_job_stops_upstream_and_keeps_its_text(session: McpSession, api: Simulator) -> None:
    started = await session.ask(f"Tell me. {STALLED}", background=True)
    with anyio.fail_after(30):
        await api.wait_for_requests(2)
        while not any(request.text for request in message_requests(api)):
            await jobs(session, id=job_id(started), wait=0.05)
        result = await jobs(session, id=job_id(started), cancel=True)
        await api.wait_until_idle()
    assert text_blocks(result)[0] == message_requests(api)[0].text
    assert "· cancelled ·" in text_blocks(result)[1]
    assert message_requests(api)[0].end == "disconnected"
    assert query(session, 'select state, "end" from job') == [("closed", "cancelled")]


async def test_jobs_are_listed_newest_first_with_progress_and_cost_and_not_again_as_calls(session: McpSession) -> None:
    first = await session.ask("What is tea?", background=True)
    with anyio.fail_after(30):
        await jobs(session, id=job_id(first), wait=60)
        second = await session.ask(f"What is milk? {directive(status=400)}", background=True)
        await jobs(session, id=job_id(second), wait=60)
    table, *others = text_blocks(await jobs(session))
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.split("\n")[2:]]
    assert [(row[0], row[2], row[3]) for row in rows] == [
        (job_id(second), "incomplete", "1 of 1, 1 failed"),
        (job_id(first), "complete", "1 of 1"),
    ]
    assert rows[1][4].startswith("$0.0")
    assert not any("c_" in other for other in others)


async def test_a_failed_job_reports_the_reason(session: McpSession) -> None:
    started = await session.ask(f"x {directive(status=400)}", background=True)
    with anyio.fail_after(30):
        result = await jobs(session, id=job_id(started), wait=60)
    assert "· failed ·" in text_blocks(result)[1]
    assert text_blocks(result)[-1].startswith("INCOMPLETE: ")


async def test_an_invalid_question_is_rejected_before_a_job_begins(session: McpSession) -> None:
    unknown = await session.ask("x", background=True, model="no-such-model")
    assert failure_meta(unknown)["kind"] == "unknown_model"
    missing = await session.ask("x", background=True, thread="t_0000000000000000")
    assert failure_meta(missing)["kind"] == "not_found"
    assert query(session, "select id from job") == []


async def test_an_unknown_job_and_that_of_another_user_are_not_found(session: McpSession) -> None:
    started = await session.ask("x", background=True)
    await jobs(session, id=job_id(started), wait=60)
    assert failure_meta(await jobs(session, id="j_0000000000000000"))["kind"] == "not_found"
    change_rows(session.data_dir, "update job set \"user\" = 'ada'")
    assert failure_meta(await jobs(session, id=job_id(started)))["kind"] == "not_found"


async def test_a_job_continues_its_thread_and_finishes_in_the_next_server(api: Simulator, tmp_path: Path) -> None:
    api.reset()
    async with connect("memory", "auto", tmp_path / "data", base_url=api.url) as session:
        first = await session.ask("What is tea?")
        thread = str(usage_meta(first)["thread"])
        started = await session.ask("And milk? [[sim: fault=stall at=20 times=1]]", background=True, thread=thread)
        with anyio.fail_after(30):
            while len(message_requests(api)) < 2 or not message_requests(api)[1].text:
                await jobs(session, id=job_id(started), wait=0.05)
    async with connect("memory", "auto", tmp_path / "data", base_url=api.url) as session:
        with anyio.fail_after(30):
            result = await jobs(session, id=job_id(started), wait=60)
        assert "· complete ·" in text_blocks(result)[1]
        assert text_blocks(result)[0] == message_requests(api)[2].text
        transcript = text_blocks(await jobs(session, id=thread))[0]
        entries = query(session, 'select "end", job_id is not null from entry order by started_at')
    assert transcript.count("## Question") == 2
    assert transcript.count("## Answer") == 2
    assert entries == [("complete", 0), ("cancelled", 1), ("complete", 1)]


async def test_a_job_whose_server_has_ended_is_answered_by_a_server_that_is_asked_for_it(
    api: Simulator, tmp_path: Path
) -> None:
    api.reset()
    async with connect("memory", "auto", tmp_path / "data", base_url=api.url) as other:
        await jobs(other)
        async with connect("memory", "auto", tmp_path / "data", base_url=api.url) as session:
            started = await session.ask("What is tea? [[sim: fault=stall at=20 times=1]]", background=True)
            with anyio.fail_after(30):
                while not any(request.text for request in message_requests(api)):
                    await jobs(session, id=job_id(started), wait=0.05)
        with anyio.fail_after(30):
            result = await jobs(other, id=job_id(started), wait=60)
    assert "· complete ·" in text_blocks(result)[1]


async def test_a_server_of_another_account_ignores_a_job(
    api: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs_module, "JOB_STOP_TIMEOUT_S", 0.1)
    api.reset()
    async with connect("memory", "auto", tmp_path / "data", base_url=api.url) as session:
        started = await session.ask(f"Tell me. {STALLED}", background=True)
        with anyio.fail_after(30):
            await api.wait_for_requests(2)
    async with connect("memory", "auto", tmp_path / "data", base_url=api.url, api_key="sk-ant-test-another") as session:
        await session.ask("What is milk?")
        assert query(session, "select state from job_item") == [("todo",)]
        result = await jobs(session, id=job_id(started), cancel=True)
    assert not result.is_error


async def test_an_answer_that_cannot_be_saved_is_saved_later_with_its_last_ledger_entry(
    session: McpSession, api: Simulator
) -> None:
    await session.ask("Open the database.")
    change_rows(session.data_dir, REFUSE_OUTCOMES, postgres_sql=REFUSE_OUTCOMES_ON_POSTGRES)
    started = await session.ask("What is tea?", background=True)
    with anyio.fail_after(30):
        await api.wait_until_idle()
        while len(message_requests(api)) < 2 or not message_requests(api)[1].end:
            await jobs(session, id=job_id(started), wait=0.05)
        assert query(session, "select state from entry order by started_at") == [("closed",), ("open",)]
        change_rows(session.data_dir, "delete from fault")
        result = await jobs(session, id=job_id(started), wait=60)
    assert "· complete ·" in text_blocks(result)[1]
    assert query(session, "select state from entry order by started_at") == [("closed",), ("closed",)]
    assert len(message_requests(api)) == 2
