"""The range of days and the filters of a usage report."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from typing import TYPE_CHECKING

from mcp_server_claude.frozen_dataclass import frozen_dataclass

if TYPE_CHECKING:
    from mcp_server_claude.store.transaction import SqlParams


@frozen_dataclass(kw_only=True)
class UsageQuery:
    """Requests that were started on the UTC days from `since` to `until`, both included. A filter of None is unset.

    The daily rollups do not know jobs, so a report on a `job` reads its requests.
    """

    since: date
    until: date
    user: str | None = None
    model: str | None = None
    tool: str | None = None
    job: str | None = None

    @property
    def days(self) -> list[date]:
        """Every day of the range."""
        return [self.since + timedelta(days=n) for n in range((self.until - self.since).days + 1)]

    def preceding(self) -> UsageQuery:
        """Return the range of as many days just before this one."""
        return replace(self, since=self.since - timedelta(days=len(self.days)), until=self.since - timedelta(days=1))

    def sql_params(self) -> SqlParams:
        """Return the parameters of a statement with a condition of this query."""
        filters = {"user": self.user, "model": self.model, "tool": self.tool}
        return {"since": self.since.isoformat(), "until": self.until.isoformat(), "job": self.job, **filters}

    @property
    def rollup_where_sql(self) -> str:
        """The condition on rows of the daily rollups, as SQL. `sql_params` has its values."""
        return "day >= :since and day <= :until" + "".join(f' and "{name}" = :{name}' for name in self._filter_names)

    @property
    def entry_where_sql(self) -> str:
        """The condition on requests, as SQL. `sql_params` has its values."""
        return f"day >= :since and day <= :until{self.entry_filter_sql}"

    @property
    def entry_filter_sql(self) -> str:
        """The filters on requests that are set, as SQL. `coalesce` keeps the database from using an index on users."""
        filters = "".join(f' and "{name}" = coalesce(:{name}, "{name}")' for name in self._filter_names)
        return f"{filters} and job_id = :job" if self.job else filters

    @property
    def _filter_names(self) -> list[str]:
        filters = {"user": self.user, "model": self.model, "tool": self.tool}
        return [name for name, value in filters.items() if value]
