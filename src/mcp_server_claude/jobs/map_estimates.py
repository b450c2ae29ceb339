"""The price of one prompt over many items, estimated from some of them before anything is generated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mcp_server_claude import number_formatting

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcp_server_claude.engine.cost_estimate import CostEstimate

MAX_SAMPLES = 8
"""Items of which the tokens are counted by the API."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MapEstimate:
    """The estimated cost of all items in one way.

    Args:
        variant: The difference from the job as it is, in words.
        model: The model's id.
        items: The number of items.
        input_tokens: Tokens of all prompts together.
        input_usd: Price of the prompts in US dollars; None if the price is unknown, as below.
        typical_usd: Price with short answers.
        max_usd: Price with the longest answers.
    """

    variant: str
    model: str
    items: int
    input_tokens: int
    input_usd: float | None
    typical_usd: float | None
    max_usd: float | None

    def as_row(self) -> tuple[str, ...]:
        """The columns of a table for people: way, model, input tokens, input, short answers, longest answers."""
        return (
            self.variant,
            self.model,
            f"about {number_formatting.format_tokens(self.input_tokens)}",
            *map(number_formatting.format_usd, (self.input_usd, self.typical_usd, self.max_usd)),
        )


def extrapolate(
    samples: Sequence[Sequence[CostEstimate]], sample_chars: int, *, items: int, chars: int
) -> list[MapEstimate]:
    """Estimates for all items from those of some. Input grows with the characters, output with the items."""
    by_chars = chars / sample_chars if sample_chars else items / len(samples)
    by_items = items / len(samples)
    estimates: list[MapEstimate] = []
    for first in samples[0]:
        same = [
            each for sample in samples for each in sample if (each.variant, each.model) == (first.variant, first.model)
        ]
        if len(same) < len(samples):
            continue
        read = _scaled([each.input_usd for each in same], by_chars)
        short = _scaled([_difference(each.typical_usd, each.input_usd) for each in same], by_items)
        longest = _scaled([_difference(each.max_usd, each.input_usd) for each in same], by_items)
        estimates.append(
            MapEstimate(
                variant=first.variant,
                model=first.model,
                items=items,
                input_tokens=round(sum(each.input_tokens for each in same) * by_chars),
                input_usd=read,
                typical_usd=_scaled([read, short], 1),
                max_usd=_scaled([read, longest], 1),
            )
        )
    return estimates


def _scaled(amounts: Sequence[float | None], factor: float) -> float | None:
    """The sum of some amounts times a factor; None if one is unknown."""
    known = [amount for amount in amounts if amount is not None]
    return sum(known) * factor if len(known) == len(amounts) else None


def _difference(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other
