"""The book: one line for every upstream request, written before it leaves and completed afterwards, exactly once."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict, Unpack, cast

from mcp_server_claude.store import budget_reservations

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcp_server_claude.store.transaction import SqlValue, Transaction

EntryState: TypeAlias = Literal["open", "closed"]
EndStatus: TypeAlias = Literal["complete", "incomplete", "failed", "cancelled", "interrupted"]
"""How a request or a call ended; `interrupted` means that its process died."""
SummaryKey: TypeAlias = Literal["model", "day", "tool", "user"]
"""What a summary can be grouped by; `day` is the UTC date on which the request was begun."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """One upstream request.

    Times are unix seconds, money is micro-dollars; `cost_micros` is None while the price is unknown. `host` is the
    host of the base URL. `held_micros` is what was reserved of the budgets when the request was begun.
    """

    id: str
    call_id: str
    worker: str
    started_at: float
    attempt: int = 1
    user: str = "local"
    client: str = ""
    source: str = ""
    tool: str = ""
    thread: str | None = None
    model: str = ""
    host: str = ""
    ended_at: float | None = None
    state: EntryState = "open"
    end: EndStatus | None = None
    status: int | None = None
    failure: str | None = None
    request_id: str | None = None
    stop_reason: str | None = None
    input_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_creation_input_tokens: int = 0
    output_tokens: int = 0
    thinking_tokens: int = 0
    web_searches: int = 0
    cost_micros: int | None = None
    pricing_as_of: str | None = None
    estimated: bool = False
    ttft_ms: float | None = None
    duration_ms: float | None = None
    trace_id: str = ""
    held_micros: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryResult:
    """How a request ended: everything that `finish` writes. A None in `model` or `request_id` keeps what was noted."""

    end: EndStatus
    ended_at: float
    model: str | None = None
    status: int | None = None
    failure: str | None = None
    request_id: str | None = None
    stop_reason: str | None = None
    input_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_creation_input_tokens: int = 0
    output_tokens: int = 0
    thinking_tokens: int = 0
    web_searches: int = 0
    cost_micros: int | None = None
    pricing_as_of: str | None = None
    estimated: bool = False
    ttft_ms: float | None = None
    duration_ms: float | None = None


class EntryProgress(TypedDict, total=False):
    """What can be known of a request while it runs, e.g. the exact input tokens after `message_start`."""

    model: str
    status: int
    request_id: str
    input_tokens: int
    cache_read_input_tokens: int
    cache_creation_input_tokens: int
    output_tokens: int
    thinking_tokens: int
    web_searches: int
    cost_micros: int
    pricing_as_of: str
    ttft_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageSummary:
    """What some requests came to together. The fields not grouped by are empty.

    `failures` ended as failed or interrupted, `retries` were not the first attempt of their call, `unpriced` used
    tokens that `cost_micros` does not hold because the price is unknown, `estimated` were counted, not told.
    """

    model: str = ""
    day: str = ""
    tool: str = ""
    user: str = ""
    requests: int
    open: int
    failures: int
    retries: int
    estimated: int
    unpriced: int
    input_tokens: int
    cache_read_input_tokens: int
    cache_creation_input_tokens: int
    output_tokens: int
    thinking_tokens: int
    web_searches: int
    cost_micros: int


_COLUMNS = tuple(field.name for field in fields(LedgerEntry))
_PROGRESS_COLUMNS = tuple(EntryProgress.__annotations__)
_RESULT_COLUMNS = tuple(field.name for field in fields(EntryResult))
_KEPT_IF_NULL = frozenset({"model", "request_id"})
_SUMMED_COLUMNS = (
    "input_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "output_tokens",
    "thinking_tokens",
    "web_searches",
    "cost_micros",
)
_SUMMARY_KEYS: frozenset[str] = frozenset({"model", "day", "tool", "user"})


def _join_columns(form: str, names: Sequence[str]) -> str:
    return ", ".join(form.format(name) for name in names)


_QUOTED, _BOUND, _SET, _SET_IF_KNOWN = '"{0}"', ":{0}", '"{0}" = :{0}', '"{0}" = coalesce(:{0}, "{0}")'
# The names in these statements are the fields above, so that a column is named in one place; every value is bound.
_INSERT = (
    f"insert into entry (day, {_join_columns(_QUOTED, _COLUMNS)}) values (:day, {_join_columns(_BOUND, _COLUMNS)})"  # noqa: S608
)
_UPDATE_PROGRESS = (
    f"update entry set {_join_columns(_SET_IF_KNOWN, _PROGRESS_COLUMNS)} where id = :id and state = 'open'"  # noqa: S608
)
_OVERWRITTEN = [name for name in _RESULT_COLUMNS if name not in _KEPT_IF_NULL]
_CLOSE = (
    f"update entry set state = 'closed', {_join_columns(_SET, _OVERWRITTEN)}, "  # noqa: S608
    f"{_join_columns(_SET_IF_KNOWN, sorted(_KEPT_IF_NULL))} where id = :id and state = 'open'"
)
_CLOSE_ORPHANS = """
update entry set state = 'closed', "end" = 'interrupted', estimated = 1, ended_at = :now
where state = 'open'
  and not exists (select 1 from worker where worker.id = entry.worker and worker.lease_until > :now)
returning id, coalesce(cost_micros, 0) as spent
"""
_ENTRIES = f"select {_join_columns(_QUOTED, _COLUMNS)} from entry where call_id = :call_id order by attempt, started_at"  # noqa: S608
_COUNTS = f"""
count(*) as requests,
count(*) filter (where state = 'open') as open,
count(*) filter (where "end" in ('failed', 'interrupted')) as failures,
count(*) filter (where attempt > 1) as retries,
count(*) filter (where estimated = 1) as estimated,
count(*) filter (
    where state = 'closed' and cost_micros is null
    and input_tokens + cache_read_input_tokens + cache_creation_input_tokens + output_tokens > 0
) as unpriced,
{_join_columns("cast(coalesce(sum({0}), 0) as bigint) as {0}", _SUMMED_COLUMNS)}
"""


def open_entry(tx: Transaction, entry: LedgerEntry) -> None:
    """Write a request down before it leaves; in one job with `leases.renew` of its worker, else it counts as dead."""
    row = {name: getattr(entry, name) for name in _COLUMNS}
    day = time.strftime("%Y-%m-%d", time.gmtime(entry.started_at))
    tx.execute(_INSERT, row | {"day": day, "estimated": int(entry.estimated)})


def record_entry_progress(tx: Transaction, entry_id: str, **known: Unpack[EntryProgress]) -> bool:
    """Keep what is known of an open request so far, so that a killed process leaves it; False if it has ended."""
    if strange := known.keys() - set(_PROGRESS_COLUMNS):
        message = f"a ledger entry has no {sorted(strange)} to note"
        raise TypeError(message)
    row: dict[str, SqlValue] = dict.fromkeys(_PROGRESS_COLUMNS)
    return tx.execute(_UPDATE_PROGRESS, row | cast("dict[str, SqlValue]", known) | {"id": entry_id}) == 1


def close_entry(tx: Transaction, entry_id: str, result: EntryResult) -> bool:
    """Complete a request's line; True exactly once. Belongs in one job with `budgets.settle`."""
    row = {name: getattr(result, name) for name in _RESULT_COLUMNS}
    return tx.execute(_CLOSE, row | {"id": entry_id, "estimated": int(result.estimated)}) == 1


def close_orphaned_entries(tx: Transaction, now: float) -> list[str]:
    """Close the open requests of workers whose lease has run out, and settle their budgets; returns their ids.

    They keep what was noted of them, are marked as estimated, and spend of the budgets what was noted as their cost.
    """
    closed = tx.fetch_all(_closed_row, _CLOSE_ORPHANS, {"now": now})
    for entry_id, spent in sorted(closed):
        budget_reservations.settle(tx, entry_id, spent)
    return [entry_id for entry_id, _ in closed]


def summarize_usage(
    tx: Transaction,
    since: float,
    until: float | None = None,
    user: str | None = None,
    by: Sequence[SummaryKey] = ("model",),
) -> list[UsageSummary]:
    """What requests begun from `since` up to, not at, `until` came to, grouped; all users where none is named."""
    keys = [key for key in dict.fromkeys(by) if key in _SUMMARY_KEYS]
    names = _join_columns(_QUOTED, keys)
    sql = (
        f"select {', '.join(filter(None, (names, _COUNTS)))} from entry where started_at >= :since "  # noqa: S608
        "and started_at < :until"
    )
    sql += ' and "user" = :user' if user is not None else ""
    # Without a key there is one row, also of nothing.
    sql += f" group by {names} order by {names}" if keys else ""
    until = math.inf if until is None else until
    return tx.fetch_all(UsageSummary, sql, {"since": since, "until": until, "user": user or ""})


def entries_of_call(tx: Transaction, call_id: str) -> list[LedgerEntry]:
    """A call's requests, in the order in which they were tried."""
    return tx.fetch_all(_entry_row, _ENTRIES, {"call_id": call_id})


def _entry_row(*, estimated: int, **row: Any) -> LedgerEntry:
    return LedgerEntry(estimated=bool(estimated), **row)


def _closed_row(id: str, spent: int) -> tuple[str, int]:  # noqa: A002 - the column's name
    return id, spent
