"""Budgets: held before a request leaves, spent afterwards, and never more of both than the cap."""

from __future__ import annotations

from contextlib import closing
from datetime import datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_server_claude.store import budget_reservations, request_ledger
from mcp_server_claude.store.budget_reservations import BudgetScope, InsufficientBudget, Reservation
from mcp_server_claude.store.sqlite_connection import SqliteTransaction, open_in_memory
from mcp_server_claude.store.transaction import scalar

if TYPE_CHECKING:
    from mcp_server_claude.store import Transaction

DAY = "2026-11-20"


def reserve(
    tx: Transaction, scopes: list[BudgetScope], day: str, micros: int, entry_id: str
) -> Reservation | InsufficientBudget:
    """Reserve exactly this amount."""
    return budget_reservations.reserve_up_to(tx, scopes, day, micros, micros, entry_id)


def amounts(tx: Transaction, column: str) -> list[int]:
    return tx.fetch_all(scalar, f"select {column} from budget order by day, scope")  # noqa: S608 - this file's own names


def test_a_reservation_holds_in_every_scope_or_in_none(tx: Transaction) -> None:
    scopes: list[BudgetScope] = [("user:ada", 500), ("total", 1000)]
    assert reserve(tx, scopes, DAY, 400, "r_1") == Reservation(400)
    assert reserve(tx, scopes, DAY, 400, "r_2") == InsufficientBudget("user:ada", 100)
    assert [budget_reservations.remaining_micros(tx, scope, DAY, cap or 0) for scope, cap in scopes] == [100, 600]
    assert not budget_reservations.settle(tx, "r_2", 400)


def test_settling_records_the_cost_once_and_releases_the_rest(tx: Transaction) -> None:
    reserve(tx, [("total", 1000)], DAY, 800, "r_1")
    assert budget_reservations.settle(tx, "r_1", 300)
    assert not budget_reservations.settle(tx, "r_1", 300)
    assert (amounts(tx, "spent"), amounts(tx, "held")) == ([300], [0])


def test_a_reservation_is_reduced_to_what_is_left_but_not_below_the_minimum(tx: Transaction) -> None:
    scopes = [("total", 1000), ("user:ada", None)]
    assert budget_reservations.reserve_up_to(tx, scopes, DAY, 100, 700, "r_1") == Reservation(700)
    assert budget_reservations.reserve_up_to(tx, scopes, DAY, 100, 700, "r_2") == Reservation(300)
    assert budget_reservations.reserve_up_to(tx, scopes, DAY, 100, 700, "r_3") == InsufficientBudget("total", 0)


def test_a_scope_without_a_cap_is_still_counted(tx: Transaction) -> None:
    assert reserve(tx, [("total", None)], DAY, 10**12, "r_1") == Reservation(10**12)
    budget_reservations.settle(tx, "r_1", 42)
    assert budget_reservations.remaining_micros(tx, "total", DAY, 100) == 58


def test_each_day_has_its_budget_and_a_reservation_is_settled_on_its_day(tx: Transaction) -> None:
    reserve(tx, [("total", 100)], DAY, 100, "r_1")
    assert reserve(tx, [("total", 100)], "2026-11-21", 100, "r_2") == Reservation(100)
    budget_reservations.settle(tx, "r_1", 30)
    assert [
        budget_reservations.remaining_micros(tx, "total", day, 100) for day in (DAY, "2026-11-21", "2026-11-22")
    ] == [
        70,
        0,
        100,
    ]


def test_a_second_reservation_for_an_entry_adds_to_the_first(tx: Transaction) -> None:
    assert [reserve(tx, [("total", 100)], DAY, 40, "r_1") for _ in range(3)] == [
        Reservation(40),
        Reservation(40),
        InsufficientBudget("total", 20),
    ]
    budget_reservations.settle(tx, "r_1", 75)
    assert (amounts(tx, "spent"), amounts(tx, "held")) == ([75], [0])


def test_an_overspent_budget_has_nothing_left_and_grants_nothing(tx: Transaction) -> None:
    reserve(tx, [("total", 100)], DAY, 50, "r_1")
    budget_reservations.settle(tx, "r_1", 500)
    assert budget_reservations.remaining_micros(tx, "total", DAY, 100) == 0
    assert budget_reservations.reserve_up_to(tx, [("total", 100)], DAY, 1, 10, "r_2") == InsufficientBudget("total", 0)
    assert reserve(tx, [("total", 100)], DAY, 0, "r_3") == InsufficientBudget("total", 0)


def test_a_negative_amount_is_a_bug(tx: Transaction) -> None:
    with pytest.raises(ValueError, match="does not hold"):
        reserve(tx, [("total", 100)], DAY, -1, "r_1")


def test_the_cost_from_the_owner_replaces_what_was_recorded_for_an_orphan(tx: Transaction) -> None:
    reserve(tx, [("total", 1000)], DAY, 800, "r_1")
    tx.change_shared_rows(budget_reservations.settle_orphan(tx, "r_1", 2))
    assert (amounts(tx, "spent"), amounts(tx, "held")) == ([2], [0])
    tx.change_shared_rows(budget_reservations.settle_orphan(tx, "r_1", 2))
    assert (amounts(tx, "spent"), amounts(tx, "held")) == ([2], [0])
    assert budget_reservations.settle(tx, "r_1", 150)
    assert (amounts(tx, "spent"), amounts(tx, "held")) == ([150], [0])
    assert not budget_reservations.settle(tx, "r_1", 150)


def test_corrections_of_orphans_in_the_budget_of_a_job_are_deleted_by_the_day_of_their_request(tx: Transaction) -> None:
    started_at = datetime.fromisoformat(f"{DAY}T12:00:00+00:00").timestamp()
    for entry_id in ("r_1", "r_gone"):
        budget_reservations.reserve_up_to(tx, [(budget_reservations.job_scope("j_1"), 100)], DAY, 4, 4, entry_id)
        tx.change_shared_rows(budget_reservations.settle_orphan(tx, entry_id, 1))
    entry = request_ledger.LedgerEntry(id="r_1", call_id="c_1", worker="w_1", started_at=started_at)
    request_ledger.open_entry(tx, entry)
    budget_reservations.delete_settled_orphans(tx, DAY)
    assert tx.fetch_all(scalar, "select entry_id from hold") == ["r_1"]
    budget_reservations.delete_settled_orphans(tx, "2099-01-01")
    assert tx.fetch_all(scalar, "select entry_id from hold") == []


def test_corrections_of_orphans_are_possible_until_they_are_deleted(tx: Transaction) -> None:
    for entry_id in ("r_1", "r_2"):
        reserve(tx, [("total", 1000)], DAY, 100, entry_id)
    tx.change_shared_rows(budget_reservations.settle_orphan(tx, "r_1", 1))
    budget_reservations.delete_settled_orphans(tx, DAY)
    assert len(tx.fetch_all(scalar, "select entry_id from hold")) == 2
    budget_reservations.delete_settled_orphans(tx, "2026-11-21")
    assert tx.fetch_all(scalar, "select entry_id from hold") == ["r_2"]


entry_ids = st.sampled_from(["r_1", "r_2", "r_3", "r_4"])
users = st.sampled_from(["ada", "bob"])
micros = st.integers(min_value=0, max_value=60)
reservations = st.tuples(entry_ids, users, micros, micros)
settlements = st.tuples(entry_ids, users, st.floats(min_value=0, max_value=1))


@settings(deadline=None)
@given(steps=st.lists(reservations | settlements, max_size=40))
def test_spent_and_reserved_never_exceed_a_cap_and_nothing_stays_reserved(
    steps: list[tuple[str, str, int, int] | tuple[str, str, float]],
) -> None:
    caps = {"total": 100, "user:ada": 70, "user:bob": 50}
    held: dict[str, int] = {}
    with closing(open_in_memory()) as connection:
        tx = SqliteTransaction(connection)
        for step in steps:
            match step:
                case (entry, user, share):
                    budget_reservations.settle(tx, f"{entry}:{user}", int(held.pop(f"{entry}:{user}", 0) * share))
                case (entry, user, a, b):
                    scopes = [(scope, caps[scope]) for scope in (f"user:{user}", "total")]
                    granted = budget_reservations.reserve_up_to(
                        tx, scopes, DAY, min(a, b), max(a, b), f"{entry}:{user}"
                    )
                    if isinstance(granted, Reservation):
                        assert min(a, b) <= granted.micros <= max(a, b)
                        held[f"{entry}:{user}"] = held.get(f"{entry}:{user}", 0) + granted.micros
            for scope, cap in caps.items():
                used = tx.fetch_one(
                    scalar, "select spent + held as used from budget where scope = :scope", {"scope": scope}
                )
                assert 0 <= (used or 0) <= cap
        for entry, amount in held.items():
            budget_reservations.settle(tx, entry, amount)
        assert set(amounts(tx, "held")) <= {0}
        assert tx.fetch_all(scalar, "select entry_id from hold") == []
