"""Savings by the prompt cache: cached tokens at their difference to plain input, less the extra cost of writing them.

List prices of the day of each request are used. The ledger does not record how much of a request was cached for an hour
instead of five minutes, so the caller says which of the two holds for all.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from mcp_server_claude import pricing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp_server_claude.pricing import PriceRates
    from mcp_server_claude.store.transaction import Transaction
    from mcp_server_claude.store.usage.usage_query import UsageQuery
    from mcp_server_claude.store.usage.usage_totals import CellKey, UsageTotals

INDEXED_PROMPT_TOKENS = 100_000
"""The index `entry_long_prompt` has the requests with more prompt tokens than this."""

_PROMPT_TOKENS = "input_tokens + cache_read_input_tokens + cache_creation_input_tokens"
_LONG_PROMPTS = """
select day, tool, cast(sum(cache_read_input_tokens) as bigint) as read,
       cast(sum(cache_creation_input_tokens) as bigint) as written
from entry where {where} and model = :priced and {prompt_tokens} > :start{indexed}
group by day, tool
"""


class TokenSavings(NamedTuple):
    """Savings by a token read from the cache, and extra cost of one written to it, in micro-dollars."""

    read: Decimal = Decimal(0)
    written: Decimal = Decimal(0)

    def total_for(self, read: int, written: int) -> Decimal:
        """Return the savings of so many tokens. Negative if the writing cost more."""
        return read * self.read - written * self.written

    def minus(self, other: TokenSavings) -> TokenSavings:
        """Return the difference to another value."""
        return TokenSavings(self.read - other.read, self.written - other.written)


def savings_by_cell(
    tx: Transaction, query: UsageQuery, cells: Mapping[CellKey, UsageTotals], *, for_an_hour: bool
) -> dict[CellKey, Decimal]:
    """Return the savings in micro-dollars by cell, without cells whose price is unknown.

    If long prompts have other prices, the difference is added for the tokens of such prompts.
    """
    total: defaultdict[CellKey, Decimal] = defaultdict(Decimal)
    longer: defaultdict[tuple[str, int], dict[str, TokenSavings]] = defaultdict(dict)
    for key, sums in cells.items():
        day, model, _, _ = key
        lower_tier = TokenSavings()
        for start, rates in pricing.price_tiers(model, at=datetime.fromisoformat(day).replace(tzinfo=UTC)):
            savings = _savings_per_token(rates, for_an_hour=for_an_hour)
            if start < 0:
                total[key] += savings.total_for(sums.cache_read_input_tokens, sums.cache_creation_input_tokens)
            else:
                longer[model, start][day] = savings.minus(lower_tier)
            lower_tier = savings
    for (model, start), by_day in longer.items():
        for day, tool, read, written in _long_prompts(tx, query, model, start):
            if day in by_day:
                total[day, model, tool, ""] += by_day[day].total_for(read, written)
    return dict(total)


def _long_prompts(tx: Transaction, query: UsageQuery, model: str, start: int) -> list[tuple[str, str, int, int]]:
    # The condition on a constant lets the database use the partial index.
    indexed = f" and {_PROMPT_TOKENS} > {INDEXED_PROMPT_TOKENS}" if start >= INDEXED_PROMPT_TOKENS else ""
    sql = _LONG_PROMPTS.format(where=query.entry_where_sql, prompt_tokens=_PROMPT_TOKENS, indexed=indexed)
    return tx.fetch_all(_long_prompt_row, sql, {**query.sql_params(), "priced": model, "start": start})


def _savings_per_token(rates: PriceRates, *, for_an_hour: bool) -> TokenSavings:
    write = rates.cache_write_1h if for_an_hour else rates.cache_write
    return TokenSavings(rates.input - rates.cache_read, write - rates.input)


def _long_prompt_row(day: str, tool: str, read: int, written: int) -> tuple[str, str, int, int]:
    return day, tool, read, written
