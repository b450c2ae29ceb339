"""Daily budgets: money is reserved before a request is sent, and its real cost is recorded afterwards.

All amounts are integer micro-dollars. Any number of processes may share a budget: a reservation is one conditional
update of each scope's row, so no sum includes rows that others are writing. Where a budget has no room for the whole
amount, each row is locked before it is read (an upsert that changes nothing does that on SQLite and on PostgreSQL).

Rows are locked in a fixed order: those of jobs, those of users, and last the budget of all users, for which most
transactions wait. The daily sums come after the budgets (`LOCK_ORDER`, `daily_rollups.LOCK_ORDER`).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeAlias

from mcp_server_claude.frozen_dataclass import frozen_dataclass
from mcp_server_claude.store.transaction import SharedRowChange, scalar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcp_server_claude.store.transaction import Query, SqlValue, Statement, Transaction

BudgetScope: TypeAlias = tuple[str, int | None]
"""A budget, `total`, `user:NAME` or `job:ID`, and its cap for the day, or for all days of a job.

Without a cap (None) spending is only counted."""

HoldRow: TypeAlias = tuple[str, str, int, int]
"""A reservation: scope, day, micro-dollars, and what `settle_orphan` recorded for it as spent, or -1."""

UNLIMITED_MICROS = 2**62
MAX_COST_MICROS = 2**53
TOTAL_SCOPE, USER_SCOPE_PREFIX, JOB_SCOPE_PREFIX = "total", "user:", "job:"
JOB_DAY = "job"
"""Takes the place of the date in the budget of a job, which does not end with the day."""
DAY_S = 86_400
LOCK_ORDER = 0
"""The place of the budgets among the rows that many transactions change."""


_COST = "select cast(coalesce(sum(cost_micros), 0) as bigint) as micros from entry"
_ADD_HOLD = """
insert into hold (entry_id, scope, day, micros, spent) values (:entry, :scope, :day, :micros, -1)
on conflict (entry_id, scope, day) do update set micros = hold.micros + excluded.micros
"""
_RESERVE = "update budget set held = held + :micros where scope = :scope and day = :day"
_RESERVE_IF_LEFT = f"{_RESERVE} and :cap - spent - held >= :micros"
_RELEASE = "delete from hold where entry_id = :entry returning scope, day, micros, spent"
_DELETE_SETTLED = """
delete from hold where spent >= 0 and (
    (day <> :job_day and day < :day)
    or (day = :job_day and not exists (select 1 from entry where entry.id = hold.entry_id and entry.day >= :day))
)
"""
"""The budget of a job has no day; that of the request decides."""
_SETTLE = "update budget set held = held - :held, spent = spent + :spent where scope = :scope and day = :day"


@frozen_dataclass()
class Reservation:
    """An amount that is reserved in every scope."""

    micros: int


@frozen_dataclass()
class InsufficientBudget:
    """A refused reservation: the scope with the least left, and that amount in micro-dollars."""

    scope: str
    remaining_micros: int


def reserve_in_full(
    tx: Transaction, scopes: Sequence[BudgetScope], day: str, micros: int, entry_id: str, rows: Sequence[Statement]
) -> bool:
    """Reserve an amount for a ledger entry in every scope, and write the rows that belong to it; none of it if a scope
    has less. Returns True if it was reserved.

    All statements are one round trip, and the transaction can be committed next: so the budget that all users share is
    locked for the time of a commit. Operations that share a transaction share that time.
    """
    holds: list[Statement] = []
    changes: list[SharedRowChange] = []
    for scope, cap in scopes:
        scope_day = _day_of(scope, day)
        row: dict[str, SqlValue] = {"scope": scope, "day": scope_day, "micros": micros}
        holds.append((_ADD_HOLD, row | {"entry": entry_id}))
        take = (_RESERVE_IF_LEFT, row | {"cap": UNLIMITED_MICROS if cap is None else cap})
        order = _lock_order(scope, scope_day)
        changes += [
            SharedRowChange(order, _insertion_if_missing(scope, scope_day)),
            SharedRowChange(order, take, is_required=True),
        ]
    return tx.change_shared_rows(changes, [*rows, *holds])


def reserve_up_to(
    tx: Transaction, scopes: Sequence[BudgetScope], day: str, min_micros: int, max_micros: int, entry_id: str
) -> Reservation | InsufficientBudget:
    """Reserve `max_micros` for a ledger entry in every scope, or what is left if that is at least `min_micros`.

    `day` is a UTC date such as 2026-11-20. Belongs in one transaction with `request_ledger.open_entry`, because the
    reservations of a dead process are found by its open entries. A second reservation for an entry adds to the first.

    Raises:
        ValueError: `min_micros` is negative or more than `max_micros`.
    """
    if not 0 <= min_micros <= max_micros:
        message = f"0 <= {min_micros} <= {max_micros} does not hold"
        raise ValueError(message)
    tx.require_own_transaction()
    ordered = sorted(scopes, key=lambda scope: _lock_order(scope[0], day))
    remaining = [(_lock_remaining(tx, scope, _day_of(scope, day), cap), scope) for scope, cap in ordered]
    least, scarcest = min(remaining, default=(UNLIMITED_MICROS, ""))
    if least < min_micros:
        return InsufficientBudget(scarcest, max(0, least))
    granted = min(max_micros, max(0, least))
    for scope, _ in ordered:
        key: dict[str, SqlValue] = {"scope": scope, "day": _day_of(scope, day), "micros": granted}
        tx.execute_all([(_ADD_HOLD, key | {"entry": entry_id}), (_RESERVE, key)])
    return Reservation(granted)


def add_spending(tx: Transaction, scopes: Sequence[BudgetScope], day: str, spent_micros: int) -> None:
    """Record a cost in every scope, for which nothing is reserved. Belongs before the ledger has it."""
    for scope, cap in sorted(scopes, key=lambda scope: _lock_order(scope[0], day)):
        scope_day = _day_of(scope, day)
        _lock_remaining(tx, scope, scope_day, cap)
        tx.execute(*_settlement(scope, scope_day, held_micros=0, spent_micros=spent_micros).statement)


def settle(tx: Transaction, entry_id: str, spent_micros: int) -> bool:
    """Release an entry's reservations and record its cost in the same scopes. Returns True the first time only."""
    changes = settlements(tx.fetch_all(*hold_deletion(entry_id)), spent_micros)
    tx.change_shared_rows(changes)
    return bool(changes)


def hold_deletion(entry_id: str) -> Query[HoldRow]:
    """Return the query that deletes an entry's reservations, for `settlements`."""
    return _hold_row, _RELEASE, {"entry": entry_id}


def settlements(holds: Sequence[HoldRow], spent_micros: int) -> list[SharedRowChange]:
    """Return the changes of the budgets after reservations were deleted: the reservations go, the cost comes.

    The cost replaces what `settle_orphan` recorded in between.
    """
    return [
        _settlement(scope, day, held_micros=micros if spent < 0 else 0, spent_micros=spent_micros - max(0, spent))
        for scope, day, micros, spent in holds
    ]


def settle_orphan(tx: Transaction, entry_id: str, spent_micros: int, *, in_full: bool = False) -> list[SharedRowChange]:
    """Release the reservations of a dead process's entry. Returns the changes of the budgets, with an estimate of its
    cost, which `settle` can still replace.

    `in_full` records at least what was reserved: the process may still be running, and spend it.
    """
    spent_sql = "case when micros > :spent then micros else :spent end" if in_full else ":spent"
    sql = f"update hold set spent = {spent_sql} where entry_id = :entry and spent < 0 "  # noqa: S608 - constants
    reservations = tx.fetch_all(
        _hold_row,
        f"{sql} returning scope, day, micros, spent",
        {"entry": entry_id, "spent": spent_micros},
    )
    return [
        _settlement(scope, day, held_micros=micros, spent_micros=spent) for scope, day, micros, spent in reservations
    ]


def delete_settled_orphans(tx: Transaction, day: str) -> None:
    """Delete what `settle_orphan` has left of requests of the days before `day`, a UTC date."""
    tx.execute(_DELETE_SETTLED, {"day": day, "job_day": JOB_DAY})


def remaining_micros(tx: Transaction, scope: str, day: str, cap_micros: int) -> int:
    """Return the micro-dollars that can still be reserved on a day, never below 0."""
    used = tx.fetch_one(
        scalar,
        "select spent + held as used from budget where scope = :scope and day = :day",
        {"scope": scope, "day": day},
    )
    return max(0, cap_micros - (_ledger_cost_micros(tx, scope, day) if used is None else used))


def budget_day() -> str:
    """Return today's date in UTC, by which budgets are kept."""
    return f"{datetime.now(UTC):%Y-%m-%d}"


def user_scope(name: str) -> str:
    """Return the scope of one user's budget."""
    return f"{USER_SCOPE_PREFIX}{name}"


def job_scope(job_id: str) -> str:
    """Return the scope of one job's budget."""
    return f"{JOB_SCOPE_PREFIX}{job_id}"


def spent_on_day(tx: Transaction, scope: str, day: str) -> int:
    """Return the micro-dollars spent in a scope on a day, including calls made while it had no budget."""
    spent = tx.fetch_one(
        scalar, "select spent from budget where scope = :scope and day = :day", {"scope": scope, "day": day}
    )
    return max(spent or 0, _ledger_cost_micros(tx, scope, day))


def resync_spent(tx: Transaction, scope: str, day: str) -> None:
    """Count in a scope what was spent on a day while it had no budget, for instance before a cap was set again."""
    row = {"scope": scope, "day": day, "spent": spent_on_day(tx, scope, day)}
    tx.execute("update budget set spent = :spent where scope = :scope and day = :day", row)


def _lock_order(scope: str, day: str) -> tuple[int, bool, str, str]:
    return LOCK_ORDER, scope == TOTAL_SCOPE, scope, day


def _day_of(scope: str, day: str) -> str:
    return JOB_DAY if scope.startswith(JOB_SCOPE_PREFIX) else day


def _lock_remaining(tx: Transaction, scope: str, day: str, cap: int | None) -> int:
    """Lock a scope's row until the transaction ends, creating it if missing. Returns what is left of the cap."""
    key = {"scope": scope, "day": day}
    used = tx.fetch_one(
        scalar,
        "update budget set held = held where scope = :scope and day = :day returning spent + held as used",
        key,
    )
    if used is None:  # the first of the day, or the first since the cap was set: the ledger's earlier costs count too
        used = tx.fetch_one(
            scalar,
            "insert into budget (scope, day, spent, held) values (:scope, :day, :spent, 0) "
            "on conflict (scope, day) do update set held = budget.held returning spent + held as used",
            key | {"spent": _ledger_cost_micros(tx, scope, day)},
        )
    return UNLIMITED_MICROS if cap is None else cap - (used or 0)


def _insertion_if_missing(scope: str, day: str) -> Statement:
    """Return the statement that creates a scope's row: the costs before it count too."""
    cost, row = _ledger_cost(scope, day)
    sql = (
        f"insert into budget (scope, day, spent, held) select :scope, :budget_day, ({cost}), 0 where not exists "  # noqa: S608 - constants
        "(select 1 from budget where scope = :scope and day = :budget_day) on conflict (scope, day) do nothing"
    )
    return sql, {**row, "scope": scope, "budget_day": day}


def _ledger_cost_micros(tx: Transaction, scope: str, day: str) -> int:
    """Return the cost of a day's or a job's requests according to the ledger, in micro-dollars."""
    return tx.fetch_one(scalar, *_ledger_cost(scope, day)) or 0


def _ledger_cost(scope: str, day: str) -> Statement:
    if scope.startswith(JOB_SCOPE_PREFIX):
        return f"{_COST} where job_id = :job", {"job": scope.removeprefix(JOB_SCOPE_PREFIX)}
    since = datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()
    of_user = "" if scope == TOTAL_SCOPE else ' and "user" = :user'
    row = {"since": since, "until": since + DAY_S, "user": scope.removeprefix(USER_SCOPE_PREFIX)}
    return f"{_COST} where started_at >= :since and started_at < :until{of_user}", row


def _settlement(scope: str, day: str, *, held_micros: int, spent_micros: int) -> SharedRowChange:
    row = {"held": held_micros, "spent": spent_micros, "scope": scope, "day": day}
    return SharedRowChange(_lock_order(scope, day), (_SETTLE, row))


def _hold_row(scope: str, day: str, micros: int, spent: int) -> HoldRow:
    return scope, day, micros, spent
