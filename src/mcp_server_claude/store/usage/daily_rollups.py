"""Daily sums of the ledger, so that a report reads a few rows a day instead of every request.

Closed requests are in the sums, open ones are not. The transaction that changes a request changes its sums as well:
`remove_entry` before the change, `add_entry` after it. `days_that_differ` compares the sums with the requests.

`usage_total` is by day, model and tool; `usage_user_total` by day and user; `usage_cell` by all four;
`usage_project_cell` by these and the project; `usage_project_total` by day and project. `latency_count` counts requests
by user (empty: all users), day, and time to the first text in buckets of `LATENCY_BUCKET_MS`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcp_server_claude.frozen_dataclass import frozen_dataclass
from mcp_server_claude.store.transaction import SharedRowChange, scalar

if TYPE_CHECKING:
    from mcp_server_claude.store.transaction import Transaction

LOCK_ORDER = 1
"""The place of the sums among the rows that many transactions change: after the budgets."""
LATENCY_BUCKET_MS = 10
LATENCY_BUCKET = f"cast(ttft_ms / {LATENCY_BUCKET_MS} as bigint)"
"""The bucket of an entry, as SQL."""

_FAILED = "\"end\" in ('failed', 'interrupted')"
_FOLLOWED = """
exists (select 1 from entry as later where later.call_id = entry.call_id and later.attempt > entry.attempt)
"""
_PROMPT_TOKENS = "input_tokens + cache_read_input_tokens + cache_creation_input_tokens"
ENTRY_VALUES = {
    "requests": "1",
    "calls": "case when attempt = 1 then 1 else 0 end",
    "unpriced": f"case when state = 'closed' and cost_micros is null and {_PROMPT_TOKENS} + output_tokens > 0 "
    "then 1 else 0 end",
    "input_tokens": "input_tokens",
    "cache_read_input_tokens": "cache_read_input_tokens",
    "cache_creation_input_tokens": "cache_creation_input_tokens",
    "output_tokens": "output_tokens",
    "cost_micros": "coalesce(cost_micros, 0)",
    "timed": "case when state = 'closed' and ttft_ms is not null then 1 else 0 end",
    "errors": f"case when {_FAILED} and not {_FOLLOWED} then 1 else 0 end",
    "retries": f"case when {_FAILED} and {_FOLLOWED} then 1 else 0 end",
}
"""Addition of one request to each column of the sums, as SQL. A failed request that was followed by another of its call
is a retry, one that was not is an error."""
_KEYS = {
    "usage_total": ("day", "model", "tool"),
    "usage_user_total": ("day", '"user"'),
    "usage_cell": ("day", '"user"', "model", "tool"),
    "usage_project_cell": ("day", '"user"', "project", "model", "tool"),
    "usage_project_total": ("day", "project"),
}
_CLOSED = "from entry where state = 'closed'"
_ENTRY_SUMS = ", ".join(f"cast(sum({value}) as bigint) as {name}" for name, value in ENTRY_VALUES.items())
_CELL_SUMS = ", ".join(f"cast(sum({name}) as bigint) as {name}" for name in ENTRY_VALUES)
_CELL_KEYS = ", ".join(_KEYS["usage_cell"])
_PROJECT_KEYS = ", ".join(_KEYS["usage_project_cell"])
_EXPECTED = {
    # Reads every request, so the other tables are derived from this one.
    "usage_cell": f"select {_CELL_KEYS}, {_ENTRY_SUMS} {_CLOSED} group by {_CELL_KEYS}",
    "usage_total": f"select day, model, tool, {_CELL_SUMS} from usage_cell group by day, model, tool",  # noqa: S608 - constants
    "usage_user_total": f'select day, "user", {_CELL_SUMS} from usage_cell group by day, "user"',  # noqa: S608 - constants
    "usage_project_cell": f"select {_PROJECT_KEYS}, {_ENTRY_SUMS} {_CLOSED} group by {_PROJECT_KEYS}",
    "usage_project_total": f"select day, project, {_CELL_SUMS} from usage_project_cell group by day, project",  # noqa: S608 - constants
    "latency_count": f'select day, "user", {LATENCY_BUCKET} as bucket, count(*) as requests {_CLOSED} '
    f'and ttft_ms is not null group by "user", day, {LATENCY_BUCKET}',
}
"""The rows of each table as they follow from the requests, or from a table before it. Of `latency_count` only those by
user, see `_EXPECTED_FOR_ALL`."""
_EXPECTED_FOR_ALL = """
select day, '' as "user", bucket, cast(sum(requests) as bigint) as requests from latency_count where "user" <> ''
group by day, bucket
"""


def _add_statements() -> tuple[str, ...]:
    statements: list[str] = []
    for table, keys in _KEYS.items():
        columns = ", ".join((*keys, *ENTRY_VALUES))
        values = ", ".join((*keys, *(f":sign * ({value})" for value in ENTRY_VALUES.values())))
        sums = ", ".join(f"{name} = {table}.{name} + excluded.{name}" for name in ENTRY_VALUES)
        statements.append(
            f"insert into {table} ({columns}) select {values} from entry where id = :id and state = 'closed' "  # noqa: S608 - constants
            f"on conflict ({', '.join(keys)}) do update set {sums}"
        )
    statements.extend(
        f'insert into latency_count ("user", day, bucket, requests) select {user}, day, {LATENCY_BUCKET}, :sign '  # noqa: S608 - constants
        "from entry where id = :id and state = 'closed' and ttft_ms is not null "
        'on conflict ("user", day, bucket) do update set requests = latency_count.requests + excluded.requests'
        for user in ("''", '"user"')
    )
    return tuple(statements)


_ADD = _add_statements()
_KEY_COLUMNS = {**_KEYS, "latency_count": ("day", '"user"', "bucket")}
_VALUE_COLUMNS = dict.fromkeys(_KEYS, tuple(ENTRY_VALUES)) | {"latency_count": ("requests",)}
_TABLE_COLUMNS = {table: ", ".join((*keys, *_VALUE_COLUMNS[table])) for table, keys in _KEY_COLUMNS.items()}


@frozen_dataclass(kw_only=True)
class RollupKeys:
    """The columns of an entry that decide which sums it is part of."""

    id: str
    day: str
    user: str
    project: str
    model: str
    tool: str
    ttft_ms: float | None


ROLLUP_KEYS = 'id, day, "user", project, model, tool, ttft_ms'
"""The columns of `RollupKeys`, as SQL."""


def changes_of_sums(entry: RollupKeys) -> list[SharedRowChange]:
    """Return the changes by which `add_entry` adds a closed request to the sums of its day."""
    row = {"id": entry.id, "sign": 1}
    columns = (entry.day, entry.user, entry.project, entry.model, entry.tool, entry.ttft_ms or 0.0)
    statements = _ADD if entry.ttft_ms is not None else _ADD[: len(_KEYS)]
    return [
        SharedRowChange((LOCK_ORDER, number, *columns), (statement, row)) for number, statement in enumerate(statements)
    ]


def add_entry(tx: Transaction, entry_id: str) -> None:
    """Add a closed request to the sums of its day. Does nothing for an open one."""
    tx.execute_all([(statement, {"id": entry_id, "sign": 1}) for statement in _ADD])


def remove_entry(tx: Transaction, entry_id: str) -> None:
    """Take a closed request out of the sums of its day, before it changes. Does nothing for an open one."""
    tx.execute_all([(statement, {"id": entry_id, "sign": -1}) for statement in _ADD])


def rebuild_rollups(tx: Transaction) -> None:
    """Compute all sums from the requests. Takes some seconds for a million requests."""
    for table, expected in _EXPECTED.items():
        tx.execute(f"delete from {table}")  # noqa: S608 - a constant
        tx.execute(f"insert into {table} ({_TABLE_COLUMNS[table]}) {expected}")
    tx.execute(f"insert into latency_count ({_TABLE_COLUMNS['latency_count']}) {_EXPECTED_FOR_ALL}")


def days_that_differ(tx: Transaction) -> list[str]:
    """Return the UTC days whose sums are not those of their requests, sorted. Empty if all is well.

    Takes some seconds for a million requests, so call it through `Store.read_slow`.
    """
    days: set[str] = set()
    for table, expected in _EXPECTED.items():
        condition = "and \"user\" <> ''" if table == "latency_count" else ""
        days |= _differing_days(tx, table, condition, expected)
    days |= _differing_days(tx, "latency_count", "and \"user\" = ''", _EXPECTED_FOR_ALL)
    return sorted(days)


def _differing_days(tx: Transaction, table: str, condition: str, expected: str) -> set[str]:
    """The days on which the stored rows, less the expected ones, do not add up to zero.

    The database adds both up in one pass. Only days leave it: `latency_count` has nearly as many rows as requests.
    """
    keys, values = _KEY_COLUMNS[table], _VALUE_COLUMNS[table]
    columns, negated = ", ".join((*keys, *values)), ", ".join((*keys, *(f"-{name}" for name in values)))
    difference = " or ".join(f"sum({name}) <> 0" for name in values)
    statement = (
        f"select day from (select {columns} from {table} where requests <> 0 {condition} "  # noqa: S608 - constants
        f"union all select {negated} from ({expected}) as expected) as compared "
        f"group by {', '.join(keys)} having {difference}"
    )
    return set(tx.fetch_all(scalar, f"select distinct day from ({statement}) as differing"))  # noqa: S608 - constants
