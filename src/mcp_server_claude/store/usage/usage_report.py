"""What the ledger says of a stretch of days, for who pays: sums by day, model, tool and user, counted in the database.

A call is counted where its first request was booked, so that days, models, tools and users each add up to the whole. A
failed request that was followed by another of its call is a retry, one that was not is an error; both count on the
failed request's day. Every query reads one of the indexes of migration 9, in the order in which it groups, so that its
time follows the requests in the range and not the age of the ledger.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias, TypeVar

from mcp_server_claude.store.transaction import scalar
from mcp_server_claude.store.usage import cache_savings, latency_percentiles

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from mcp_server_claude.store.transaction import SqlParams, Transaction
    from mcp_server_claude.store.usage.latency_percentiles import LatencyPercentiles

T = TypeVar("T")
Grouping: TypeAlias = Literal["day", "month", "model", "tool"]
CellKey: TypeAlias = tuple[str, str, str, str]
"""Day, model, tool, user; what is added up over is empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageQuery:
    """Which requests are meant: begun on the UTC days from `since` to `until`, both included; None means all."""

    since: date
    until: date
    user: str | None = None
    model: str | None = None
    tool: str | None = None

    @property
    def days(self) -> list[date]:
        """Every day of it."""
        return [self.since + timedelta(days=n) for n in range((self.until - self.since).days + 1)]

    def preceding(self) -> UsageQuery:
        """As many days, just before."""
        return replace(self, since=self.since - timedelta(days=len(self.days)), until=self.since - timedelta(days=1))

    def sql_params(self) -> SqlParams:
        """The values for a statement with `where`."""
        filters = {"user": self.user, "model": self.model, "tool": self.tool}
        return {"since": self.since.isoformat(), "until": self.until.isoformat(), **filters}

    @property
    def filter_sql(self) -> str:
        """The filters that are set, as SQL. `coalesce` keeps the database from taking an index on the user alone."""
        filters = {"user": self.user, "model": self.model, "tool": self.tool}
        return "".join(f' and "{name}" = coalesce(:{name}, "{name}")' for name, wanted in filters.items() if wanted)

    @property
    def where_sql(self) -> str:
        """The condition as SQL; `params` has its values."""
        return f"day >= :since and day <= :until{self.filter_sql}"


class UsageTotals(NamedTuple):
    """What some requests came to together.

    `unpriced` used tokens that `cost_micros` does not hold, because the price is unknown. `timed` brought text, and
    `saved_micros` is what reading from the cache saved, less what writing to it cost beyond plain input; both are 0
    where they are not told by model.
    """

    requests: int = 0
    calls: int = 0
    unpriced: int = 0
    input_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_creation_input_tokens: int = 0
    output_tokens: int = 0
    cost_micros: int = 0
    timed: int = 0
    errors: int = 0
    retries: int = 0
    saved_micros: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageReport:
    """A range, added up.

    `begins` is the first day of the whole ledger, empty where there is none. `cells` are by day, model and tool,
    `waits` by day (2026-11-20), by month (2026-11) and for the whole range (empty). `previous` has the calls and the
    cost of as many days before.
    """

    query: UsageQuery
    first_day: str
    cells: Mapping[CellKey, UsageTotals]
    users: Mapping[str, UsageTotals]
    latency: Mapping[str, LatencyPercentiles]
    previous: UsageTotals

    def totals_by(self, grouping: Grouping) -> dict[str, UsageTotals]:
        """Added up per day, month, model or tool."""
        return _totals_by_group((_group_key(key, grouping), sums) for key, sums in self.cells.items())

    def model_totals_by(self, grouping: Literal["day", "month"]) -> dict[str, dict[str, UsageTotals]]:
        """Per day or month, added up per model."""
        parts: defaultdict[str, list[tuple[str, UsageTotals]]] = defaultdict(list)
        for key, sums in self.cells.items():
            parts[_group_key(key, grouping)].append((key[1], sums))
        return {part: _totals_by_group(models) for part, models in parts.items()}

    @property
    def totals(self) -> UsageTotals:
        """All of it."""
        return _sum_totals(self.cells.values())


_PROMPT = "input_tokens + cache_read_input_tokens + cache_creation_input_tokens"
_TOTALS_SQL = f"""
count(*) as requests,
count(*) filter (where attempt = 1) as calls,
count(*) filter (where "end" is not null and cost_micros is null and {_PROMPT} + output_tokens > 0) as unpriced,
cast(sum(input_tokens) as bigint) as input_tokens,
cast(sum(cache_read_input_tokens) as bigint) as cache_read_input_tokens,
cast(sum(cache_creation_input_tokens) as bigint) as cache_creation_input_tokens,
cast(sum(output_tokens) as bigint) as output_tokens,
cast(coalesce(sum(cost_micros), 0) as bigint) as cost_micros
"""
_RESUMMED_SQL = ", ".join(f"cast(sum({name}) as bigint) as {name}" for name in UsageTotals._fields[:8])
_FAILED_CTE = """
with failed as materialized (
    select day, model, tool, "user", case when exists (
        select 1 from entry as later where later.call_id = entry.call_id and later.attempt > entry.attempt
    ) then 1 else 0 end as retried
    from entry where {where} and "end" in ('failed', 'interrupted')
)
"""
_FAILURE_COUNTS = "count(*) - cast(sum(retried) as bigint) as errors, cast(sum(retried) as bigint) as retries"

# Names in braces are filled with the text above and a range's `where`, never with a value.
_CELLS = "select day, model, tool, {sums}, count(ttft_ms) as timed from entry where {where} group by day, model, tool"
# The inner groups come in the index's order, and the outer ones are few.
_USERS = """
select "user", {again} from (select day, "user", {sums} from entry where {where} group by day, "user") as daily
group by "user"
"""
_FAILURES = """{failed}
select day, model, tool, '' as "user", {faults} from failed group by day, model, tool
union all
select '' as day, '' as model, '' as tool, "user", {faults} from failed group by "user"
"""
_ROWS = """
select day, "user", model, tool, {sums} from entry where {where}
group by day, "user", model, tool order by day, "user", model, tool
"""
_ROW_FAILURES = '{failed} select day, "user", model, tool, {faults} from failed group by day, "user", model, tool'
_PREVIOUS = """
select count(*) filter (where attempt = 1) as calls, cast(coalesce(sum(cost_micros), 0) as bigint) as cost_micros
from entry where {where}
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
    """Add up a range. `cache_creation_1h_input_tokens` says that what is cached is kept, and paid for, an hour and
    not 5 minutes.

    What the cache saved needs prices, and the first call imports them: 0.3 s on the store's thread.
    """
    faults = _failure_counts(tx, query, _FAILURES)
    cells = _cell_totals(tx, query, _CELLS, faults)
    saved = cache_savings.savings_by_cell(tx, query, cells, for_an_hour=cached_for_an_hour)
    before = query.preceding()
    (previous,) = tx.fetch_all(UsageTotals, _format_sql(_PREVIOUS, before), before.sql_params())
    return UsageReport(
        query=query,
        first_day=tx.fetch_one(scalar, "select min(day) as day from entry") or "",
        cells={key: sums._replace(saved_micros=saved.get(key, Decimal(0))) for key, sums in cells.items()},
        users=_user_totals(tx, query, cells, faults),
        latency=latency_percentiles.percentiles_by_period(tx, query, _latency_counts(cells)),
        previous=previous,
    )


def detail_rows(tx: Transaction, query: UsageQuery) -> dict[CellKey, UsageTotals]:
    """A range by day, user, model and tool, in this order: the finest that there is, without what the cache saved."""
    return _cell_totals(tx, query, _ROWS, _failure_counts(tx, query, _ROW_FAILURES))


def user_names(tx: Transaction) -> list[str]:
    """Everybody who ever asked, sorted. Looks into the index once for each, however many requests there are."""
    return sorted(tx.fetch_all(scalar, _USER_NAMES))


def _format_sql(text: str, query: UsageQuery) -> str:
    failed = _FAILED_CTE.format(where=query.where_sql)
    return text.format(
        where=query.where_sql, sums=_TOTALS_SQL, again=_RESUMMED_SQL, failed=failed, faults=_FAILURE_COUNTS
    )


def _failure_counts(tx: Transaction, query: UsageQuery, sql: str) -> dict[CellKey, UsageTotals]:
    """Errors and retries alone."""
    return dict(tx.fetch_all(_totals_row, _format_sql(sql, query), query.sql_params()))


def _cell_totals(
    tx: Transaction, query: UsageQuery, sql: str, failures: Mapping[CellKey, UsageTotals]
) -> dict[CellKey, UsageTotals]:
    """Everything else, and the faults put in. What failed was begun, so it has its place among these."""
    found = dict(tx.fetch_all(_totals_row, _format_sql(sql, query), query.sql_params()))
    for key in found.keys() & failures.keys():
        found[key] = found[key]._replace(errors=failures[key].errors, retries=failures[key].retries)
    return found


def _totals_row(
    *, day: str = "", model: str = "", tool: str = "", user: str = "", **sums: int
) -> tuple[CellKey, UsageTotals]:
    return (day, model, tool, user), UsageTotals()._replace(**sums)


def _user_totals(
    tx: Transaction, query: UsageQuery, cells: Mapping[CellKey, UsageTotals], failures: Mapping[CellKey, UsageTotals]
) -> dict[str, UsageTotals]:
    if query.user:  # theirs is all there is
        return {query.user: _sum_totals(cells.values())} if cells else {}
    return {user: sums for (_, _, _, user), sums in _cell_totals(tx, query, _USERS, failures).items()}


def _latency_counts(cells: Mapping[CellKey, UsageTotals]) -> dict[str, int]:
    days: defaultdict[str, int] = defaultdict(int)
    for (day, _, _, _), sums in cells.items():
        days[day] += sums.timed
    return days


def _group_key(key: CellKey, grouping: Grouping) -> str:
    day, model, tool, _ = key
    return {"day": day, "month": day[:7], "model": model, "tool": tool}[grouping]


def _totals_by_group(parts: Iterable[tuple[T, UsageTotals]]) -> dict[T, UsageTotals]:
    groups: defaultdict[T, list[UsageTotals]] = defaultdict(list)
    for key, sums in parts:
        groups[key].append(sums)
    return {key: _sum_totals(group) for key, group in groups.items()}


def _sum_totals(parts: Collection[UsageTotals]) -> UsageTotals:
    return UsageTotals._make(map(sum, zip(*parts, strict=True))) if parts else UsageTotals()
