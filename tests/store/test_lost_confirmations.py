"""A connection that is lost between a commit and its confirmation: what was written stays usable."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, LiteralString

import anyio
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from mcp_server_claude.jobs import batch_items, job_runner
from mcp_server_claude.simulator import Pace, Simulator, directive
from mcp_server_claude.store import Store, StoreError, call_journal, process_locks, request_ledger
from support.cuttable_socket import CuttableSocket
from support.mcp_session import connect, failure_meta, text_blocks, usage_meta

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from mcp_server_claude.store import Transaction

pytestmark = pytest.mark.anyio
PATIENCE_S = 600.0
"""Seconds after which a test that hangs fails; how busy the machine is proves nothing."""
CALL = call_journal.JournaledCall(id="c_1", worker="w_1", started_at=100.0)
ENTRY = request_ledger.LedgerEntry(id="r_1", call_id="c_1", worker="w_1", started_at=100.0)


@pytest.fixture
def network(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> CuttableSocket:
    return CuttableSocket(tmp_path_factory.mktemp("s"), str(conninfo_to_dict(postgres_url)["host"]))


@pytest.fixture
def url(postgres_url: str, network: CuttableSocket) -> str:
    parts = conninfo_to_dict(postgres_url)
    return f"postgresql://{parts['user']}@/{parts['dbname']}?host={network.directory}"


@pytest.fixture
async def api() -> AsyncIterator[Simulator]:
    async with Simulator(pace=Pace(ttft_s=0, tokens_per_s=0)) as simulator:
        yield simulator


@pytest.fixture(autouse=True)
def quick_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_runner, "JOB_POLL_INTERVAL_S", 0.05)
    monkeypatch.setattr(batch_items, "MIN_POLL_INTERVAL_S", 0.01)


def count_rows(url: str, condition: LiteralString) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("select count(*) from " + condition).fetchone()  # noqa: S608 - constants
    assert row is not None
    return row[0]


@pytest.mark.parametrize(
    ("statement", "operation"),
    [
        (b"insert into call (", partial(call_journal.open_call, call=CALL)),
        (b"insert into entry (", partial(request_ledger.open_entry, entry=ENTRY)),
    ],
    ids=["call", "entry"],
)
async def test_a_row_that_was_committed_unnoticed_is_no_lost_write(
    network: CuttableSocket, url: str, tmp_path: Path, statement: bytes, operation: Callable[[Transaction], None]
) -> None:
    store = Store.open(tmp_path, url)
    await store.write(process_locks.register_process, "w_1")
    network.lose_confirmation_of(statement)
    store.write_nowait(operation)
    with anyio.fail_after(PATIENCE_S):
        while not network.lost_confirmations or store.last_error:
            await anyio.sleep(0.05)
            with suppress(StoreError):  # the next connection is made after a second
                await store.write(process_locks.register_process, "w_1")
    await store.close()
    assert store.lost_writes == 0
    assert (count_rows(url, "call"), count_rows(url, "entry")) in {(1, 0), (0, 1)}


async def test_a_thread_that_was_locked_unnoticed_can_be_continued_by_another_server(
    api: Simulator, network: CuttableSocket, url: str, postgres_url: str, tmp_path: Path
) -> None:
    fields: dict[str, Any] = {"base_url": api.url, "deadline_s": 300.0}
    async with connect("memory", "auto", tmp_path / "one", database_url=url, **fields) as session:
        thread = str(usage_meta(await session.ask("First."))["thread"])
        answers = 0
        while not answers:  # it is written in the background, in the same table
            await anyio.sleep(0.05)
            answers = count_rows(postgres_url, "turn where role = 'assistant'")
        network.lose_confirmation_of(b"insert into turn (")
        failed = await session.ask("Second.", thread=thread)
        assert (failure_meta(failed)["kind"], network.lost_confirmations) == ("store", 1)
        listed = await session.client.call_tool("claude_jobs", {})
        while listed.is_error:  # until it has a connection again, and counts as running
            await anyio.sleep(0.05)
            listed = await session.client.call_tool("claude_jobs", {})
        async with connect("memory", "auto", tmp_path / "two", database_url=postgres_url, **fields) as other:
            third = await other.ask("Third.", thread=thread)
    assert not third.is_error, text_blocks(third)
    assert count_rows(postgres_url, "turn where role = 'user'") == 2
    assert count_rows(postgres_url, "thread where holder is not null") == 0


@pytest.mark.parametrize("batch", [False, True])
async def test_items_that_were_claimed_unnoticed_are_answered_once(
    api: Simulator, network: CuttableSocket, url: str, tmp_path: Path, *, batch: bool
) -> None:
    network.lose_confirmation_of(b"update job_item set interruptions")
    arguments = {"prompt": "Name it: {item}", "items": ["tea", "milk", "rice"], "batch": batch}
    (tmp_path / "project").mkdir()
    fields: dict[str, Any] = {"base_url": api.url, "database_url": url, "project_dir": str(tmp_path / "project")}
    async with connect("memory", "auto", tmp_path / "data", **fields) as session:
        with anyio.fail_after(PATIENCE_S):
            result = await session.client.call_tool("claude_map", arguments)
    assert result.meta is not None
    assert network.lost_confirmations == 1
    job = result.meta["mcp-server-claude/job"]
    assert (job["state"], job["done"]) == ("complete", 3)
    assert count_rows(url, "entry") == 3


async def test_a_call_that_became_a_job_unnoticed_is_no_job_that_never_ends(
    api: Simulator, network: CuttableSocket, url: str, tmp_path: Path
) -> None:
    network.lose_confirmation_of(b"insert into job (")
    fields: dict[str, Any] = {"base_url": api.url, "database_url": url, "detach_after_s": 0.05}
    async with connect("memory", "auto", tmp_path / "data", **fields) as session:
        first = await session.ask(f"Tell me. {directive(think=0, tokens=60, pace=60)}")
        call_id = str(usage_meta(first)["call_id"])
        assert network.lost_confirmations == 1
        with anyio.fail_after(PATIENCE_S):
            result = await session.client.call_tool("claude_jobs", {"id": call_id, "wait": PATIENCE_S})
            while usage_meta(result).get("complete") is not True:
                result = await session.client.call_tool("claude_jobs", {"id": call_id, "wait": PATIENCE_S})
            listed = await session.client.call_tool("claude_jobs", {})
    assert call_id in text_blocks(listed)[0]
    assert (count_rows(url, "job"), count_rows(url, "call where job_id is not null")) == (0, 0)
