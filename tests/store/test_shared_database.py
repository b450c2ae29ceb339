"""Real processes on one file: what is shared, what is lost (nothing), what a kill leaves."""

from __future__ import annotations

import stat
import sys
from typing import TYPE_CHECKING

import pytest

from mcp_server_claude.store import Store, budget_reservations, request_ledger
from mcp_server_claude.store.transaction import scalar
from support.quick_run import slow_beyond

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from support.spawned_python import SpawnPython

pytestmark = pytest.mark.anyio

COMMON = """
import asyncio, os, sys, time
from pathlib import Path
from mcp_server_claude.store import Store, budget_reservations, process_locks, request_ledger

def open_store(directory):
    return Store.open(directory, os.environ["TEST_DATABASE_URL"])

def together():
    print("ready", flush=True)
    sys.stdin.readline()
"""

LOAD = """
directory, name, tasks, each = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])

def job(tx, id):
    process_locks.register_process(tx, name)
    request_ledger.open_entry(tx, request_ledger.LedgerEntry(id=id, call_id=name, worker=name, started_at=time.time()))
    budget_reservations.reserve_up_to(tx, [("total", None)], "2026-11-20", 7, 7, id)
    budget_reservations.settle(tx, id, 5)

async def main():
    store = open_store(directory)
    together()
    async def run(task):
        for n in range(each):
            await store.write(job, f"{name}-{task}-{n}")
            assert await store.read(request_ledger.entries_of_call, name)
    await asyncio.gather(*(run(task) for task in range(tasks)))
    await store.close()

asyncio.run(main())
"""

CREATE = """
root = Path(sys.argv[1])
together()
for n in range(12):
    store = open_store(root / str(n))
    asyncio.run(store.write(process_locks.register_process, sys.argv[2]))
    store.close_blocking()
    print(store.last_error or "durable", flush=True)
"""

WRITE_FOREVER = """
async def main():
    store = open_store(Path(sys.argv[1]))
    async def run(task):
        for n in range(10**9):
            id = f"r_{task}_{n}"
            entry = request_ledger.LedgerEntry(id=id, call_id="c", worker="w", started_at=time.time())
            await store.write(request_ledger.open_entry, entry)
            print(id, flush=True)
    await asyncio.gather(*(run(task) for task in range(5)))

asyncio.run(main())
"""

RESERVE = """
async def main():
    store = open_store(Path(sys.argv[1]))
    together()
    scopes = [("total", 100_000), ("user:ada", 90_000)]
    reserve, day = budget_reservations.reserve_up_to, "2026-11-20"
    ids = [f"{sys.argv[2]}-{n}" for n in range(50)]
    got = await asyncio.gather(*(store.write(reserve, scopes, day, 3_000, 3_000, id) for id in ids))
    print(sum(isinstance(one, budget_reservations.Reservation) for one in got))
    await store.close()

asyncio.run(main())
"""

HOLD_OPEN = """
store = open_store(Path(sys.argv[1]))
asyncio.run(store.write(process_locks.register_process, "w"))
together()
store.close_blocking()
"""


@pytest.mark.parametrize("each", slow_beyond(1, [8, 40]))
async def test_two_processes_share_a_file_under_load_without_an_error_and_lose_nothing(
    tmp_path: Path, spawn: SpawnPython, store: Store, each: int
) -> None:
    both = [spawn(COMMON + LOAD, tmp_path / "data", name, 8, each) for name in ("one", "two")]
    start(both)
    assert [process.wait() for process in both] == [0, 0]
    assert [len(await store.read(request_ledger.entries_of_call, name)) for name in ("one", "two")] == [8 * each] * 2
    remaining = await store.read(budget_reservations.remaining_micros, "total", "2026-11-20", 10_000)
    assert remaining == 10_000 - 2 * 8 * each * 5


async def test_four_processes_can_create_and_migrate_a_file_at_the_same_moment(
    tmp_path: Path, spawn: SpawnPython
) -> None:
    four = [spawn(COMMON + CREATE, tmp_path, name) for name in range(4)]
    start(four)
    assert [process.stdout.read().split() for process in four if process.stdout] == [["durable"] * 12] * 4
    for n in range(12):
        store = Store.open(tmp_path / str(n))
        assert await store.read(lambda tx: tx.fetch_one(scalar, "select count(*) as n from process")) == 4
        await store.close()


async def test_a_killed_writer_loses_no_commit_that_it_had_acknowledged(tmp_path: Path, spawn: SpawnPython) -> None:
    for kill in range(5):
        directory = tmp_path / str(kill)
        writer = spawn(COMMON + WRITE_FOREVER, directory)
        assert writer.stdout
        acknowledged = [writer.stdout.readline().strip() for _ in range(50 + 37 * kill)]
        writer.kill()
        acknowledged += [line.strip() for line in writer.stdout if line.endswith("\n")]
        store = Store.open(directory)
        entries = {entry.id for entry in await store.read(request_ledger.entries_of_call, "c")}
        await store.close()
        assert set(acknowledged) <= entries


async def test_a_hundred_reservations_in_two_processes_grant_exactly_the_cap(
    tmp_path: Path, spawn: SpawnPython, store: Store
) -> None:
    both = [spawn(COMMON + RESERVE, tmp_path / "data", name) for name in ("one", "two")]
    start(both)
    granted = sum(int(process.stdout.read()) for process in both if process.stdout)
    assert granted == 30
    assert await store.read(budget_reservations.remaining_micros, "user:ada", "2026-11-20", 90_000) == 0
    assert await store.read(budget_reservations.remaining_micros, "total", "2026-11-20", 100_000) == 10_000


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no modes of files")
@pytest.mark.parametrize("umask", [0o022, 0o000, 0o377])
async def test_the_directory_and_files_are_private_whatever_the_umask(
    tmp_path: Path, spawn: SpawnPython, umask: int
) -> None:
    process = spawn(COMMON + HOLD_OPEN, tmp_path / "data", umask=umask)
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "data").iterdir()}
    assert modes == {"store.db": 0o600, "store.db-wal": 0o600, "store.db-shm": 0o600}
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700


def start(processes: list[subprocess.Popen[str]]) -> None:
    """Wait until all are ready, then let all go."""
    for process in processes:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
