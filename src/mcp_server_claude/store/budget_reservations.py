"""What a day may cost: money is held before a request leaves, and what it really cost is spent afterwards.

Everything is in integer micro-dollars. Right in any number of processes: each scope's row is locked, in a fixed
order, before it is looked at (an upsert that changes nothing does that on SQLite and on PostgreSQL alike), so no sum
is taken over rows that others are writing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeAlias

from mcp_server_claude.store.transaction import value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcp_server_claude.store.transaction import Tx

Scope: TypeAlias = tuple[str, int | None]
"""Whose budget, `total` or `user:NAME`, and its cap for the day; None counts what is spent and stops nothing."""

UNLIMITED = 2**62
TOTAL, USER = "total", "user:"
DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Reserved:
    """Granted: so many micro-dollars are held in every scope."""

    micros: int


@dataclass(frozen=True, slots=True)
class Short:
    """Refused, and nothing is held: this scope has the least left, so many micro-dollars."""

    scope: str
    left: int


def reserve(tx: Tx, scopes: Sequence[Scope], day: str, micros: int, entry_id: str) -> Reserved | Short:
    """Hold exactly `micros` for a ledger entry in every scope, or nothing in any.

    `day` is a UTC date such as 2026-11-20. Belongs in one job with `ledger.begin`, because a dead process's holds are
    found by its open entries. Reserving again for the same entry adds to what it holds.
    """
    return reserve_up_to(tx, scopes, day, micros, micros, entry_id)


def reserve_up_to(
    tx: Tx, scopes: Sequence[Scope], day: str, floor_micros: int, wanted_micros: int, entry_id: str
) -> Reserved | Short:
    """Hold `wanted_micros`, or what is left where that is less, but not less than `floor_micros`; see `reserve`."""
    if not 0 <= floor_micros <= wanted_micros:
        message = f"0 <= {floor_micros} <= {wanted_micros} does not hold"
        raise ValueError(message)
    ordered = sorted(scopes)
    remains = [(_left(tx, scope, day, cap), scope) for scope, cap in ordered]
    least, scarcest = min(remains, default=(UNLIMITED, ""))
    if least < floor_micros:
        return Short(scarcest, max(0, least))
    granted = min(wanted_micros, max(0, least))
    for scope, _ in ordered:
        _hold(tx, scope, day, granted, entry_id)
    return Reserved(granted)


def settle(tx: Tx, entry_id: str, spent_micros: int) -> bool:
    """Give back what an entry holds and book what it spent, in every scope it holds in; True the first time only."""
    holds = tx.all(_held, "delete from hold where entry_id = :entry returning scope, day, micros", {"entry": entry_id})
    for scope, day, micros in sorted(holds):
        tx.run(
            "update budget set held = held - :held, spent = spent + :spent where scope = :scope and day = :day",
            {"held": micros, "spent": spent_micros, "scope": scope, "day": day},
        )
    return bool(holds)


def left(tx: Tx, scope: str, day: str, cap_micros: int) -> int:
    """Micro-dollars that can still be reserved today, never below 0."""
    used = tx.one(
        value,
        "select spent + held as used from budget where scope = :scope and day = :day",
        {"scope": scope, "day": day},
    )
    return max(0, cap_micros - (_booked(tx, scope, day) if used is None else used))


def today() -> str:
    """The day that budgets are kept by, in UTC."""
    return f"{datetime.now(UTC):%Y-%m-%d}"


def of_user(name: str) -> str:
    """The scope of one user's budget."""
    return f"{USER}{name}"


def spent(tx: Tx, scope: str, day: str) -> int:
    """Micro-dollars spent in a scope on a day, also by calls that no budget was kept for."""
    kept = tx.one(value, "select spent from budget where scope = :scope and day = :day", {"scope": scope, "day": day})
    return max(kept or 0, _booked(tx, scope, day))


def catch_up(tx: Tx, scope: str, day: str) -> None:
    """Count in a scope what was spent on a day while its budget was not kept, as when a cap is set again."""
    row = {"scope": scope, "day": day, "spent": spent(tx, scope, day)}
    tx.run("update budget set spent = :spent where scope = :scope and day = :day", row)


def _left(tx: Tx, scope: str, day: str, cap: int | None) -> int:
    """What is left, with the row made where it is missing, and locked until the transaction ends."""
    key = {"scope": scope, "day": day}
    used = tx.one(
        value,
        "update budget set held = held where scope = :scope and day = :day returning spent + held as used",
        key,
    )
    if used is None:  # the first of the day, or the first since there is a cap: what the ledger knows counts too
        used = tx.one(
            value,
            "insert into budget (scope, day, spent, held) values (:scope, :day, :spent, 0) "
            "on conflict (scope, day) do update set held = budget.held returning spent + held as used",
            key | {"spent": _booked(tx, scope, day)},
        )
    return UNLIMITED if cap is None else cap - (used or 0)


def _booked(tx: Tx, scope: str, day: str) -> int:
    """What the ledger says that the requests of a day cost, in micro-dollars."""
    since = datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()
    sql = "select cast(coalesce(sum(cost_micros), 0) as bigint) as micros from entry "
    sql += "where started_at >= :since and started_at < :until"
    if scope != TOTAL:
        sql += ' and "user" = :user'
    row = {"since": since, "until": since + DAY_S, "user": scope.removeprefix(USER)}
    return tx.one(value, sql, row) or 0


def _hold(tx: Tx, scope: str, day: str, micros: int, entry_id: str) -> None:
    params = {"scope": scope, "day": day, "micros": micros, "entry": entry_id}
    tx.run("update budget set held = held + :micros where scope = :scope and day = :day", params)
    tx.run(
        "insert into hold (entry_id, scope, day, micros) values (:entry, :scope, :day, :micros) "
        "on conflict (entry_id, scope, day) do update set micros = hold.micros + excluded.micros",
        params,
    )


def _held(scope: str, day: str, micros: int) -> tuple[str, str, int]:
    return scope, day, micros
