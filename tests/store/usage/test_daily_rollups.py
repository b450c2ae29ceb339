"""Daily rollups: the sums that are stored are those of the requests, whatever happens to a request."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from hypothesis import example, given, settings
from hypothesis import strategies as st

from mcp_server_claude.store import process_locks, request_ledger
from mcp_server_claude.store.request_ledger import EndStatus, EntryResult, LedgerEntry
from mcp_server_claude.store.sqlite_connection import SqliteTransaction, open_in_memory
from mcp_server_claude.store.transaction import scalar
from mcp_server_claude.store.usage import daily_rollups, usage_report
from mcp_server_claude.store.usage.usage_query import UsageQuery

if TYPE_CHECKING:
    from mcp_server_claude.store import Transaction

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
ENDS: tuple[EndStatus, ...] = ("complete", "incomplete", "failed", "cancelled")

calls = st.sampled_from(["c_1", "c_2", "c_3"])
opened = st.tuples(st.just("open"), calls, st.integers(0, 2), st.sampled_from(["ada", "bob"]))
recorded = st.tuples(st.just("record"), st.integers(0, 15), st.integers(0, 2**60))
closed = st.tuples(
    st.just("close"),
    st.integers(0, 15),
    st.sampled_from(ENDS),
    st.none() | st.integers(0, 10**6),
    st.none() | st.floats(0, 9e4),
)
orphaned = st.tuples(st.just("orphan"))


@settings(deadline=None)
@given(st.lists(opened | recorded | closed | orphaned, max_size=40))
@example([("open", "c_1", 0, "ada"), ("close", 0, "failed", 5, 100.0), ("open", "c_1", 0, "ada")])  # it was retried
@example([("open", "c_1", 0, "ada"), ("orphan",), ("close", 0, "complete", 5, 100.0)])  # its process was not dead
def test_the_sums_follow_every_change_of_a_request(
    steps: list[
        tuple[str, str, int, str]
        | tuple[str, int, int]
        | tuple[str, int, EndStatus, int | None, float | None]
        | tuple[str]
    ],
) -> None:
    with closing(open_in_memory()) as connection:
        tx = SqliteTransaction(connection)
        attempts: dict[str, int] = {}
        for step in steps:
            match step:
                case ("open", str(call_id), int(days), str(user)):
                    attempts[call_id] = attempts.get(call_id, 0) + 1
                    open_one(tx, sum(attempts.values()) - 1, call_id, attempts[call_id], days, user)
                case ("record", int(number), int(tokens)):
                    request_ledger.record_entry_progress(tx, f"r_{number}", output_tokens=tokens, model="other")
                case ("close", int(number), end, cost, ttft):
                    result = EntryResult(end=end, ended_at=1.0, cost_micros=cost, ttft_ms=ttft, output_tokens=number)
                    request_ledger.close_entry(tx, f"r_{number}", result)
                case _:
                    request_ledger.close_orphaned_entries(tx, 1.0)
            assert daily_rollups.days_that_differ(tx) == []
        kept = {table: tx.fetch_all(dict[str, object], ordered(table)) for table in TABLES}
        daily_rollups.rebuild_rollups(tx)
        assert {table: tx.fetch_all(dict[str, object], ordered(table)) for table in TABLES} == kept
        query = UsageQuery(since=NOON.date(), until=NOON.date() + timedelta(days=2))
        assert usage_report.build_report(tx, query).totals.requests == sum(attempts.values())


TABLES = ("usage_total", "usage_user_total", "usage_cell", "usage_project_cell", "usage_project_total", "latency_count")


def ordered(table: str) -> str:
    return f"select * from {table} where requests <> 0 order by 1, 2, 3, 4"  # noqa: S608 - the names above


def open_one(tx: Transaction, number: int, call_id: str, attempt: int, days: int, user: str) -> None:
    started_at = (NOON + timedelta(days=days)).timestamp()
    if number % 2:
        process_locks.register_process(tx, "w_running")
    worker = "w_running" if number % 2 else "w_dead"
    request_ledger.open_entry(
        tx,
        LedgerEntry(
            id=f"r_{number}",
            call_id=call_id,
            attempt=attempt,
            worker=worker,
            started_at=started_at,
            user=user,
            tool="t",
            project=f"p{number % 3}",
        ),
    )


def test_a_difference_is_found_by_its_day_and_corrected_by_rebuilding(tx: Transaction) -> None:
    open_one(tx, 0, "c_1", 1, 0, "ada")
    request_ledger.close_entry(tx, "r_0", EntryResult(end="complete", ended_at=1.0, cost_micros=5, ttft_ms=100.0))
    for statement in (
        "update usage_total set cost_micros = 6",
        "update latency_count set bucket = bucket + 1",
        "delete from usage_cell",
        "insert into usage_user_total select '2026-11-20', 'nobody', 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0",
    ):
        tx.execute(statement)
        assert daily_rollups.days_that_differ(tx) == ["2026-11-20"]
        daily_rollups.rebuild_rollups(tx)
        assert daily_rollups.days_that_differ(tx) == []
    assert tx.fetch_one(scalar, "select cost_micros from usage_total") == 5
