"""Servers that share a database: one that is silent counts as dead, and when it wakes up it owns nothing any more."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import anyio
import pytest

from mcp_server_claude.call_types import Call
from mcp_server_claude.calls.thread_transcripts import ThreadBusy, lock_and_add_question, store_answer_and_unlock
from mcp_server_claude.store import (
    Store,
    budget_reservations,
    job_items,
    job_records,
    orphan_cleanup,
    postgres_backend,
    postgres_process_locks,
    process_locks,
    request_ledger,
    thread_messages,
)
from mcp_server_claude.store.postgres_connection import connect
from mcp_server_claude.store.transaction import scalar
from support.chaos.call_results import poll_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from mcp_server_claude.store import Transaction

pytestmark = pytest.mark.anyio

TIMEOUT_S = 120
DAY = budget_reservations.budget_day()
TEXT: list[dict[str, object]] = [{"type": "text", "text": "An answer."}]
STATE_CHANGE = """
select max(extract(epoch from state_change)) from pg_stat_activity join pg_locks using (pid) where locktype = 'advisory'
"""


@pytest.fixture
async def two_stores(postgres_url: str, tmp_path: Path) -> AsyncIterator[tuple[Store, Store]]:
    first, second = Store.open(tmp_path, postgres_url), Store.open(tmp_path, postgres_url)
    yield first, second
    await first.close()
    await second.close()


def open_request(tx: Transaction, entry_id: str, worker: str) -> None:
    process_locks.register_process(tx, worker)
    entry = request_ledger.LedgerEntry(id=entry_id, call_id="c_1", worker=worker, started_at=time.time())
    budget_reservations.reserve_up_to(tx, [("total", 1000)], DAY, 100, 100, entry_id)
    request_ledger.open_entry(tx, entry)


def create_job(tx: Transaction, worker: str) -> None:
    job_records.create_job(tx, job_records.JobRecord(id="j_1", created_at=1.0, worker=worker))
    job_records.add_items(tx, "j_1", [(0, "{}")])
    job_records.open_job(tx, "j_1")


async def end_of_request(store: Store) -> str | None:
    (entry,) = await store.read(request_ledger.entries_of_call, "c_1")
    return entry.end


async def close_orphans_until_closed(store: Store) -> None:
    with anyio.fail_after(TIMEOUT_S):
        while await end_of_request(store) is None:
            await store.write(orphan_cleanup.close_orphans, store.locks, time.time())


async def test_a_silent_process_counts_as_dead_and_owns_nothing_when_it_resumes(
    two_stores: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    sleeper, other = two_stores
    call, next_call = Call(prompt="One.", thread="t_1", user="ada"), Call(prompt="Two.", thread="t_1", user="ada")
    await sleeper.write(open_request, "r_1", sleeper.locks.worker)
    await sleeper.write(create_job, sleeper.locks.worker)
    (item,) = await sleeper.write(job_items.claim_items, "j_1", sleeper.locks.worker, 1)
    await sleeper.write(lock_and_add_question, call, sleeper.locks, 1.0, new=True)
    await other.write(orphan_cleanup.close_orphans, other.locks, time.time())
    assert await end_of_request(other) is None
    assert isinstance(await other.write(lock_and_add_question, next_call, other.locks, 2.0, new=False), ThreadBusy)

    monkeypatch.setattr(postgres_process_locks, "MAX_SILENCE_S", 0.2)
    await close_orphans_until_closed(other)
    monkeypatch.undo()
    assert await end_of_request(other) == "interrupted"
    assert await other.read(budget_reservations.remaining_micros, "total", DAY, 1000) == 900
    (again,) = await other.write(job_items.claim_items, "j_1", other.locks.worker, 1)
    assert again.fence == item.fence + 1
    transcript = await other.write(lock_and_add_question, next_call, other.locks, 2.0, new=False)
    assert transcript is not None
    assert not isinstance(transcript, ThreadBusy)

    await sleeper.write(store_answer_and_unlock, call, TEXT, None)  # it wakes up, on a new connection
    outcome = job_items.ItemOutcome(state="done", call_id=call.id, text="An answer.")
    assert not await sleeper.write(job_items.finish_item, item, outcome)
    result = request_ledger.EntryResult(end="complete", ended_at=time.time(), cost_micros=30)
    assert await sleeper.write(request_ledger.close_entry, "r_1", result, 30)
    assert await other.read(budget_reservations.remaining_micros, "total", DAY, 1000) == 970
    turns = await other.read(thread_messages.thread_history, "t_1")
    assert [(turn.role, turn.call_id) for turn in turns] == [("user", next_call.id)]
    assert await other.write(job_items.finish_item, again, outcome)
    await other.write(store_answer_and_unlock, next_call, TEXT, None)
    assert len(await other.read(thread_messages.thread_history, "t_1")) == 2

    await sleeper.write(open_request, "r_2", sleeper.locks.worker)  # and continues as a process like any other
    await other.write(orphan_cleanup.close_orphans, other.locks, time.time())
    states = await other.read(lambda tx: tx.fetch_all(scalar, "select state from entry order by id"))
    assert states == ["closed", "open"]


async def test_an_idle_process_sends_a_heartbeat(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_backend, "HEARTBEAT_INTERVAL_S", 0.05)
    store = Store.open(tmp_path, postgres_url)
    await store.write(process_locks.register_process, store.locks.worker)
    watcher = connect(postgres_url)

    def latest_statement() -> float:
        row = watcher.execute(STATE_CHANGE).fetchone()
        assert row is not None
        return float(row[0])

    first = latest_statement()
    with anyio.fail_after(TIMEOUT_S):
        await poll_until(lambda: latest_statement() > first + 0.2)
    watcher.close()
    await store.close()


async def test_an_idle_connection_that_was_lost_is_replaced_by_the_heartbeat(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_backend, "HEARTBEAT_INTERVAL_S", 0.05)
    store = Store.open(tmp_path, postgres_url)
    await store.write(process_locks.register_process, store.locks.worker)
    watcher = connect(postgres_url)

    def holders() -> list[int]:
        return [row[0] for row in watcher.execute("select pid from pg_locks where locktype = 'advisory'").fetchall()]

    (before,) = holders()
    watcher.execute("select pg_terminate_backend(%s)", [before])
    with anyio.fail_after(TIMEOUT_S):
        await poll_until(lambda: holders() not in ([], [before]))
    watcher.close()
    await store.close()
