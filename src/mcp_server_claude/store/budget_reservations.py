"""What a day may cost: money is held before a request leaves, and what it really cost is spent afterwards.

Everything is in integer micro-dollars. Right in any number of processes: each scope's row is locked, in a fixed
order, before it is looked at (an upsert that changes nothing does that on SQLite and on PostgreSQL alike), so no sum
is taken over rows that others are writing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeAlias

from mcp_server_claude.store.transaction import scalar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcp_server_claude.store.transaction import Transaction

BudgetScope: TypeAlias = tuple[str, int | None]
"""Whose budget, `total` or `user:NAME`, and its cap for the day; None counts what is spent and stops nothing."""

UNLIMITED_MICROS = 2**62
TOTAL_SCOPE, USER_SCOPE_PREFIX = "total", "user:"
DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Reservation:
    """Granted: so many micro-dollars are held in every scope."""

    micros: int


@dataclass(frozen=True, slots=True)
class InsufficientBudget:
    """Refused, and nothing is held: this scope has the least left, so many micro-dollars."""

    scope: str
    remaining_micros: int


def reserve(
    tx: Transaction, scopes: Sequence[BudgetScope], day: str, micros: int, entry_id: str
) -> Reservation | InsufficientBudget:
    """Hold exactly `usd_to_micros` for a ledger entry in every scope, or nothing in any.

    `day` is a UTC date such as 2026-11-20. Belongs in one job with `ledger.begin`, because a dead process's holds are
    found by its open entries. Reserving again for the same entry adds to what it holds.
    """
    return reserve_up_to(tx, scopes, day, micros, micros, entry_id)


def reserve_up_to(
    tx: Transaction, scopes: Sequence[BudgetScope], day: str, min_micros: int, max_micros: int, entry_id: str
) -> Reservation | InsufficientBudget:
    """Hold `wanted_micros`, or what is left where that is less, but not less than `floor_micros`; see `reserve`."""
    if not 0 <= min_micros <= max_micros:
        message = f"0 <= {min_micros} <= {max_micros} does not hold"
        raise ValueError(message)
    ordered = sorted(scopes)
    remains = [(_lock_remaining(tx, scope, day, cap), scope) for scope, cap in ordered]
    least, scarcest = min(remains, default=(UNLIMITED_MICROS, ""))
    if least < min_micros:
        return InsufficientBudget(scarcest, max(0, least))
    granted = min(max_micros, max(0, least))
    for scope, _ in ordered:
        _add_hold(tx, scope, day, granted, entry_id)
    return Reservation(granted)


def settle(tx: Transaction, entry_id: str, spent_micros: int) -> bool:
    """Give back what an entry holds and book what it spent, in every scope it holds in; True the first time only."""
    holds = tx.fetch_all(
        _hold_row, "delete from hold where entry_id = :entry returning scope, day, micros", {"entry": entry_id}
    )
    for scope, day, micros in sorted(holds):
        tx.execute(
            "update budget set held = held - :held, spent = spent + :spent where scope = :scope and day = :day",
            {"held": micros, "spent": spent_micros, "scope": scope, "day": day},
        )
    return bool(holds)


def remaining_micros(tx: Transaction, scope: str, day: str, cap_micros: int) -> int:
    """Micro-dollars that can still be reserved today, never below 0."""
    used = tx.fetch_one(
        scalar,
        "select spent + held as used from budget where scope = :scope and day = :day",
        {"scope": scope, "day": day},
    )
    return max(0, cap_micros - (_ledger_cost_micros(tx, scope, day) if used is None else used))


def budget_day() -> str:
    """The day that budgets are kept by, in UTC."""
    return f"{datetime.now(UTC):%Y-%m-%d}"


def user_scope(name: str) -> str:
    """The scope of one user's budget."""
    return f"{USER_SCOPE_PREFIX}{name}"


def spent_on_day(tx: Transaction, scope: str, day: str) -> int:
    """Micro-dollars spent in a scope on a day, also by calls that no budget was kept for."""
    kept = tx.fetch_one(
        scalar, "select spent from budget where scope = :scope and day = :day", {"scope": scope, "day": day}
    )
    return max(kept or 0, _ledger_cost_micros(tx, scope, day))


def resync_spent(tx: Transaction, scope: str, day: str) -> None:
    """Count in a scope what was spent on a day while its budget was not kept, as when a cap is set again."""
    row = {"scope": scope, "day": day, "spent": spent_on_day(tx, scope, day)}
    tx.execute("update budget set spent = :spent where scope = :scope and day = :day", row)


def _lock_remaining(tx: Transaction, scope: str, day: str, cap: int | None) -> int:
    """What is left, with the row made where it is missing, and locked until the transaction ends."""
    key = {"scope": scope, "day": day}
    used = tx.fetch_one(
        scalar,
        "update budget set held = held where scope = :scope and day = :day returning spent + held as used",
        key,
    )
    if used is None:  # the first of the day, or the first since there is a cap: what the ledger knows counts too
        used = tx.fetch_one(
            scalar,
            "insert into budget (scope, day, spent, held) values (:scope, :day, :spent, 0) "
            "on conflict (scope, day) do update set held = budget.held returning spent + held as used",
            key | {"spent": _ledger_cost_micros(tx, scope, day)},
        )
    return UNLIMITED_MICROS if cap is None else cap - (used or 0)


def _ledger_cost_micros(tx: Transaction, scope: str, day: str) -> int:
    """What the ledger says that the requests of a day cost, in micro-dollars."""
    since = datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()
    sql = "select cast(coalesce(sum(cost_micros), 0) as bigint) as micros from entry "
    sql += "where started_at >= :since and started_at < :until"
    if scope != TOTAL_SCOPE:
        sql += ' and "user" = :user'
    row = {"since": since, "until": since + DAY_S, "user": scope.removeprefix(USER_SCOPE_PREFIX)}
    return tx.fetch_one(scalar, sql, row) or 0


def _add_hold(tx: Transaction, scope: str, day: str, micros: int, entry_id: str) -> None:
    params = {"scope": scope, "day": day, "micros": micros, "entry": entry_id}
    tx.execute("update budget set held = held + :micros where scope = :scope and day = :day", params)
    tx.execute(
        "insert into hold (entry_id, scope, day, micros) values (:entry, :scope, :day, :micros) "
        "on conflict (entry_id, scope, day) do update set micros = hold.micros + excluded.micros",
        params,
    )


def _hold_row(scope: str, day: str, micros: int) -> tuple[str, str, int]:
    return scope, day, micros
