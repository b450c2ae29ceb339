"""The book and its leases: a line for every request, completed once, closed for the dead and never for the living."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from mcp_server_claude.store import budget_reservations, process_leases, request_ledger
from mcp_server_claude.store.request_ledger import EntryResult, LedgerEntry

if TYPE_CHECKING:
    from mcp_server_claude.store import Transaction

DAY = "2026-11-20"
NOON = 1_795_176_000.0  # 2026-11-20T12:00Z
ONE = LedgerEntry(id="r_1", call_id="c_1", worker="w", started_at=NOON, model="claude-opus-5-5", tool="claude_ask")


def test_an_entry_comes_back_as_it_was_written(tx: Transaction) -> None:
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


def test_what_was_noted_of_model_and_request_id_survives_an_end_that_does_not_know_them(tx: Transaction) -> None:
    request_ledger.open_entry(tx, ONE)
    assert request_ledger.record_entry_progress(
        tx, "r_1", model="claude-opus-5-5-20261101", request_id="req_1", input_tokens=12
    )
    request_ledger.close_entry(tx, "r_1", EntryResult(end="cancelled", ended_at=NOON + 1, estimated=True))
    (entry,) = request_ledger.entries_of_call(tx, "c_1")
    assert (entry.model, entry.request_id, entry.estimated) == ("claude-opus-5-5-20261101", "req_1", True)


def test_what_an_entry_has_no_place_for_cannot_be_noted(tx: Transaction) -> None:
    strange: dict[str, Any] = {"prompt": "secret"}
    with pytest.raises(TypeError, match="prompt"):
        request_ledger.record_entry_progress(tx, "r_1", **strange)


def test_a_living_worker_s_request_is_not_closed_by_others(tx: Transaction) -> None:
    process_leases.renew_lease(tx, "w", NOON)
    request_ledger.open_entry(tx, ONE)
    assert request_ledger.close_orphaned_entries(tx, NOON + 29.9) == []
    assert not process_leases.renew_lease(tx, "other", NOON + 29)
    assert process_leases.renew_lease(tx, "w", NOON + 25)
    assert request_ledger.close_orphaned_entries(tx, NOON + 54.9) == []
    assert request_ledger.entries_of_call(tx, "c_1") == [ONE]


def test_a_dead_worker_s_request_is_closed_once_with_what_was_known_and_its_holds_given_back(tx: Transaction) -> None:
    process_leases.renew_lease(tx, "w", NOON)
    request_ledger.open_entry(tx, ONE)
    budget_reservations.reserve(tx, [("total", 1000), ("user:ada", 1000)], DAY, 800, "r_1")
    request_ledger.record_entry_progress(tx, "r_1", input_tokens=12, cost_micros=60)
    assert request_ledger.close_orphaned_entries(tx, NOON + 30) == ["r_1"]
    assert request_ledger.close_orphaned_entries(tx, NOON + 31) == []
    assert request_ledger.entries_of_call(tx, "c_1") == [
        replace(
            ONE, state="closed", end="interrupted", ended_at=NOON + 30, input_tokens=12, cost_micros=60, estimated=True
        )
    ]
    assert [budget_reservations.remaining_micros(tx, scope, DAY, 1000) for scope in ("total", "user:ada")] == [940, 940]
    assert not budget_reservations.settle(tx, "r_1", 999)


def test_a_worker_that_dropped_its_lease_counts_as_dead_at_once(tx: Transaction) -> None:
    process_leases.renew_lease(tx, "w", NOON)
    assert process_leases.is_alive(tx, "w", NOON)
    process_leases.release_lease(tx, "w")
    assert not process_leases.is_alive(tx, "w", NOON)


def test_a_renewal_says_whether_the_lease_had_run_out(tx: Transaction) -> None:
    assert not process_leases.renew_lease(tx, "w", NOON)
    assert process_leases.renew_lease(tx, "w", NOON + 5)
    assert not process_leases.renew_lease(tx, "w", NOON + 36)


def test_a_summary_adds_up_what_was_used_and_keeps_unknown_prices_apart(tx: Transaction) -> None:
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
    assert (opus.model, opus.requests, opus.failures, opus.retries, opus.cost_micros) == (ONE.model, 2, 1, 1, 300)
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
