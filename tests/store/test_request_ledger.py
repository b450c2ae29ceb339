"""The ledger: one entry for every request, completed once, and closed by others only if its process is dead."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest

from mcp_server_claude.store import budget_reservations, process_locks, request_ledger
from mcp_server_claude.store.request_ledger import EntryResult, LedgerEntry
from mcp_server_claude.store.usage import daily_rollups
from mcp_server_claude.store.usage.usage_query import UsageQuery
from mcp_server_claude.store.usage.usage_report import build_report

if TYPE_CHECKING:
    from mcp_server_claude.store import Transaction

DAY = "2026-11-20"
NOON = 1_795_176_000.0  # 2026-11-20T12:00Z
ONE = LedgerEntry(id="r_1", call_id="c_1", worker="w", started_at=NOON, model="claude-opus-5-5", tool="claude_ask")


def reserve(tx: Transaction, micros: int) -> None:
    budget_reservations.reserve_up_to(tx, [("total", 1000), ("user:ada", 1000)], DAY, micros, micros, "r_1")


def remaining(tx: Transaction) -> list[int]:
    return [budget_reservations.remaining_micros(tx, scope, DAY, 1000) for scope in ("total", "user:ada")]


def test_an_entry_is_read_as_it_was_written(tx: Transaction) -> None:
    full = replace(
        ONE, thread="t_1", host="gateway.example", estimated=True, held_micros=7, source="mcp", client="x", trace_id="t"
    )
    request_ledger.open_entry(tx, full)
    assert request_ledger.entries_of_call(tx, "c_1") == [full]


def test_a_request_is_finished_exactly_once(tx: Transaction) -> None:
    request_ledger.open_entry(tx, ONE)
    assert request_ledger.close_entry(
        tx, "r_1", EntryResult(end="complete", ended_at=NOON + 1, output_tokens=9, cost_micros=31)
    )
    assert not request_ledger.close_entry(tx, "r_1", EntryResult(end="failed", ended_at=NOON + 2))
    assert not request_ledger.record_entry_progress(tx, "r_1", output_tokens=1000)
    assert not request_ledger.close_entry(tx, "r_unknown", EntryResult(end="failed", ended_at=NOON))
    assert request_ledger.entries_of_call(tx, "c_1") == [
        replace(ONE, state="closed", end="complete", ended_at=NOON + 1, output_tokens=9, cost_micros=31)
    ]


def test_the_cost_of_an_entry_whose_row_was_deleted_is_spent_and_its_reservation_released(tx: Transaction) -> None:
    request_ledger.open_entry(tx, ONE)
    reserve(tx, 400)
    tx.execute("delete from entry")
    assert not request_ledger.close_entry(tx, "r_1", EntryResult(end="complete", ended_at=NOON + 1), 30)
    assert remaining(tx) == [970, 970]


def test_model_and_request_id_recorded_during_the_request_survive_an_end_without_them(tx: Transaction) -> None:
    request_ledger.open_entry(tx, ONE)
    assert request_ledger.record_entry_progress(
        tx, "r_1", model="claude-opus-5-5-20261101", request_id="req_1", input_tokens=12
    )
    request_ledger.close_entry(tx, "r_1", EntryResult(end="cancelled", ended_at=NOON + 1, estimated=True))
    (entry,) = request_ledger.entries_of_call(tx, "c_1")
    assert (entry.model, entry.request_id, entry.estimated) == ("claude-opus-5-5-20261101", "req_1", True)


def test_an_unknown_field_of_an_entry_cannot_be_recorded(tx: Transaction) -> None:
    strange: dict[str, Any] = {"prompt": "secret"}
    with pytest.raises(TypeError, match="prompt"):
        request_ledger.record_entry_progress(tx, "r_1", **strange)


def test_a_request_of_a_registered_process_is_not_closed_by_others(tx: Transaction) -> None:
    process_locks.register_process(tx, "w")
    request_ledger.open_entry(tx, ONE)
    assert request_ledger.close_orphaned_entries(tx, NOON + 1e9) == []
    assert request_ledger.entries_of_call(tx, "c_1") == [ONE]


def test_a_request_of_a_dead_process_is_closed_once_with_its_recorded_usage_and_its_reservations_are_released(
    tx: Transaction,
) -> None:
    request_ledger.open_entry(tx, ONE)
    reserve(tx, 800)
    request_ledger.record_entry_progress(tx, "r_1", input_tokens=12, cost_micros=60)
    assert request_ledger.close_orphaned_entries(tx, NOON + 30) == ["r_1"]
    assert request_ledger.close_orphaned_entries(tx, NOON + 31) == []
    assert request_ledger.entries_of_call(tx, "c_1") == [
        replace(
            ONE, state="closed", end="interrupted", ended_at=NOON + 30, input_tokens=12, cost_micros=60, estimated=True
        )
    ]
    assert remaining(tx) == [940, 940]


def test_the_result_of_the_owner_replaces_interrupted_and_records_the_difference(tx: Transaction) -> None:
    request_ledger.open_entry(tx, ONE)
    reserve(tx, 800)
    request_ledger.record_entry_progress(tx, "r_1", cost_micros=60)
    request_ledger.close_orphaned_entries(tx, NOON + 30)
    result = EntryResult(end="complete", ended_at=NOON + 36, output_tokens=9, cost_micros=700)
    assert request_ledger.close_entry(tx, "r_1", result, 700)
    assert not request_ledger.close_entry(tx, "r_1", result, 700)
    (entry,) = request_ledger.entries_of_call(tx, "c_1")
    assert (entry.end, entry.cost_micros, entry.estimated) == ("complete", 700, False)
    assert remaining(tx) == [300, 300]
    assert daily_rollups.days_that_differ(tx) == []


@pytest.mark.parametrize("budget", ["there", "deleted"])
def test_an_entry_that_is_not_there_is_written_with_its_result_and_its_cost_in_the_budgets(
    tx: Transaction, budget: str
) -> None:
    scopes = (("user:ada", 1000), ("total", 1000))
    opened = request_ledger.OpenedEntry(entry=replace(ONE, user="ada", held_micros=90), scopes=scopes, day=DAY)
    reserve(tx, 90)
    request_ledger.open_entry(tx, opened.entry)
    tx.execute("delete from entry")
    if budget == "deleted":
        tx.execute("delete from hold")
        tx.execute("delete from budget")
    result = EntryResult(end="complete", ended_at=NOON + 1, output_tokens=9, cost_micros=31)
    assert request_ledger.close_entry(tx, "r_1", result, 31, opened)
    assert not request_ledger.close_entry(tx, "r_1", result, 31, opened)
    (entry,) = request_ledger.entries_of_call(tx, "c_1")
    assert entry == replace(
        opened.entry, state="closed", end="complete", ended_at=NOON + 1, output_tokens=9, cost_micros=31
    )
    assert remaining(tx) == [969, 969]
    assert daily_rollups.days_that_differ(tx) == []


@pytest.mark.parametrize("count", [2**63, 2**53 + 1, 10**30, -500])
def test_implausible_counts_are_bounded_and_their_cost_is_unknown(tx: Transaction, count: int) -> None:
    request_ledger.open_entry(tx, ONE)
    reserve(tx, 800)
    result = EntryResult(end="complete", ended_at=NOON, web_searches=count, input_tokens=count, cost_micros=count)
    assert request_ledger.record_entry_progress(tx, "r_1", output_tokens=count, cost_micros=count)
    assert request_ledger.close_entry(tx, "r_1", result, count)
    (entry,) = request_ledger.entries_of_call(tx, "c_1")
    assert entry.input_tokens == entry.web_searches == (0 if count < 0 else 2**53)
    assert (entry.end, entry.cost_micros, entry.estimated) == ("complete", None, True)
    assert remaining(tx) == ([1000, 1000] if count < 0 else [0, 0])


def test_a_summary_counts_calls_failures_and_retries_as_usage_reports_do(tx: Transaction) -> None:
    day = time.strftime("%Y-%m-%d", time.gmtime(NOON))
    for attempt, end in enumerate(("failed", "interrupted", "failed"), start=1):
        request_ledger.open_entry(tx, replace(ONE, id=f"r_{attempt}", attempt=attempt))
        request_ledger.close_entry(tx, f"r_{attempt}", EntryResult(end=end, ended_at=NOON))
    (total,) = request_ledger.summarize_usage(tx, NOON)
    report = build_report(tx, UsageQuery(since=date.fromisoformat(day), until=date.fromisoformat(day))).totals
    assert (total.calls, total.requests, total.failures, total.retries) == (1, 3, 1, 2)
    assert (report.calls, report.requests, report.errors, report.retries) == (1, 3, 1, 2)


def test_a_summary_adds_up_usage_and_counts_unknown_prices_separately(tx: Transaction) -> None:
    request_ledger.open_entry(tx, ONE)
    request_ledger.close_entry(
        tx, "r_1", EntryResult(end="complete", ended_at=NOON, input_tokens=10, output_tokens=5, cost_micros=300)
    )
    request_ledger.open_entry(tx, replace(ONE, id="r_2", attempt=2, user="ada"))
    request_ledger.close_entry(tx, "r_2", EntryResult(end="failed", ended_at=NOON, status=529, failure="overloaded"))
    request_ledger.open_entry(tx, replace(ONE, id="r_3", model="local-model", started_at=NOON + 86_400))
    request_ledger.close_entry(tx, "r_3", EntryResult(end="cancelled", ended_at=NOON, output_tokens=4, estimated=True))
    request_ledger.open_entry(
        tx, replace(ONE, id="r_4", model="local-model", started_at=NOON + 86_400, tool="claude_map")
    )

    opus, local = request_ledger.summarize_usage(tx, NOON)
    assert (opus.model, opus.requests, opus.failures, opus.retries, opus.cost_micros) == (ONE.model, 2, 1, 0, 300)
    assert (opus.input_tokens, opus.output_tokens, opus.unpriced) == (10, 5, 0)
    assert (local.requests, local.open, local.unpriced, local.estimated, local.cost_micros) == (2, 1, 1, 1, 0)
    by_day = request_ledger.summarize_usage(tx, NOON, by=("day", "tool"))
    assert [(total.day, total.tool, total.requests) for total in by_day] == [
        ("2026-11-20", "claude_ask", 2),
        ("2026-11-21", "claude_ask", 1),
        ("2026-11-21", "claude_map", 1),
    ]
    assert [total.user for total in request_ledger.summarize_usage(tx, NOON, by=("user",))] == ["ada", "local"]
    assert [total.requests for total in request_ledger.summarize_usage(tx, NOON, user="ada", by=())] == [1]
    assert [total.requests for total in request_ledger.summarize_usage(tx, NOON, until=NOON + 86_400, by=())] == [2]
    assert request_ledger.summarize_usage(tx, NOON + 1e9) == []
    assert [total.requests for total in request_ledger.summarize_usage(tx, NOON + 1e9, by=())] == [0]
