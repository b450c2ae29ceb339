"""Locks of processes: held by stopped processes, released by killed ones, whatever the clocks say."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

import pytest

from mcp_server_claude.store import Store, process_locks, request_ledger
from mcp_server_claude.store.file_locks import LOCK_DIRECTORY, FileProcessLocks
from mcp_server_claude.store.orphan_cleanup import close_orphans
from mcp_server_claude.store.process_locks import ProcessLocks

if TYPE_CHECKING:
    from pathlib import Path

    from mcp_server_claude.store import Transaction
    from support.spawned_python import SpawnPython

pytestmark = pytest.mark.anyio

OPEN_A_REQUEST = """
import asyncio, os, sys, time
from pathlib import Path
from mcp_server_claude.store import Store, process_locks, request_ledger
from mcp_server_claude.store.request_ledger import EntryResult, LedgerEntry

def open_one(tx, worker):
    process_locks.register_process(tx, worker)
    request_ledger.open_entry(tx, LedgerEntry(id="r_1", call_id="c_1", worker=worker, started_at=time.time()))

store = Store.open(Path(sys.argv[1]), os.environ["TEST_DATABASE_URL"])
asyncio.run(store.write(open_one, store.locks.worker))
print("open", flush=True)
sys.stdin.readline()
asyncio.run(store.write(request_ledger.close_entry, "r_1", EntryResult(end="complete", ended_at=time.time())))
store.close_blocking()
print("closed", flush=True)
"""


def end_of(entries: list[request_ledger.LedgerEntry]) -> list[str | None]:
    return [entry.end for entry in entries]


async def test_a_stopped_process_counts_as_running_and_a_killed_one_as_dead_at_once(
    tmp_path: Path, spawn: SpawnPython, store: Store
) -> None:
    process = spawn(OPEN_A_REQUEST, tmp_path / "data")
    assert process.stdin
    assert process.stdout
    assert process.stdout.readline() == "open\n"
    if sys.platform != "win32":  # which has no signal that stops a process
        process.send_signal(signal.SIGSTOP)
    years_later = 4e9
    await store.write(close_orphans, store.locks, years_later)
    assert end_of(await store.read(request_ledger.entries_of_call, "c_1")) == [None]
    process.kill()
    process.wait()
    await store.write(close_orphans, store.locks, 0.0)
    while store.path is None and end_of(await store.read(request_ledger.entries_of_call, "c_1")) == [None]:
        await store.write(close_orphans, store.locks, 0.0)  # the server notices the closed connection in a moment
    assert end_of(await store.read(request_ledger.entries_of_call, "c_1")) == ["interrupted"]
    if store.path is not None:
        assert list((tmp_path / "data" / LOCK_DIRECTORY).iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
async def test_a_suspended_process_resumes_and_closes_its_request_itself(
    tmp_path: Path, spawn: SpawnPython, store: Store
) -> None:
    process = spawn(OPEN_A_REQUEST, tmp_path / "data")
    assert process.stdin
    assert process.stdout
    assert process.stdout.readline() == "open\n"
    process.send_signal(signal.SIGSTOP)
    await store.write(close_orphans, store.locks, 4e9)
    process.send_signal(signal.SIGCONT)
    process.stdin.write("go\n")
    process.stdin.flush()
    assert process.stdout.readline() == "closed\n"
    await store.write(close_orphans, store.locks, 0.0)
    assert end_of(await store.read(request_ledger.entries_of_call, "c_1")) == ["complete"]


def test_each_process_has_a_lock_of_its_own(tx: Transaction, tmp_path: Path) -> None:
    one, two = FileProcessLocks(tmp_path), FileProcessLocks(tmp_path)
    first, second = one.worker, two.worker
    assert first != second
    assert (one.worker, two.worker) == (first, second)
    assert [locks.is_running(tx, worker) for locks in (one, two) for worker in (first, second)] == [True] * 4
    one.release()
    assert not two.is_running(tx, first)
    assert sorted(path.name for path in (tmp_path / LOCK_DIRECTORY).iterdir()) == [second]
    two.release()
    two.release()
    assert not one.is_running(tx, second)


def test_without_a_directory_only_this_process_counts_as_running(tx: Transaction) -> None:
    locks = ProcessLocks()
    assert locks.is_running(tx, locks.worker)
    assert not locks.is_running(tx, "w_other")


def test_dead_processes_are_removed_and_running_ones_are_not(tx: Transaction, tmp_path: Path) -> None:
    locks, other = FileProcessLocks(tmp_path), FileProcessLocks(tmp_path)
    for worker in (locks.worker, other.worker, "w_dead"):
        process_locks.register_process(tx, worker)
        process_locks.register_process(tx, worker)
    assert process_locks.remove_dead_processes(tx, locks) == ["w_dead"]
    assert process_locks.remove_dead_processes(tx, locks) == []
    other.release()
    assert len(process_locks.remove_dead_processes(tx, locks)) == 1
    locks.release()
