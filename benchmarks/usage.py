"""How long the usage page's queries take on a ledger of a million requests, and how the database answers them.

    python benchmarks/usage.py [--rows 1000000] [--users 200] [--keep DIR] [--plans] [--write]

Makes the ledger (a minute), or takes the one that is in DIR. `--write` puts the table into `benchmarks/README.md`.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeAlias, cast

from mcp_server_claude import pricing
from mcp_server_claude.store import request_ledger
from mcp_server_claude.store.sqlite_connection import DATABASE_FILE, SqliteTransaction, open_connection
from mcp_server_claude.store.usage import usage_report
from mcp_server_claude.store.usage.usage_query import UsageQuery

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

ROOT = Path(__file__).parents[1]
README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- usage: begin -->", "<!-- usage: end -->"
REPETITIONS = 5
WRITE_COUNT = 2_000
GOALS_S = {7: 0.1, 30: 0.1, 90: 0.3}
USERS: tuple[tuple[str, str | None], ...] = (
    ("everybody", None),
    ("the busiest user", "ada"),
    ("a rare user", "user-150"),
)
TableLine: TypeAlias = tuple[str, ...]


def main() -> None:
    options = _options()
    with _folder(options.keep) as folder:
        if not (folder / DATABASE_FILE).exists():
            print(f"Making a ledger of {options.rows:,} requests …", flush=True)
            _make_ledger(folder, options.rows, options.users)
        head = _describe_ledger(folder)
        lines = [*_measure_queries(folder), *_measure_pages(folder), *_measure_writes(folder)]
        table = f"{head}\n\n{_markdown_table(lines)}"
        print(table)
        if options.plans:
            print("", *_plans(folder), sep="\n")
    if options.write:
        text = README.read_text(encoding="utf-8")
        new = re.sub(f"{BEGIN}.*{END}", lambda _: f"{BEGIN}\n{table}\n{END}", text, flags=re.DOTALL)
        README.write_text(new, encoding="utf-8")


def _measure_queries(folder: Path) -> Iterator[TableLine]:
    """The report itself, as the store's thread runs it."""
    with closing(open_connection(folder / DATABASE_FILE)) as connection:
        tx, last = SqliteTransaction(connection), _last_day(connection)
        for days, goal in GOALS_S.items():
            for who, user in USERS:
                query = UsageQuery(since=last - timedelta(days=days - 1), until=last, user=user)
                wall, cpu = _median_times(lambda query=query: usage_report.build_report(tx, query))
                yield (
                    f"report, {days} days, {who}",
                    f"{wall * 1000:,.0f} ms",
                    f"{cpu * 1000:,.0f} ms",
                    f"{goal * 1000:,.0f} ms",
                )
        busiest = UsageQuery(since=last - timedelta(days=2), until=last - timedelta(days=2))
        wall, cpu = _median_times(lambda: usage_report.detail_rows(tx, busiest))
        yield "CSV, one day, everybody", f"{wall * 1000:,.0f} ms", f"{cpu * 1000:,.0f} ms", "–"


def _measure_pages(folder: Path) -> Iterator[TableLine]:
    """The whole answer over HTTP, from a server process on this machine."""
    with _server(folder) as url:
        for days, goal in GOALS_S.items():
            address = f"{url}/usage.json?days={days}"
            wall, _ = _median_times(lambda address=address: _get(address))
            yield f"GET /usage.json, {days} days, everybody", f"{wall * 1000:,.0f} ms", "", f"{goal * 1000:,.0f} ms"


def _measure_writes(folder: Path) -> Iterator[TableLine]:
    """The cost of a request's three writes, daily sums included, and without the indexes that only reports use."""
    with closing(open_connection(folder / DATABASE_FILE)) as connection:
        connection.execute("begin immediate")
        _wall, slow = _median_times(lambda: _write_requests(SqliteTransaction(connection)))
        for index in ("entry_first", "entry_long_prompt", "usage_cell_day"):
            connection.execute(f"drop index {index}")
        _wall, fast = _median_times(lambda: _write_requests(SqliteTransaction(connection)))
        connection.execute("rollback")
    each = 1e6 / WRITE_COUNT
    yield "a request's three writes", "", f"{slow * each:,.0f} µs", f"{fast * each:,.0f} µs without the indexes"


def _write_requests(tx: SqliteTransaction) -> None:
    now = time.time()
    for n in range(WRITE_COUNT):
        name = f"r_{os.urandom(8).hex()}"
        user, model = f"user-{n % 150:03d}", "claude-opus-5-5"
        entry = request_ledger.LedgerEntry(
            id=name, call_id=name, worker="w", started_at=now, user=user, tool="chat", model=model
        )
        request_ledger.open_entry(tx, entry)
        request_ledger.record_entry_progress(tx, name, model=model, input_tokens=1_000, cost_micros=4_000)
        closing = request_ledger.EntryResult(
            end="complete", ended_at=now, input_tokens=1_000, cost_micros=9_000, ttft_ms=700.0
        )
        request_ledger.close_entry(tx, name, replace(closing, output_tokens=n))


@dataclass
class _ExplainingTx(SqliteTransaction):
    """Runs a report, and asks the database how it answers each of its queries."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__(connection)
        self._explained = connection
        self.seen: dict[str, list[str]] = {}

    def explain(self, query: UsageQuery) -> None:
        connection, sent = self._explained, set[str]()
        connection.set_trace_callback(sent.add)
        usage_report.build_report(self, query)
        connection.set_trace_callback(None)
        for sql in sent:
            plan = [str(row[3]) for row in connection.execute(f"explain query plan {sql}")]
            steps = [step for step in plan if " entry" in step or " later" in step or "TEMP" in step]
            self.seen.setdefault("; ".join(dict.fromkeys(steps)), []).append(" ".join(sql.split())[:70])


def _plans(folder: Path) -> Iterator[str]:
    with closing(open_connection(folder / DATABASE_FILE)) as connection:
        last = _last_day(connection)
        explained = _ExplainingTx(connection)
        explained.explain(UsageQuery(since=last - timedelta(days=29), until=last))
        for plan, queries in explained.seen.items():
            yield f"{len(queries)} × {queries[0]} …\n    {plan}"


def _median_times(work: Callable[[], object]) -> tuple[float, float]:
    """The median of some runs after a first one: seconds by the clock, and of this thread's CPU."""
    work()
    wall, cpu = list[float](), list[float]()
    for _ in range(REPETITIONS):
        began, used = time.perf_counter(), time.thread_time()
        work()
        wall.append(time.perf_counter() - began)
        cpu.append(time.thread_time() - used)
    return statistics.median(wall), statistics.median(cpu)


def _make_ledger(folder: Path, rows: int, users: int) -> None:
    command = [sys.executable, "-m", "support.sample_ledger", str(folder), str(rows), str(users), "120"]
    subprocess.run(command, check=True, cwd=ROOT / "tests")


@contextmanager
def _server(folder: Path) -> Generator[str]:
    env = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ} | {"HOME": str(folder)}
    env |= {"MCP_CLAUDE_DATA_DIR": str(folder), "MCP_CLAUDE_API_KEY": "x", "MCP_CLAUDE_BASE_URL": "http://127.0.0.1:9"}
    command = [sys.executable, "-m", "mcp_server_claude", "serve", "--http", "--port", "0"]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            first = cast("IO[str]", server.stdout).readline()
            yield first.split(" listens on ")[1].split()[0]
        finally:
            server.terminate()


def _get(address: str) -> bytes:
    with urllib.request.urlopen(address) as answer:  # noqa: S310 - our own server
        return answer.read()


def _last_day(connection: sqlite3.Connection) -> date:
    return date.fromisoformat(connection.execute("select max(day) from entry").fetchone()[0])


def _describe_ledger(folder: Path) -> str:
    with closing(open_connection(folder / DATABASE_FILE)) as connection:
        month = str(_last_day(connection) - timedelta(days=29))
        counts = 'count(*), count(distinct "user"), count(distinct day), count(*) filter (where day >= ?)'
        rows, users, days, recent = connection.execute(f"select {counts} from entry", (month,)).fetchone()  # noqa: S608
    pricing.price_list_version()  # the library is imported once in a process, and not part of any query
    machine = f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"
    size = (folder / DATABASE_FILE).stat().st_size / 1e6
    return (
        f"{datetime.now(UTC):%Y-%m-%d}; {machine}, SQLite {sqlite3.sqlite_version}; load before: "
        f"{os.getloadavg()[0]:.1f}. {rows:,} requests of {users} users on {days} days ({recent:,} in the last 30); "
        f"{size:,.0f} MB."
    )


def _markdown_table(lines: list[TableLine]) -> str:
    head: list[TableLine] = [("what", "by the clock", "CPU", "goal, or beside it"), ("---", "--:", "--:", "--:")]
    return "\n".join(f"| {' | '.join(line)} |" for line in head + lines)


@contextmanager
def _folder(keep: Path | None) -> Generator[Path]:
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep
        return
    with tempfile.TemporaryDirectory() as temporary:
        yield Path(temporary)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--keep", type=Path, help="where the ledger is, or is kept")
    parser.add_argument("--plans", action="store_true", help="print how the database answers each query")
    parser.add_argument("--write", action="store_true", help="put the table into benchmarks/README.md")
    return parser.parse_args()


if __name__ == "__main__":
    main()
