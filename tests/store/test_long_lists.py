"""The lists of calls, threads and jobs cost what they show, however many a user has."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from mcp_server_claude.store import call_journal, job_records, request_ledger, thread_messages
from mcp_server_claude.store.call_journal import JournaledCall
from mcp_server_claude.store.job_records import JobRecord
from mcp_server_claude.store.request_ledger import EntryResult, LedgerEntry
from mcp_server_claude.store.sqlite_connection import SqliteTransaction, open_in_memory
from mcp_server_claude.store.thread_messages import Thread, ThreadMessage

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

LISTS: dict[str, Callable[[SqliteTransaction], list[object]]] = {
    "calls": lambda tx: [*call_journal.recent_calls(tx, "ada", 10)],
    "threads": lambda tx: [*thread_messages.recent_threads(tx, "ada", 10)],
    "threads with their cost": lambda tx: [*thread_messages.threads_with_cost(tx, "ada", 10)],
    "jobs": lambda tx: [*job_records.recent_jobs(tx, "ada", 10)],
}


def add_call(tx: SqliteTransaction, number: int, user: str) -> None:
    """Add a thread with one call and its request, and a job of five items."""
    at = 1_790_000_000.0 + number
    thread, call_id, job = f"t_{number:016x}", f"c_{number:024x}", f"j_{number:024x}"
    thread_messages.create_thread(
        tx, Thread(id=thread, user=user, head="?", system="", model="m", started_at=at, touched_at=at)
    )
    message = ThreadMessage(role="user", content=[{"type": "text", "text": "?"}], model="m", call_id=call_id)
    thread_messages.append_message(tx, thread, message)
    call_journal.open_call(
        tx,
        JournaledCall(
            id=call_id, worker="w", started_at=at, tool="t", source="mcp", thread=thread, user=user, prompt_head="?"
        ),
    )
    entry = LedgerEntry(
        id=f"r_{number}", call_id=call_id, thread=thread, worker="w", started_at=at, user=user, tool="t"
    )
    request_ledger.open_entry(tx, entry)
    request_ledger.close_entry(tx, entry.id, EntryResult(end="complete", ended_at=at, cost_micros=5))
    job_records.create_job(tx, JobRecord(id=job, created_at=at, worker="w", tool="claude_map", model="m", user=user))
    job_records.add_items(tx, job, ((seq, "item") for seq in range(5)))
    job_records.open_job(tx, job)
    job_records.close_job(tx, job, end="complete", reason="", now=at)


def database_steps(connection: sqlite3.Connection, read: Callable[[SqliteTransaction], list[object]]) -> int:
    """The instructions of SQLite's virtual machine that a list takes."""
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 1

    connection.set_progress_handler(count, 1)
    rows = read(SqliteTransaction(connection))
    connection.set_progress_handler(None, 1)
    assert len(rows) == 10
    return steps


@pytest.mark.parametrize("user", ["ada", "bob"])
def test_a_list_takes_the_same_work_in_a_store_that_is_ten_times_as_large(user: str) -> None:
    """Also where all that is newer is another user's."""
    with closing(open_in_memory()) as connection:
        tx = SqliteTransaction(connection)
        for number in range(60):
            add_call(tx, number, "ada")
        few = {name: database_steps(connection, read) for name, read in LISTS.items()}
        for number in range(60, 600):
            add_call(tx, number, user)
        many = {name: database_steps(connection, read) for name, read in LISTS.items()}
    assert all(few.values())
    assert {name for name in LISTS if many[name] > 1.2 * few[name]} == set()
