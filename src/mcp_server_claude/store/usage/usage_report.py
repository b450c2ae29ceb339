"""Usage reports: the ledger's requests in a range of days, added up by day, model, tool and user.

A call is counted on the day of its first request, so days, models, tools and users each add up to the whole. Errors and
retries are counted on the day of the failed request. Closed requests come from the daily rollups, open ones from the
ledger, so the time of a report depends on the days in its range and not on the number of requests. A report on a job
reads the requests of that job.
"""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar

from mcp_server_claude.frozen_dataclass import frozen_dataclass
from mcp_server_claude.store.transaction import scalar
from mcp_server_claude.store.usage import cache_savings, latency_percentiles
from mcp_server_claude.store.usage.daily_rollups import ENTRY_VALUES
from mcp_server_claude.store.usage.usage_totals import CellKey, UsageTotals, sum_totals

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mcp_server_claude.store.transaction import Transaction
    from mcp_server_claude.store.usage.latency_percentiles import LatencyPercentiles
    from mcp_server_claude.store.usage.usage_query import UsageQuery

T = TypeVar("T")
Grouping: TypeAlias = Literal["day", "month", "model", "tool"]


@frozen_dataclass(kw_only=True)
class UsageReport:
    """The totals of a range.

    `first_day` is the first day of the whole ledger, empty if it has none. `cells` are by day, model and tool,
    `latency` by day (2026-11-20), by month (2026-11) and for the whole range (empty). `previous` has the calls and the
    cost of the preceding range.
    """

    query: UsageQuery
    first_day: str
    cells: Mapping[CellKey, UsageTotals]
    users: Mapping[str, UsageTotals]
    projects: Mapping[str, UsageTotals]
    latency: Mapping[str, LatencyPercentiles]
    previous: UsageTotals

    def totals_by(self, grouping: Grouping) -> dict[str, UsageTotals]:
        """Return the totals per day, month, model or tool."""
        return _totals_by_group((_group_key(key, grouping), sums) for key, sums in self.cells.items())

    def model_totals_by(self, grouping: Literal["day", "month"]) -> dict[str, dict[str, UsageTotals]]:
        """Return the totals of each model, per day or month."""
        groups: defaultdict[str, list[tuple[str, UsageTotals]]] = defaultdict(list)
        for key, sums in self.cells.items():
            groups[_group_key(key, grouping)].append((key[1], sums))
        return {group: _totals_by_group(models) for group, models in groups.items()}

    @property
    def totals(self) -> UsageTotals:
        """The totals of the whole range."""
        return sum_totals(self.cells.values())


_TOTALS = """
select {keys}, {sums} from (
    select {keys}, {columns} from {table} where {rollup_where} and requests <> 0
    union all
    select {keys}, {values} from entry where {entry_where}
) as requests group by {keys} order by {keys}
"""
_COLUMNS = ", ".join(ENTRY_VALUES)
_VALUES = ", ".join(f"{value} as {name}" for name, value in ENTRY_VALUES.items())
_SUMS = ", ".join(f"cast(sum({name}) as bigint) as {name}" for name in ENTRY_VALUES)
_FIRST_DAY = """
select min(day) as day from (
    select min(day) as day from usage_total where requests > 0
    union all select min(day) as day from entry where state = 'open'
) as first_days
"""
_USER_NAMES = """
with recursive named(name) as (
    select min("user") from entry
    union all
    select (select min("user") from entry where "user" > named.name) from named where named.name is not null
)
select name from named where name is not null
"""


def build_report(tx: Transaction, query: UsageQuery, *, cached_for_an_hour: bool = False) -> UsageReport:
    """Add up a range. `cached_for_an_hour`: cached content is kept, and paid for, for an hour instead of 5 minutes.

    Savings need prices, and the first call imports them, which takes 0.3 s on the store's thread.
    """
    cells = _cell_totals(tx, query)
    savings = cache_savings.savings_by_cell(tx, query, cells, for_an_hour=cached_for_an_hour)
    previous = sum_totals(_cell_totals(tx, query.preceding()).values())
    return UsageReport(
        query=query,
        first_day=tx.fetch_one(scalar, _FIRST_DAY) or "",
        cells={key: sums._replace(saved_micros=savings.get(key, Decimal(0))) for key, sums in cells.items()},
        users=_user_totals(tx, query, cells),
        projects=_project_totals(tx, query),
        latency=latency_percentiles.percentiles_by_period(tx, query),
        previous=UsageTotals(calls=previous.calls, cost_micros=previous.cost_micros),
    )


def detail_rows(tx: Transaction, query: UsageQuery) -> dict[CellKey, UsageTotals]:
    """Return the totals of a range by day, user, model and tool, in this order, without savings."""
    return _totals(tx, query, "usage_cell", ("day", "user", "model", "tool"))


def user_names(tx: Transaction) -> list[str]:
    """Return all users of the ledger, sorted. One index lookup each, however many requests there are."""
    return sorted(tx.fetch_all(scalar, _USER_NAMES))


def _cell_totals(tx: Transaction, query: UsageQuery) -> dict[CellKey, UsageTotals]:
    return _totals(tx, query, "usage_cell" if query.user else "usage_total", ("day", "model", "tool"))


def _user_totals(tx: Transaction, query: UsageQuery, cells: Mapping[CellKey, UsageTotals]) -> dict[str, UsageTotals]:
    if query.user:  # the cells are those of this user
        return {query.user: sum_totals(cells.values())} if cells else {}
    table = "usage_cell" if query.model or query.tool or query.job else "usage_user_total"
    return {user: sums for (_, _, _, user), sums in _totals(tx, query, table, ("user",)).items()}


def _project_totals(tx: Transaction, query: UsageQuery) -> dict[str, UsageTotals]:
    is_narrow = query.user or query.model or query.tool or query.job
    sql = _totals_sql(query, "usage_project_cell" if is_narrow else "usage_project_total", ("project",))
    return dict(tx.fetch_all(_project_row, sql, query.sql_params()))


def _totals(tx: Transaction, query: UsageQuery, table: str, keys: Sequence[str]) -> dict[CellKey, UsageTotals]:
    return dict(tx.fetch_all(_totals_row, _totals_sql(query, table, keys), query.sql_params()))


def _totals_sql(query: UsageQuery, table: str, keys: Sequence[str]) -> str:
    return _TOTALS.format(
        table=table,
        keys=", ".join(f'"{key}"' for key in keys),
        rollup_where="1 = 0" if query.job else query.rollup_where_sql,
        entry_where=query.entry_where_sql if query.job else f"state = 'open' and {query.entry_where_sql}",
        columns=_COLUMNS,
        values=_VALUES,
        sums=_SUMS,
    )


def _project_row(*, project: str, **sums: int) -> tuple[str, UsageTotals]:
    return project, UsageTotals()._replace(**sums)


def _totals_row(
    *, day: str = "", model: str = "", tool: str = "", user: str = "", **sums: int
) -> tuple[CellKey, UsageTotals]:
    return (day, model, tool, user), UsageTotals()._replace(**sums)


def _group_key(key: CellKey, grouping: Grouping) -> str:
    day, model, tool, _ = key
    return {"day": day, "month": day[:7], "model": model, "tool": tool}[grouping]


def _totals_by_group(parts: Iterable[tuple[T, UsageTotals]]) -> dict[T, UsageTotals]:
    groups: defaultdict[T, list[UsageTotals]] = defaultdict(list)
    for key, sums in parts:
        groups[key].append(sums)
    return {key: sum_totals(group) for key, group in groups.items()}
