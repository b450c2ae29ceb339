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

from mcp_server_claude.store.transaction import value
from mcp_server_claude.store.usage import cache_savings, latency_percentiles

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from mcp_server_claude.store.transaction import Params, Tx
    from mcp_server_claude.store.usage.latency_percentiles import Waits

T = TypeVar("T")
Per: TypeAlias = Literal["day", "month", "model", "tool"]
Key: TypeAlias = tuple[str, str, str, str]
"""Day, model, tool, user; what is added up over is empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
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

    def before(self) -> Range:
        """As many days, just before."""
        return replace(self, since=self.since - timedelta(days=len(self.days)), until=self.since - timedelta(days=1))

    def params(self) -> Params:
        """The values for a statement with `where`."""
        filters = {"user": self.user, "model": self.model, "tool": self.tool}
        return {"since": self.since.isoformat(), "until": self.until.isoformat(), **filters}

    @property
    def only(self) -> str:
        """The filters that are set, as SQL. `coalesce` keeps the database from taking an index on the user alone."""
        filters = {"user": self.user, "model": self.model, "tool": self.tool}
        return "".join(f' and "{name}" = coalesce(:{name}, "{name}")' for name, wanted in filters.items() if wanted)

    @property
    def where(self) -> str:
        """The condition as SQL; `params` has its values."""
        return f"day >= :since and day <= :until{self.only}"


class Sums(NamedTuple):
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
class Report:
    """A range, added up.

    `begins` is the first day of the whole ledger, empty where there is none. `cells` are by day, model and tool,
    `waits` by day (2026-11-20), by month (2026-11) and for the whole range (empty). `previous` has the calls and the
    cost of as many days before.
    """

    range: Range
    begins: str
    cells: Mapping[Key, Sums]
    users: Mapping[str, Sums]
    waits: Mapping[str, Waits]
    previous: Sums

    def by(self, per: Per) -> dict[str, Sums]:
        """Added up per day, month, model or tool."""
        return _grouped((_part(key, per), sums) for key, sums in self.cells.items())

    def models_by(self, per: Literal["day", "month"]) -> dict[str, dict[str, Sums]]:
        """Per day or month, added up per model."""
        parts: defaultdict[str, list[tuple[str, Sums]]] = defaultdict(list)
        for key, sums in self.cells.items():
            parts[_part(key, per)].append((key[1], sums))
        return {part: _grouped(models) for part, models in parts.items()}

    @property
    def totals(self) -> Sums:
        """All of it."""
        return _added(self.cells.values())


_PROMPT = "input_tokens + cache_read_input_tokens + cache_creation_input_tokens"
_SUMS = f"""
count(*) as requests,
count(*) filter (where attempt = 1) as calls,
count(*) filter (where "end" is not null and cost_micros is null and {_PROMPT} + output_tokens > 0) as unpriced,
cast(sum(input_tokens) as bigint) as input_tokens,
cast(sum(cache_read_input_tokens) as bigint) as cache_read_input_tokens,
cast(sum(cache_creation_input_tokens) as bigint) as cache_creation_input_tokens,
cast(sum(output_tokens) as bigint) as output_tokens,
cast(coalesce(sum(cost_micros), 0) as bigint) as cost_micros
"""
_AGAIN = ", ".join(f"cast(sum({name}) as bigint) as {name}" for name in Sums._fields[:8])
_FAILED = """
with failed as materialized (
    select day, model, tool, "user", case when exists (
        select 1 from entry as later where later.call_id = entry.call_id and later.attempt > entry.attempt
    ) then 1 else 0 end as retried
    from entry where {where} and "end" in ('failed', 'interrupted')
)
"""
_COUNTED = "count(*) - cast(sum(retried) as bigint) as errors, cast(sum(retried) as bigint) as retries"

# Names in braces are filled with the text above and a range's `where`, never with a value.
_CELLS = "select day, model, tool, {sums}, count(ttft_ms) as timed from entry where {where} group by day, model, tool"
# The inner groups come in the index's order, and the outer ones are few.
_USERS = """
select "user", {again} from (select day, "user", {sums} from entry where {where} group by day, "user") as daily
group by "user"
"""
_FAULTS = """{failed}
select day, model, tool, '' as "user", {faults} from failed group by day, model, tool
union all
select '' as day, '' as model, '' as tool, "user", {faults} from failed group by "user"
"""
_ROWS = """
select day, "user", model, tool, {sums} from entry where {where}
group by day, "user", model, tool order by day, "user", model, tool
"""
_ROW_FAULTS = '{failed} select day, "user", model, tool, {faults} from failed group by day, "user", model, tool'
_PREVIOUS = """
select count(*) filter (where attempt = 1) as calls, cast(coalesce(sum(cost_micros), 0) as bigint) as cost_micros
from entry where {where}
"""
_NAMES = """
with recursive named(name) as (
    select min("user") from entry
    union all
    select (select min("user") from entry where "user" > named.name) from named where named.name is not null
)
select name from named where name is not null
"""


def report(tx: Tx, asked: Range, *, cached_for_an_hour: bool = False) -> Report:
    """Add up a range. `cached_for_an_hour` says that what is cached is kept, and paid for, an hour and not 5 minutes.

    What the cache saved needs prices, and the first call imports them: 0.3 s on the store's thread.
    """
    faults = _faults(tx, asked, _FAULTS)
    cells = _sums(tx, asked, _CELLS, faults)
    saved = cache_savings.saved(tx, asked, cells, for_an_hour=cached_for_an_hour)
    before = asked.before()
    (previous,) = tx.all(Sums, _sql(_PREVIOUS, before), before.params())
    return Report(
        range=asked,
        begins=tx.one(value, "select min(day) as day from entry") or "",
        cells={key: sums._replace(saved_micros=saved.get(key, Decimal(0))) for key, sums in cells.items()},
        users=_users(tx, asked, cells, faults),
        waits=latency_percentiles.percentiles(tx, asked, _timed(cells)),
        previous=previous,
    )


def rows(tx: Tx, asked: Range) -> dict[Key, Sums]:
    """A range by day, user, model and tool, in this order: the finest that there is, without what the cache saved."""
    return _sums(tx, asked, _ROWS, _faults(tx, asked, _ROW_FAULTS))


def users(tx: Tx) -> list[str]:
    """Everybody who ever asked, sorted. Looks into the index once for each, however many requests there are."""
    return sorted(tx.all(value, _NAMES))


def _sql(text: str, asked: Range) -> str:
    failed = _FAILED.format(where=asked.where)
    return text.format(where=asked.where, sums=_SUMS, again=_AGAIN, failed=failed, faults=_COUNTED)


def _faults(tx: Tx, asked: Range, sql: str) -> dict[Key, Sums]:
    """Errors and retries alone."""
    return dict(tx.all(_keyed, _sql(sql, asked), asked.params()))


def _sums(tx: Tx, asked: Range, sql: str, faults: Mapping[Key, Sums]) -> dict[Key, Sums]:
    """Everything else, and the faults put in. What failed was begun, so it has its place among these."""
    found = dict(tx.all(_keyed, _sql(sql, asked), asked.params()))
    for key in found.keys() & faults.keys():
        found[key] = found[key]._replace(errors=faults[key].errors, retries=faults[key].retries)
    return found


def _keyed(*, day: str = "", model: str = "", tool: str = "", user: str = "", **sums: int) -> tuple[Key, Sums]:
    return (day, model, tool, user), Sums()._replace(**sums)


def _users(tx: Tx, asked: Range, cells: Mapping[Key, Sums], faults: Mapping[Key, Sums]) -> dict[str, Sums]:
    if asked.user:  # theirs is all there is
        return {asked.user: _added(cells.values())} if cells else {}
    return {user: sums for (_, _, _, user), sums in _sums(tx, asked, _USERS, faults).items()}


def _timed(cells: Mapping[Key, Sums]) -> dict[str, int]:
    days: defaultdict[str, int] = defaultdict(int)
    for (day, _, _, _), sums in cells.items():
        days[day] += sums.timed
    return days


def _part(key: Key, per: Per) -> str:
    day, model, tool, _ = key
    return {"day": day, "month": day[:7], "model": model, "tool": tool}[per]


def _grouped(parts: Iterable[tuple[T, Sums]]) -> dict[T, Sums]:
    groups: defaultdict[T, list[Sums]] = defaultdict(list)
    for key, sums in parts:
        groups[key].append(sums)
    return {key: _added(group) for key, group in groups.items()}


def _added(parts: Collection[Sums]) -> Sums:
    return Sums._make(map(sum, zip(*parts, strict=True))) if parts else Sums()
