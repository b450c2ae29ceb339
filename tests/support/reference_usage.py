"""The usage page's numbers, computed independently by plain SQL over the ledger: a simple statement for each, no index
in mind."""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from mcp_server_claude import pricing

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from pathlib import Path

TOTAL_COLUMNS = {
    "requests": "count(*)",
    "calls": "coalesce(sum(attempt = 1), 0)",
    "inputTokens": "coalesce(sum(input_tokens), 0)",
    "outputTokens": "coalesce(sum(output_tokens), 0)",
    "cacheCreationTokens": "coalesce(sum(cache_creation_input_tokens), 0)",
    "cacheReadTokens": "coalesce(sum(cache_read_input_tokens), 0)",
    "totalTokens": "coalesce(sum(input_tokens + output_tokens + cache_creation_input_tokens "
    "+ cache_read_input_tokens), 0)",
    "totalCost": "coalesce(sum(cost_micros), 0) / 1000000.0",
    "unpriced": "coalesce(sum(state = 'closed' and cost_micros is null and input_tokens + output_tokens "
    "+ cache_creation_input_tokens + cache_read_input_tokens > 0), 0)",
    "errors": """coalesce(sum("end" in ('failed', 'interrupted') and not exists (
        select 1 from entry later where later.call_id = entry.call_id and later.attempt > entry.attempt)), 0)""",
    "retries": """coalesce(sum("end" in ('failed', 'interrupted') and exists (
        select 1 from entry later where later.call_id = entry.call_id and later.attempt > entry.attempt)), 0)""",
}


@dataclass(frozen=True)
class ReferenceUsage:
    """A ledger to be asked. A question is by columns: `day`, `month`, `user`, `model`, `tool`, `since`, `until`."""

    connection: sqlite3.Connection

    @classmethod
    @contextmanager
    def open_ledger(cls, data_dir: Path) -> Generator[ReferenceUsage]:
        with closing(sqlite3.connect(data_dir / "store.db")) as connection:
            yield cls(connection)

    def totals(self, **about: str) -> dict[str, Any]:
        where, values = _condition(about)
        sql = f"select {', '.join(TOTAL_COLUMNS.values())} from entry where {where}"  # noqa: S608 - the text above
        return dict(zip(TOTAL_COLUMNS, self.connection.execute(sql, values).fetchone(), strict=True))

    def cache_savings(self, **about: str) -> float:
        """What the cache saved in dollars, request by request at each one's own prices."""
        where, values = _condition(about)
        sql = "select model, started_at, input_tokens, cache_read_input_tokens, cache_creation_input_tokens from entry"
        total = Decimal(0)
        for model, at, fresh, read, written in self.connection.execute(f"{sql} where {where}", values):
            day = datetime.fromtimestamp(at, UTC)
            rates = pricing.find_rates(model, prompt_tokens=fresh + read + written, at=day)
            if rates is not None:
                total += read * (rates.input - rates.cache_read) - written * (rates.cache_write - rates.input)
        return round(total) / 1_000_000

    def latency_percentiles(self, **about: str) -> dict[str, float | None]:
        """Nearest-rank percentiles of the time to the first text, in seconds."""
        where, values = _condition(about)
        sql = f"select ttft_ms from entry where {where} and ttft_ms is not null order by ttft_ms"  # noqa: S608 - as above
        times: list[float] = [ms for (ms,) in self.connection.execute(sql, values)]
        ranks = {f"p{p}": -(-len(times) * p // 100) - 1 for p in (50, 90, 99)}
        return {name: times[rank] / 1000 if times else None for name, rank in ranks.items()}

    def values_by_cost(self, column: str, **about: str) -> list[str]:
        """The values of a column, the dearest first."""
        where, values = _condition(about)
        dearest = "coalesce(sum(cost_micros), 0) desc"
        sql = f'select "{column}" from entry where {where} group by 1 order by {dearest}, 1'  # noqa: S608 - as above
        return [name for (name,) in self.connection.execute(sql, values)]


def _condition(about: Mapping[str, str]) -> tuple[str, dict[str, str | float]]:
    """The condition in terms of the moment at which a request was begun, and not of the column `day`."""
    terms, values = ["1 = 1"], dict[str, str | float]()
    for name, value in about.items():
        if name in {"day", "month", "since", "until"} and value:
            first, after = _time_range(value)
            terms += [f"started_at >= {first}"] * (name != "until") + [f"started_at < {after}"] * (name != "since")
        elif value:
            terms.append(f'"{name}" = :{name}')
            values[name] = value
    return " and ".join(terms), values


def _time_range(part: str) -> tuple[float, float]:
    """When a day (2026-11-20) or month (2026-11) begins, and when it is over, in unix seconds."""
    first = date.fromisoformat(part if len(part) > 7 else f"{part}-01")
    after = first + timedelta(days=1) if len(part) > 7 else (first + timedelta(days=32)).replace(day=1)
    begins, ends = (datetime.combine(each, time(), UTC).timestamp() for each in (first, after))
    return begins, ends
