"""How long the lists of calls, threads and jobs take for a user who has many of them.

    python benchmarks/lists.py [--calls 100000]

Makes a store with that many calls of one user, five in a thread, and a job of 100 items for every hundred calls.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from mcp_server_claude.store import call_journal, job_records, sqlite_connection, thread_messages
from mcp_server_claude.store.call_journal import JournaledCall
from mcp_server_claude.store.job_records import JobRecord
from mcp_server_claude.store.sqlite_connection import SqliteTransaction
from mcp_server_claude.store.thread_messages import Thread, ThreadMessage
from stdio_client import StdioServer

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator, Mapping

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support.sample_ledger import entry_row, insert_entries

CALLS_PER_THREAD = 5
CALLS_PER_JOB = 100
REPETITIONS = 21
BEGIN_AT = 1_790_000_000.0
GOAL_MS = 20
USER = "local"


def main() -> None:
    parser = argparse.ArgumentParser(description="Print how long lists take in a large store.")
    parser.add_argument("--calls", type=int, default=100_000)
    calls: int = parser.parse_args().calls
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home) / "data"
        folder.mkdir()
        _, connection = sqlite_connection.open_database(folder)
        with closing(connection):
            _fill(connection, calls)
            rows = [*_measure_queries(connection)]
        rows += _measure_requests(home, folder)
    print(f"{calls:,} calls, {calls // CALLS_PER_THREAD:,} threads, {calls // CALLS_PER_JOB:,} jobs of 100 items\n")
    print("| list | median | worst | goal |\n| --- | --: | --: | --: |")
    for name, times in rows:
        print(f"| {name} | {statistics.median(times):.1f} ms | {max(times):.1f} ms | {GOAL_MS} ms |")


def _fill(connection: sqlite3.Connection, calls: int) -> None:
    tx = SqliteTransaction(connection)
    connection.execute("begin")
    for number in range(calls):
        thread, turn = divmod(number, CALLS_PER_THREAD)
        call_id, thread_id, at = f"c_{number:024x}", f"t_{thread:016x}", BEGIN_AT + number
        if not turn:
            _create_thread(tx, thread_id, at)
        for role in ("user", "assistant"):
            content: list[dict[str, object]] = [{"type": "text", "text": f"The {role}'s words of turn {turn}. " * 20}]
            message = ThreadMessage(role=role, content=content, model="claude-opus-5-5", call_id=call_id)
            thread_messages.append_message(tx, thread_id, message)
        call_journal.open_call(tx, _call(call_id, thread_id, at))
        if not number % CALLS_PER_JOB:
            _create_job(tx, number, at)
    connection.execute("commit")
    insert_entries(
        connection,
        (
            entry_row(n, BEGIN_AT + n, call_id=f"c_{n:024x}", thread=f"t_{n // CALLS_PER_THREAD:016x}")
            for n in range(calls)
        ),
    )


def _create_thread(tx: SqliteTransaction, thread_id: str, at: float) -> None:
    thread = Thread(
        id=thread_id,
        user=USER,
        head="A question about the harbour",
        system="",
        model="claude-opus-5-5",
        started_at=at,
        touched_at=at,
    )
    thread_messages.create_thread(tx, thread)


def _call(call_id: str, thread_id: str, at: float) -> JournaledCall:
    return JournaledCall(
        id=call_id,
        worker="w_0000000000000000",
        started_at=at,
        tool="claude_ask",
        source="mcp",
        thread=thread_id,
        model="claude-opus-5-5",
        prompt_head="A question about the harbour",
        state="closed",
        end="complete",
        ended_at=at + 1,
    )


def _create_job(tx: SqliteTransaction, number: int, at: float) -> None:
    job_id = f"j_{number:024x}"
    job = JobRecord(
        id=job_id,
        created_at=at,
        worker="w_0000000000000000",
        tool="claude_map",
        model="claude-opus-5-5",
        title="Translate {item}",
    )
    job_records.create_job(tx, job)
    job_records.add_items(tx, job_id, ((seq, f"item {seq}") for seq in range(CALLS_PER_JOB)))
    job_records.open_job(tx, job_id)
    job_records.close_job(tx, job_id, end="complete", reason="", now=at + 60)


def _measure_queries(connection: sqlite3.Connection) -> Iterator[tuple[str, list[float]]]:
    """The queries themselves, as the store's thread runs them."""
    tx = SqliteTransaction(connection)
    yield "recent calls (query)", _times(lambda: call_journal.recent_calls(tx, USER))
    yield "50 threads with their cost (query)", _times(lambda: thread_messages.threads_with_cost(tx, USER, 50))
    yield "10 jobs with their progress (query)", _times(lambda: job_records.recent_jobs(tx, USER, 10))


def _measure_requests(home: str, folder: Path) -> list[tuple[str, list[float]]]:
    """The same lists as an MCP client gets them over stdio."""
    environment = {
        "PATH": "",
        "HOME": home,
        "MCP_CLAUDE_DATA_DIR": str(folder),
        "MCP_CLAUDE_API_KEY": "sk-ant-benchmark",
        "MCP_CLAUDE_BASE_URL": "http://127.0.0.1:9",
    }
    with StdioServer("ours", environment) as server:
        server.wait_until_idle()

        def request(method: str, params: Mapping[str, object]) -> None:
            server.wait_for_answer(server.request(method, params))

        return [
            ("`claude_jobs`", _times(lambda: request("tools/call", {"name": "claude_jobs", "arguments": {}}))),
            ("`resources/list`", _times(lambda: request("resources/list", {}))),
        ]


def _times(work: Callable[[], object]) -> list[float]:
    """Milliseconds of each repetition; the first of all reads the database from the disk and is not one of them."""
    work()
    times: list[float] = []
    for _ in range(REPETITIONS):
        began = time.perf_counter()
        work()
        times.append((time.perf_counter() - began) * 1e3)
    return times


if __name__ == "__main__":
    main()
