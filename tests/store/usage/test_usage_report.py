"""What a report adds up: exactly the ledger, by UTC days, whichever way it finds it."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_server_claude import pricing
from mcp_server_claude.store import Store, StoreError
from mcp_server_claude.store.sqlite_connection import SqliteTransaction, open_connection, open_in_memory
from mcp_server_claude.store.usage import latency_percentiles, usage_report
from mcp_server_claude.store.usage.latency_percentiles import WHOLE_RANGE, LatencyPercentiles
from mcp_server_claude.store.usage.usage_query import UsageQuery
from mcp_server_claude.store.usage.usage_totals import UsageTotals
from support.reference_usage import ReferenceUsage
from support.sample_ledger import SampleLedger, entry_row, insert_entries, write_sample_ledger

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from pathlib import Path

    from mcp_server_claude.store import Transaction

LAST = date(2026, 11, 20)
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp()
DAY_S = 86_400
OPUS, HAIKU = "claude-opus-5-5", "claude-haiku-5-5"


@pytest.fixture
def ledger() -> Iterator[sqlite3.Connection]:
    connection = open_in_memory()
    yield connection
    connection.close()


def days(count: int, **only: str) -> UsageQuery:
    return UsageQuery(since=LAST - timedelta(days=count - 1), until=LAST, **only)


def test_a_request_belongs_to_the_utc_day_of_its_start(ledger: sqlite3.Connection) -> None:
    midnight = NOON + DAY_S / 2
    insert_entries(
        ledger,
        [
            entry_row(1, midnight - 0.001),
            entry_row(2, midnight),
            entry_row(3, midnight - DAY_S),
            entry_row(4, midnight - DAY_S - 0.001),
        ],
    )
    totals = usage_report.build_report(SqliteTransaction(ledger), UsageQuery(since=LAST, until=LAST)).totals_by("day")
    assert {day: sums.requests for day, sums in totals.items()} == {"2026-11-20": 2}
    totals = usage_report.build_report(
        SqliteTransaction(ledger), UsageQuery(since=LAST - timedelta(days=1), until=LAST + timedelta(days=1))
    )
    assert {day: sums.requests for day, sums in totals.totals_by("day").items()} == {
        "2026-11-19": 1,
        "2026-11-20": 2,
        "2026-11-21": 1,
    }
    assert totals.first_day == "2026-11-19"


def test_a_call_past_midnight_is_one_call_of_the_first_day(ledger: sqlite3.Connection) -> None:
    insert_entries(
        ledger, [entry_row(1, NOON, call_id="c_1"), entry_row(2, NOON + DAY_S, call_id="c_1", attempt=2, model=HAIKU)]
    )
    totals = usage_report.build_report(
        SqliteTransaction(ledger), UsageQuery(since=LAST, until=LAST + timedelta(days=1))
    )
    assert {day: (sums.calls, sums.requests) for day, sums in totals.totals_by("day").items()} == {
        "2026-11-20": (1, 1),
        "2026-11-21": (0, 1),
    }
    assert sum(sums.calls for sums in totals.totals_by("model").values()) == totals.totals.calls == 1


def test_a_repeated_request_is_a_retry_and_any_other_failed_one_an_error(ledger: sqlite3.Connection) -> None:
    insert_entries(
        ledger,
        [
            entry_row(1, NOON, call_id="c_1", end="failed"),
            entry_row(2, NOON, call_id="c_1", end="failed", attempt=2),
            entry_row(3, NOON, call_id="c_1", attempt=3),
            entry_row(4, NOON, call_id="c_2", end="failed"),
            entry_row(5, NOON, call_id="c_3", end="interrupted"),
            entry_row(6, NOON, call_id="c_4", end="cancelled"),
            entry_row(7, NOON, call_id="c_5", end="incomplete", stop_reason="tool_use"),
            entry_row(8, NOON, call_id="c_5", attempt=2),  # it went on reading; nothing had failed
        ],
    )
    report = usage_report.build_report(SqliteTransaction(ledger), days(1))
    assert (report.totals.retries, report.totals.errors, report.totals.calls) == (2, 2, 5)
    assert (report.users["local"].retries, report.users["local"].errors) == (2, 2)
    assert [
        (sums.retries, sums.errors) for sums in usage_report.detail_rows(SqliteTransaction(ledger), days(1)).values()
    ] == [(2, 2)]


def test_cache_savings_use_the_prices_of_the_day_and_of_the_prompt_length(
    ledger: sqlite3.Connection,
) -> None:
    opus, haiku = pricing.find_rates(OPUS), pricing.find_rates(HAIKU)
    long_haiku = pricing.find_rates(HAIKU, prompt_tokens=150_000)
    assert opus and haiku and long_haiku and haiku != long_haiku  # noqa: PT018 - the prices that this test is about
    read = {"cache_read_input_tokens": 90_000}
    insert_entries(
        ledger,
        [
            entry_row(1, NOON, **read, cache_creation_input_tokens=1_000),
            entry_row(2, NOON, model=HAIKU, **read),
            entry_row(3, NOON, model=HAIKU, **read, input_tokens=10_001),
            entry_row(4, NOON, model="local-model", **read),
        ],
    )
    saved = {
        model: sums.saved_micros
        for model, sums in usage_report.build_report(SqliteTransaction(ledger), days(1)).totals_by("model").items()
    }
    wrote = 1_000 * (opus.cache_write - opus.input)
    assert saved == {
        OPUS: 90_000 * (opus.input - opus.cache_read) - wrote,
        HAIKU: 90_000 * (haiku.input - haiku.cache_read) + 90_000 * (long_haiku.input - long_haiku.cache_read),
        "local-model": 0,
    }
    an_hour = usage_report.build_report(SqliteTransaction(ledger), days(1), cached_for_an_hour=True).totals_by("model")[
        OPUS
    ]
    assert an_hour.saved_micros == saved[OPUS] + wrote - 1_000 * (opus.cache_write_1h - opus.input)


def test_requests_without_a_price_are_counted_separately_and_running_ones_are_not_counted(
    ledger: sqlite3.Connection,
) -> None:
    unknown: dict[str, str | int | None] = {"model": "local-model", "cost_micros": None, "output_tokens": 5}
    running: dict[str, str | int | None] = {"state": "open", "end": None, "cost_micros": 70, "input_tokens": 3}
    insert_entries(
        ledger,
        [
            entry_row(1, NOON, **unknown),
            entry_row(2, NOON, **running),
            entry_row(3, NOON, **unknown | running | {"cost_micros": None}),
        ],
    )
    totals = usage_report.build_report(SqliteTransaction(ledger), days(1)).totals
    assert (totals.requests, totals.unpriced, totals.cost_micros, totals.input_tokens) == (3, 1, 70, 6)


def test_an_empty_ledger_reports_zeros(ledger: sqlite3.Connection) -> None:
    report = usage_report.build_report(SqliteTransaction(ledger), days(30))
    assert (report.totals, report.users, report.latency, report.first_day) == (UsageTotals(), {}, {}, "")
    assert report.previous == UsageTotals()
    assert usage_report.user_names(SqliteTransaction(ledger)) == []


@given(
    st.lists(
        st.tuples(st.integers(0, 70), st.sampled_from(["ada", "eve"]), st.integers(1, 60)),
        max_size=120,
    ),
    st.sampled_from([None, "ada"]),
)
def test_percentiles_are_those_of_the_sorted_times(times: list[tuple[int, str, int]], user: str | None) -> None:
    ledger = open_in_memory()
    insert_entries(
        ledger,
        [entry_row(n, NOON - back * DAY_S, user=who, ttft_ms=ms / 10) for n, (back, who, ms) in enumerate(times)],
    )
    query = UsageQuery(since=LAST - timedelta(days=60), until=LAST, user=user)
    parts: dict[str, list[float]] = {}
    for back, who, ms in times:
        day = (LAST - timedelta(days=back)).isoformat()
        if back <= 60 and user in {None, who}:
            for part in (day, day[:7], WHOLE_RANGE):
                parts.setdefault(part, []).append(ms / 10)
    expected = {
        part: LatencyPercentiles(
            *(sorted(values)[latency_percentiles.nearest_rank(percent, len(values)) - 1] for percent in (50, 90, 99))
        )
        for part, values in parts.items()
    }
    tx = SqliteTransaction(ledger)
    assert latency_percentiles.percentiles_by_period(tx, query) == expected
    filtered = replace(query, tool="claude_ask")  # counted in the ledger instead of the rollups
    assert latency_percentiles.percentiles_by_period(tx, filtered) == expected
    assert usage_report.build_report(SqliteTransaction(ledger), query).latency == expected
    ledger.close()


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger with some of everything."""
    data_dir = tmp_path_factory.mktemp("team")
    write_sample_ledger(data_dir, SampleLedger(rows=3_000))
    return data_dir


@pytest.fixture(scope="module")
def tx(team: Path) -> Iterator[Transaction]:
    connection = open_connection(team / "store.db")
    yield SqliteTransaction(connection)
    connection.close()


ONLY: list[dict[str, str]] = [
    {},
    {"user": "ada"},
    {"model": HAIKU},
    {"tool": "chat"},
    {"user": "grace", "tool": "chat"},
]


@pytest.mark.parametrize("only", ONLY)
@pytest.mark.parametrize("count", [1, 30, 75])
def test_every_row_and_part_adds_up_to_the_same_total(tx: Transaction, count: int, only: dict[str, str]) -> None:
    report = usage_report.build_report(tx, days(count, **only))
    complete = report.totals
    assert complete.requests
    fine = usage_report.detail_rows(tx, days(count, **only)).values()
    for parts in (
        *(report.totals_by(per).values() for per in ("day", "month", "model", "tool")),
        report.users.values(),
        fine,
    ):
        added = UsageTotals._make(map(sum, zip(*parts, strict=True)))
        assert added._replace(saved_micros=complete.saved_micros, timed=complete.timed) == complete


def test_the_previous_period_is_as_long_and_ends_the_day_before(tx: Transaction, team: Path) -> None:
    query = days(30)
    before = query.preceding()
    assert (before.until, len(before.days)) == (query.since - timedelta(days=1), 30)
    previous = usage_report.build_report(tx, query).previous
    with ReferenceUsage.open_ledger(team) as ledger:
        plain = ledger.totals(since=str(before.since), until=str(before.until))
    assert (previous.calls, previous.cost_micros / 1e6) == (plain["calls"], plain["totalCost"])


@pytest.mark.parametrize("only", ONLY)
def test_no_query_of_a_report_reads_more_of_the_ledger_than_its_days(team: Path, only: dict[str, str]) -> None:
    connection = open_connection(team / "store.db")
    query: set[str] = set()
    connection.set_trace_callback(query.add)
    report = usage_report.build_report(SqliteTransaction(connection), days(30, **only))
    assert report.latency
    usage_report.detail_rows(SqliteTransaction(connection), days(1, **only))
    connection.set_trace_callback(None)
    plans = [row[3] for sql in query for row in connection.execute(f"explain query plan {sql}")]
    steps = [step for step in plans if " entry " in f"{step} "]
    assert steps
    for step in steps:  # those of open requests are few
        assert "INDEX entry_open" in step or ("SCAN" not in step and "(day" in step), step
    connection.close()


@pytest.mark.anyio
async def test_a_slow_report_delays_no_other_read(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "data")
    begun, enough = threading.Event(), threading.Event()

    def slowly(_: Transaction) -> str:
        begun.set()
        enough.wait()
        return "reported"

    async with asyncio.TaskGroup() as tasks:
        report = tasks.create_task(store.read_slow(slowly))
        await asyncio.to_thread(begun.wait)
        assert await store.read(usage_report.user_names) == []
        assert not report.done()
        enough.set()
    assert report.result() == "reported"
    await store.close()
    with pytest.raises(StoreError, match="closed"):
        await store.read_slow(usage_report.user_names)


@pytest.mark.anyio
async def test_a_ledger_in_memory_can_be_reported_on(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("not a directory", encoding="utf-8")
    store = Store.open(tmp_path / "data")
    assert not store.durable
    assert (await store.read_slow(usage_report.build_report, days(30))).totals == UsageTotals()
    await store.close()
