"""What the prompt cache saved: cached tokens at the difference to plain input, less what writing them cost more.

At the list prices of the day on which a request was made. The ledger does not say how much of a request was written
for an hour, so all is taken as written for as long as the caller says.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from mcp_server_claude import pricing
from mcp_server_claude.store.usage.days_with_requests import DAYS_CTE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp_server_claude.pricing import PriceRates
    from mcp_server_claude.store.transaction import Transaction
    from mcp_server_claude.store.usage.usage_report import CellKey, UsageQuery, UsageTotals

_LONG_PROMPTS = """{days}
select entry.day, tool, cast(sum(cache_read_input_tokens) as bigint) as read,
       cast(sum(cache_creation_input_tokens) as bigint) as written
from present join entry on entry.day = present.day and entry.model = :priced
where input_tokens + cache_read_input_tokens + cache_creation_input_tokens > :start{only}
group by entry.day, tool
"""


class TokenSavings(NamedTuple):
    """What a token that was read saves, and what a token that was written costs more, in micro-dollars."""

    read: Decimal = Decimal(0)
    written: Decimal = Decimal(0)

    def total_for(self, read: int, written: int) -> Decimal:
        """What so many tokens saved in all; negative where they were written in vain."""
        return read * self.read - written * self.written

    def minus(self, other: TokenSavings) -> TokenSavings:
        """By how much this is more than another."""
        return TokenSavings(self.read - other.read, self.written - other.written)


def savings_by_cell(
    tx: Transaction, query: UsageQuery, cells: Mapping[CellKey, UsageTotals], *, for_an_hour: bool
) -> dict[CellKey, Decimal]:
    """What the cache saved in micro-dollars, by cell; nothing where the price is unknown.

    Where long prompts have other prices, the difference is added for what such prompts read and wrote.
    """
    total: defaultdict[CellKey, Decimal] = defaultdict(Decimal)
    longer: defaultdict[tuple[str, int], dict[str, TokenSavings]] = defaultdict(dict)
    for key, sums in cells.items():
        day, model, _, _ = key
        before = TokenSavings()
        for start, rates in pricing.price_tiers(model, at=datetime.fromisoformat(day).replace(tzinfo=UTC)):
            gain = _savings_per_token(rates, for_an_hour=for_an_hour)
            if start < 0:
                total[key] += gain.total_for(sums.cache_read_input_tokens, sums.cache_creation_input_tokens)
            else:
                longer[model, start][day] = gain.minus(before)
            before = gain
    for (model, start), gains in longer.items():
        params = {**query.sql_params(), "priced": model, "start": start}
        for day, tool, read, written in tx.fetch_all(
            _long_prompt_row, _LONG_PROMPTS.format(days=DAYS_CTE, only=query.filter_sql), params
        ):
            if day in gains:
                total[day, model, tool, ""] += gains[day].total_for(read, written)
    return dict(total)


def _savings_per_token(rates: PriceRates, *, for_an_hour: bool) -> TokenSavings:
    write = rates.cache_write_1h if for_an_hour else rates.cache_write
    return TokenSavings(rates.input - rates.cache_read, write - rates.input)


def _long_prompt_row(day: str, tool: str, read: int, written: int) -> tuple[str, str, int, int]:
    return day, tool, read, written
