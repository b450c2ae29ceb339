"""The ledger: one entry for every upstream request, written before it is sent and completed once it has ended."""

from __future__ import annotations

import math
import time
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict, Unpack, cast

from mcp_server_claude.call_types import TokenCounts
from mcp_server_claude.frozen_dataclass import frozen_dataclass
from mcp_server_claude.store import budget_reservations
from mcp_server_claude.store.transaction import scalar
from mcp_server_claude.store.usage import daily_rollups

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mcp_server_claude.store.transaction import SharedRowChange, SqlValue, Statement, Transaction

EntryState: TypeAlias = Literal["open", "closed"]
EndStatus: TypeAlias = Literal["complete", "incomplete", "failed", "cancelled", "interrupted"]
"""End of a request or a call. `interrupted`: its process died, or was taken for dead and has not closed it since."""
SummaryKey: TypeAlias = Literal["model", "day", "tool", "user", "project", "job_id"]
"""Column to group a summary by. `day` is the UTC date on which the request was started."""

MAX_COUNT = 2**53
"""Largest count that is believed. Larger ones would add up to more than a database integer holds."""
ORPHAN_RETENTION_S = 2 * 86_400.0
"""Seconds for which the owner of an entry can correct what others have recorded for it."""


@frozen_dataclass(kw_only=True)
class RequestFigures(TokenCounts):
    """The figures of an upstream request, complete once it has ended.

    Amounts are micro-dollars; `cost_micros` is None while the price is unknown.
    """

    status: int | None = None
    failure: str | None = None
    request_id: str | None = None
    stop_reason: str | None = None
    cost_micros: int | None = None
    pricing_as_of: str | None = None
    estimated: bool = False
    inference_geo: str | None = None
    speed: str | None = None
    service_tier: str | None = None
    ttft_ms: float | None = None
    duration_ms: float | None = None


@frozen_dataclass(kw_only=True)
class LedgerEntry(RequestFigures):
    """One upstream request.

    Times are unix seconds, amounts are micro-dollars. `worker` is the process that has sent it, or the message batch
    that it is part of, which outlives processes. `host` is the host of the base URL. `held_micros` was reserved of
    the budgets when the request was started. `job_id` is the job that it was made for, `project` the name of the
    directory, or of the setting, of the process that was asked.
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
    trace_id: str = ""
    held_micros: int = 0
    job_id: str | None = None
    project: str = ""


@frozen_dataclass(kw_only=True)
class EntryResult(RequestFigures):
    """Result of a request: all columns that `close_entry` writes. None keeps the recorded `model` and `request_id`."""

    end: EndStatus
    ended_at: float
    model: str | None = None


@frozen_dataclass(kw_only=True)
class OpenedEntry:
    """An entry as it was opened, and the budgets in which its cost was reserved, on a UTC date."""

    entry: LedgerEntry
    scopes: tuple[budget_reservations.BudgetScope, ...] = ()
    day: str = ""


class EntryProgress(TypedDict, total=False):
    """Facts about a running request that can be recorded, for instance the exact input tokens after `message_start`."""

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


@frozen_dataclass(kw_only=True)
class UsageSummary(TokenCounts):
    """Sums over some requests. Fields that are not grouped by are empty.

    `calls`, `failures` and `retries` are counted as in usage reports: a failed request is one of `retries` if another
    request of its call followed, else one of `failures`. `unpriced` used tokens that `cost_micros` lacks because the
    price is unknown, `estimated` have token counts of our own.
    """

    model: str = ""
    day: str = ""
    tool: str = ""
    user: str = ""
    project: str = ""
    job_id: str | None = None
    requests: int
    open: int
    calls: int
    failures: int
    retries: int
    estimated: int
    unpriced: int
    cost_micros: int


_TABLES_OF_CALLS = (("entry", "id"), ("hold", "entry_id"), ("budget", "scope"), ("call", "id"), ("chunk", "call_id"))
_COLUMNS = tuple(field.name for field in fields(LedgerEntry))
_PROGRESS_COLUMNS = tuple(EntryProgress.__annotations__)
_RESULT_COLUMNS = tuple(field.name for field in fields(EntryResult))
_KEPT_IF_NULL = frozenset({"model", "request_id"})
_COUNT_COLUMNS = tuple(field.name for field in fields(TokenCounts))
_SUMMED_COLUMNS = (*_COUNT_COLUMNS, "cost_micros")
_SUMMARY_KEYS: frozenset[str] = frozenset({"model", "day", "tool", "user", "project", "job_id"})


def _join_columns(form: str, names: Sequence[str]) -> str:
    return ", ".join(form.format(name) for name in names)


_QUOTED, _BOUND, _SET, _SET_IF_KNOWN = '"{0}"', ":{0}", '"{0}" = :{0}', '"{0}" = coalesce(:{0}, "{0}")'
# The names in these statements are the fields above, so that a column is named in one place. Every value is bound.
_INSERT = (
    f"insert into entry (day, {_join_columns(_QUOTED, _COLUMNS)}) values (:day, {_join_columns(_BOUND, _COLUMNS)}) "  # noqa: S608
    "on conflict (id) do nothing"
)
"""Runs again where the connection was lost before the server could confirm its commit."""
_UPDATE_PROGRESS = (
    f"update entry set {_join_columns(_SET_IF_KNOWN, _PROGRESS_COLUMNS)} where id = :id and state = 'open'"  # noqa: S608
)
_CLOSE = (
    f"update entry set state = 'closed', "  # noqa: S608
    f"{_join_columns(_SET, [name for name in _RESULT_COLUMNS if name not in _KEPT_IF_NULL])}, "
    f"{_join_columns(_SET_IF_KNOWN, sorted(_KEPT_IF_NULL))} where id = :id and "
)
_CLOSE_OPEN = f"{_CLOSE} state = 'open' returning {daily_rollups.ROLLUP_KEYS}"
_CLOSE_INTERRUPTED = f"{_CLOSE} \"end\" = 'interrupted'"
_END = "select coalesce(\"end\", '') as status from entry where id = :id"
_CLOSE_ORPHANS = f"""
update entry set state = 'closed', "end" = 'interrupted', estimated = 1, ended_at = :now,
cost_micros = case
    when cost_micros is null and exists (select 1 from message_batch where message_batch.id = entry.worker)
    then nullif(held_micros, 0) else cost_micros
end
where state = 'open' and not exists (select 1 from process where process.id = entry.worker)
and not exists (select 1 from message_batch where message_batch.id = entry.worker and state <> 'collected')
returning {daily_rollups.ROLLUP_KEYS}, coalesce(cost_micros, 0) as spent
"""  # noqa: S608 - constants
_FAILED_ATTEMPTS = "select id from entry where call_id = :call_id and \"end\" in ('failed', 'interrupted')"
_ENTRIES = f"select {_join_columns(_QUOTED, _COLUMNS)} from entry where call_id = :call_id order by attempt, started_at"  # noqa: S608
_COUNTS = f"""
count(*) as requests,
count(*) filter (where state = 'open') as open,
cast(coalesce(sum({daily_rollups.ENTRY_VALUES["calls"]}), 0) as bigint) as calls,
cast(coalesce(sum({daily_rollups.ENTRY_VALUES["errors"]}), 0) as bigint) as failures,
cast(coalesce(sum({daily_rollups.ENTRY_VALUES["retries"]}), 0) as bigint) as retries,
count(*) filter (where estimated = 1) as estimated,
count(*) filter (
    where state = 'closed' and cost_micros is null
    and input_tokens + cache_read_input_tokens + cache_creation_input_tokens + output_tokens > 0
) as unpriced,
{_join_columns("cast(coalesce(sum({0}), 0) as bigint) as {0}", _SUMMED_COLUMNS)}
"""


def check_writable(tx: Transaction) -> None:
    """Change no row of the tables that each call writes: it fails if one is missing, or may not be written."""
    tx.execute_all([(f"update {table} set {key} = {key} where {key} = ''", {}) for table, key in _TABLES_OF_CALLS])  # noqa: S608 - constants


def open_entry(tx: Transaction, entry: LedgerEntry) -> None:
    """Write an entry before its request is sent.

    Belongs in one transaction with `process_locks.register_process` of its worker, else it counts as orphaned.
    """
    # Failed attempts of the call become retries by this one.
    if entry.attempt > 1:
        tx.require_own_transaction()  # the sums change before and after the entry
    failed = tx.fetch_all(scalar, _FAILED_ATTEMPTS, {"call_id": entry.call_id}) if entry.attempt > 1 else []
    for entry_id in failed:
        daily_rollups.remove_entry(tx, entry_id)
    tx.execute_all([insertion(entry)])
    for entry_id in (*failed, *([] if entry.state == "open" else [entry.id])):
        daily_rollups.add_entry(tx, entry_id)


def insertion(entry: LedgerEntry) -> Statement:
    """Return the statement of `open_entry` for the first request of a call."""
    row = {name: getattr(entry, name) for name in _COLUMNS}
    day = time.strftime("%Y-%m-%d", time.gmtime(entry.started_at))
    return _INSERT, _believable(row) | {"day": day}


def record_entry_progress(tx: Transaction, entry_id: str, **known: Unpack[EntryProgress]) -> bool:
    """Record what is known of an open request, so that a killed process leaves it. Returns False if it has ended.

    Raises:
        TypeError: A name is not one of `EntryProgress`.
    """
    if unknown := known.keys() - set(_PROGRESS_COLUMNS):
        message = f"a ledger entry has no {sorted(unknown)} to record"
        raise TypeError(message)
    row: dict[str, SqlValue] = dict.fromkeys(_PROGRESS_COLUMNS)
    values = _believable(row | cast("dict[str, SqlValue]", known))
    return tx.execute(_UPDATE_PROGRESS, {name: values[name] for name in _PROGRESS_COLUMNS} | {"id": entry_id}) == 1


def close_entry(
    tx: Transaction, entry_id: str, result: EntryResult, spent_micros: int = 0, opened: OpenedEntry | None = None
) -> bool:
    """Complete an entry, and record the cost of its request in the budgets. Returns True exactly once.

    The owner's result also replaces `interrupted`, which another process wrote when it took the owner for dead; the
    budgets are corrected by the difference. An entry that is not there, because its row was deleted or the database
    replaced, is written anew as it was `opened`. Implausible numbers are left out, see `_believable`.
    """
    row = _believable({name: getattr(result, name) for name in _RESULT_COLUMNS}) | {"id": entry_id}
    spent_micros = max(0, min(MAX_COUNT, spent_micros))
    closed, holds = tx.fetch_both(
        (daily_rollups.RollupKeys, _CLOSE_OPEN, row), budget_reservations.hold_deletion(entry_id)
    )
    settlements = budget_reservations.settlements(holds, spent_micros)
    if closed:
        tx.change_shared_rows([*settlements, *daily_rollups.changes_of_sums(closed[0])])
        return True
    end = tx.fetch_one(scalar, _END, {"id": entry_id})
    if end is None and opened is not None:
        _write_missing_entry(tx, opened, result, spent_micros, settlements)
        return True
    if end != "interrupted":
        tx.change_shared_rows(settlements)  # only an entry whose row was deleted still has reservations
        return False
    tx.require_own_transaction()  # the sums change before and after the entry
    tx.change_shared_rows(settlements)
    daily_rollups.remove_entry(tx, entry_id)
    tx.execute(_CLOSE_INTERRUPTED, row)
    daily_rollups.add_entry(tx, entry_id)
    return True


def _write_missing_entry(
    tx: Transaction,
    opened: OpenedEntry,
    result: EntryResult,
    spent_micros: int,
    settlements: Sequence[SharedRowChange],
) -> None:
    tx.require_own_transaction()  # the budgets change before the entry, from whose cost a new one is made
    if settlements:
        tx.change_shared_rows(settlements)
    else:
        budget_reservations.add_spending(tx, opened.scopes, opened.day, spent_micros)
    known = {name: value for name in _RESULT_COLUMNS if (value := getattr(result, name)) is not None}
    open_entry(tx, replace(opened.entry, state="closed", **known))


def close_orphaned_entries(tx: Transaction, now: float, *, spends_reservations: bool = False) -> list[str]:
    """Close the open entries of processes that are not registered, and settle their budgets. Returns their ids.

    They keep what was recorded of them, are marked as estimated, and spend what was recorded as their cost, with
    `spends_reservations` at least what was reserved for them. So are entries of batches whose results are saved, except
    those of damaged items, with what was reserved for them as their cost: they may have been answered.
    """
    closed = tx.fetch_all(_closed_row, _CLOSE_ORPHANS, {"now": now})
    changes: list[SharedRowChange] = []
    for entry, spent in closed:
        changes += budget_reservations.settle_orphan(tx, entry.id, spent, in_full=spends_reservations)
        changes += daily_rollups.changes_of_sums(entry)
    tx.change_shared_rows(changes)
    # A clock that was never set is near 1970, before which `gmtime` of Windows fails.
    expired_at = max(0.0, now - ORPHAN_RETENTION_S)
    budget_reservations.delete_settled_orphans(tx, time.strftime("%Y-%m-%d", time.gmtime(expired_at)))
    return [entry.id for entry, _ in closed]


def summarize_usage(
    tx: Transaction,
    since: float,
    until: float | None = None,
    user: str | None = None,
    by: Sequence[SummaryKey] = ("model",),
) -> list[UsageSummary]:
    """Add up the requests started from `since` up to, not at, `until`, in unix seconds. Without a user: of all."""
    keys = [key for key in dict.fromkeys(by) if key in _SUMMARY_KEYS]
    names = _join_columns(_QUOTED, keys)
    sql = (
        f"select {', '.join(filter(None, (names, _COUNTS)))} from entry where started_at >= :since "  # noqa: S608
        "and started_at < :until"
    )
    sql += ' and "user" = :user' if user is not None else ""
    # Without a key there is exactly one row, even if there are no requests.
    sql += f" group by {names} order by {names}" if keys else ""
    until = math.inf if until is None else until
    return tx.fetch_all(UsageSummary, sql, {"since": since, "until": until, "user": user or ""})


def entries_of_call(tx: Transaction, call_id: str) -> list[LedgerEntry]:
    """Return the requests of a call in the order of its attempts."""
    return tx.fetch_all(_entry_row, _ENTRIES, {"call_id": call_id})


def _believable(row: Mapping[str, SqlValue]) -> dict[str, SqlValue]:
    """Bring counts into 0 to `MAX_COUNT`, and drop a cost beyond it. A changed row is marked as estimated."""
    values = dict(row)
    for name in _COUNT_COLUMNS:
        if isinstance(count := row[name], int):
            values[name] = max(0, min(MAX_COUNT, count))
    cost = row["cost_micros"]
    if isinstance(cost, int) and not 0 <= cost <= MAX_COUNT:
        values["cost_micros"] = None
    values["estimated"] = int(bool(row.get("estimated")) or values != dict(row))
    return values


def _entry_row(*, estimated: int, **row: Any) -> LedgerEntry:
    return LedgerEntry(estimated=bool(estimated), **row)


def _closed_row(spent: int, **keys: Any) -> tuple[daily_rollups.RollupKeys, int]:
    return daily_rollups.RollupKeys(**keys), spent
