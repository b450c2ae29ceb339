"""Sums over requests, as usage reports show them."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Collection

CellKey: TypeAlias = tuple[str, str, str, str]
"""Day, model, tool and user. What is added up is empty."""


class UsageTotals(NamedTuple):
    """Sums over some requests.

    `unpriced` used tokens that `cost_micros` lacks, because the price is unknown. `timed` produced text. A failed
    request is one of `retries` if another request of its call followed, else one of `errors`. `saved_micros` is the
    savings by the cache, 0 in totals that are not by model. This is not `TokenCounts`: the daily rollups have no counts
    of thinking and searches, which would be 0 here and wrong, and thousands of totals are added up as tuples.
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


def sum_totals(parts: Collection[UsageTotals]) -> UsageTotals:
    """Add up totals, field by field."""
    return UsageTotals._make(map(sum, zip(*parts, strict=True))) if parts else UsageTotals()
