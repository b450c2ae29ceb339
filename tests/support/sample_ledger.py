"""A ledger as a team leaves it behind: weekdays and weekends, a bad day, retries, a cache. Made up, the same each time.

In `tests`, `python -m support.sample_ledger FOLDER [ROWS] [USERS] [DAYS]` writes one,
so that the pages can be looked at with `MCP_CLAUDE_DATA_DIR=FOLDER mcp-server-claude serve --http`.
"""

from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, TypeAlias

from mcp_server_claude import pricing
from mcp_server_claude.store import sqlite_connection
from mcp_server_claude.store.usage import daily_rollups

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator

EntryRow: TypeAlias = dict[str, str | int | float | None]

USER_NAMES = ("ada", "grace", "ci-bot", "linus", "margaret")
MODEL_SHARES = {"claude-opus-5-5": 0.46, "claude-sonnet-5-5": 0.33, "claude-haiku-5-5": 0.17, "claude-fable-5-2": 0.04}
TOOL_SHARES = {"claude_ask": 0.66, "chat": 0.34}
OUTAGE_DAYS_AGO = 5
"""So many days before the last one, or a little earlier on a weekday, the API was overloaded."""


@dataclass(frozen=True, kw_only=True)
class SampleLedger:
    """How much was asked, by how many, on how many days up to `until`."""

    rows: int = 9_000
    users: int = len(USER_NAMES)
    days: int = 75
    until: date = date(2026, 11, 20)
    seed: int = 7


def write_sample_ledger(data_dir: Path, team: SampleLedger) -> Path:
    """Make the ledger; returns its file."""
    data_dir.mkdir(parents=True, exist_ok=True)
    path, connection = sqlite_connection.open_database(data_dir)
    with closing(connection):
        insert_entries(connection, _requests(team))
    return path


def insert_entries(connection: sqlite3.Connection, rows: Iterable[EntryRow]) -> None:
    """Write lines as they are, in one transaction."""
    names = entry_row(0, 0.0).keys()  # the columns that reports do not use keep their defaults
    columns, values = ", ".join(f'"{name}"' for name in names), ", ".join(f":{name}" for name in names)
    connection.execute("begin")
    connection.executemany(f"insert into entry ({columns}) values ({values})", rows)  # noqa: S608 - our own names
    daily_rollups.rebuild_rollups(sqlite_connection.SqliteTransaction(connection))
    connection.execute("commit")


def entry_row(number: int, at: float, **columns: str | float | None) -> EntryRow:
    """A finished request with nothing remarkable about it, but for what is known."""
    usual: EntryRow = {
        "id": f"r_{number:016x}",
        "call_id": f"c_{int(at):08x}{number:08x}",
        "attempt": 1,
        "worker": "w_0000000000000000",
        "user": "local",
        "client": "test",
        "source": "mcp",
        "tool": "claude_ask",
        "thread": None,
        "project": ("docs", "shop", "site")[number % 3],
        "model": "claude-opus-5-5",
        "host": "api.anthropic.com",
        "day": datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d"),
        "started_at": at,
        "ended_at": at + 9,
        "state": "closed",
        "end": "complete",
        "status": 200,
        "failure": None,
        "request_id": f"req_{number:016x}",
        "stop_reason": "end_turn",
        "input_tokens": 0,
        "cache_read_input_tokens": 0,
        "cache_creation_input_tokens": 0,
        "output_tokens": 0,
        "thinking_tokens": 0,
        "web_searches": 0,
        "cost_micros": 0,
        "pricing_as_of": "2026-11-17",
        "estimated": 0,
        "ttft_ms": None,
        "duration_ms": 9000.0,
        "trace_id": "",
        "held_micros": 0,
    }
    return usual | columns


def _requests(team: SampleLedger) -> Iterator[EntryRow]:
    """Every request, oldest first."""
    random, number = Random(team.seed), 0
    people = [USER_NAMES[n] if n < len(USER_NAMES) else f"user-{n:03d}" for n in range(team.users)]
    shares = [1 / (n + 1) ** 0.6 for n in range(team.users)]
    bad_day = next(
        day for day in (team.until - timedelta(days=OUTAGE_DAYS_AGO + n) for n in range(3)) if day.weekday() < 5
    )
    for back, many in _requests_per_day(team, random):
        day = team.until - timedelta(days=back)
        midnight = datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()
        who = random.choices(people, shares, k=many)
        what = random.choices(list(MODEL_SHARES), list(MODEL_SHARES.values()), k=many)
        how = random.choices(list(TOOL_SHARES), list(TOOL_SHARES.values()), k=many)
        retried = None
        for user, model, tool, at in zip(who, what, how, _request_times(random, many), strict=True):
            number += 1
            made = retried or entry_row(number, midnight + at, user=user, model=model, tool=tool, source=_source(tool))
            made = made | {"id": f"r_{number:016x}", "started_at": max(midnight + at, float(made["started_at"] or 0))}
            bad = random.random() < (0.07 if day == bad_day else 0.012)
            yield made | (
                _failed_request() if bad else _answered_request(random, str(made["model"]), slow=day == bad_day)
            )
            again = bad and random.random() < 0.85
            retried = made | {"attempt": int(made["attempt"] or 0) + 1} if again else None


def _requests_per_day(team: SampleLedger, random: Random) -> Iterator[tuple[int, int]]:
    """How many days back, and how many requests on that day; all of them together are the team's `rows`."""
    busy: list[float] = []
    for back in range(team.days - 1, -1, -1):
        weekend = (team.until - timedelta(days=back)).weekday() > 4
        busy.append((0.3 if weekend else 1) * (1 + 0.4 * (team.days - back) / team.days) * random.uniform(0.8, 1.2))
    done = 0.0
    for place, share in enumerate(busy):
        before, done = done, done + share / sum(busy)
        yield team.days - 1 - place, round(done * team.rows) - round(before * team.rows)


def _request_times(random: Random, many: int) -> list[float]:
    return sorted(min(86_399.0, max(0.0, random.gauss(50_000, 12_000))) for _ in range(many))


def _source(tool: str) -> str:
    return "http" if tool == "chat" else "mcp"


def _failed_request() -> EntryRow:
    return {"end": "failed", "status": 529, "failure": "overloaded", "request_id": None, "stop_reason": None}


def _answered_request(random: Random, model: str, *, slow: bool) -> EntryRow:
    fresh, written = int(random.lognormvariate(6.9, 0.8)), int(random.lognormvariate(7.6, 0.7))
    read = int(random.lognormvariate(9.3, 0.9)) if random.random() < 0.7 else 0
    written = written if random.random() < 0.35 else 0
    output = int(random.lognormvariate(6.1, 0.8))
    rates = pricing.find_rates(model)
    cost = None if rates is None else fresh * rates.input + read * rates.cache_read
    if rates is not None and cost is not None:
        cost += written * rates.cache_write + output * rates.output
    pace = {"claude-haiku-5-5": 0.6, "claude-fable-5-2": 1.6}.get(model, 1) * (1.9 if slow else 1)
    first = round(random.lognormvariate(6.4, 0.5) * pace, 1)
    return {
        "input_tokens": fresh,
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": written,
        "output_tokens": output,
        "cost_micros": None if cost is None else round(cost),
        "ttft_ms": first,
        "duration_ms": round(first + output * 14 * pace, 1),
    }


if __name__ == "__main__":
    folder, *numbers = sys.argv[1:]
    sizes = dict(zip(("rows", "users", "days"), map(int, numbers), strict=False))
    today = datetime.now(UTC).date()
    write_sample_ledger(Path(folder), SampleLedger(**sizes, until=today))
