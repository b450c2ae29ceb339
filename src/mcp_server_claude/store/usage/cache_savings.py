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
from mcp_server_claude.store.usage.days_with_requests import DAYS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp_server_claude.pricing import Rates
    from mcp_server_claude.store.transaction import Tx
    from mcp_server_claude.store.usage.usage_report import Key, Range, Sums

_LONG = """{days}
select entry.day, tool, cast(sum(cache_read_input_tokens) as bigint) as read,
       cast(sum(cache_creation_input_tokens) as bigint) as written
from present join entry on entry.day = present.day and entry.model = :priced
where input_tokens + cache_read_input_tokens + cache_creation_input_tokens > :start{only}
group by entry.day, tool
"""


class Gain(NamedTuple):
    """What a token that was read saves, and what a token that was written costs more, in micro-dollars."""

    read: Decimal = Decimal(0)
    written: Decimal = Decimal(0)

    def of(self, read: int, written: int) -> Decimal:
        """What so many tokens saved in all; negative where they were written in vain."""
        return read * self.read - written * self.written

    def beyond(self, other: Gain) -> Gain:
        """By how much this is more than another."""
        return Gain(self.read - other.read, self.written - other.written)


def saved(tx: Tx, asked: Range, cells: Mapping[Key, Sums], *, for_an_hour: bool) -> dict[Key, Decimal]:
    """What the cache saved in micro-dollars, by cell; nothing where the price is unknown.

    Where long prompts have other prices, the difference is added for what such prompts read and wrote.
    """
    total: defaultdict[Key, Decimal] = defaultdict(Decimal)
    longer: defaultdict[tuple[str, int], dict[str, Gain]] = defaultdict(dict)
    for key, sums in cells.items():
        day, model, _, _ = key
        before = Gain()
        for start, rates in pricing.tiers(model, at=datetime.fromisoformat(day).replace(tzinfo=UTC)):
            gain = _gain(rates, for_an_hour=for_an_hour)
            if start < 0:
                total[key] += gain.of(sums.cache_read_input_tokens, sums.cache_creation_input_tokens)
            else:
                longer[model, start][day] = gain.beyond(before)
            before = gain
    for (model, start), gains in longer.items():
        params = {**asked.params(), "priced": model, "start": start}
        for day, tool, read, written in tx.all(_row, _LONG.format(days=DAYS, only=asked.only), params):
            if day in gains:
                total[day, model, tool, ""] += gains[day].of(read, written)
    return dict(total)


def _gain(rates: Rates, *, for_an_hour: bool) -> Gain:
    write = rates.cache_write_1h if for_an_hour else rates.cache_write
    return Gain(rates.input - rates.cache_read, write - rates.input)


def _row(day: str, tool: str, read: int, written: int) -> tuple[str, str, int, int]:
    return day, tool, read, written
