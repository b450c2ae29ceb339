"""The price of one prompt over many items: of each item, and of all in each way to ask."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from mcp_server_claude import number_formatting
from mcp_server_claude.frozen_dataclass import frozen_dataclass

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcp_server_claude.engine.cost_estimate import CallVariant, CostEstimate

MAX_DEAREST_ITEMS = 3
MIN_CACHED_TOKENS = 4_096
"""Tokens that every model caches; some cache fewer (platform.claude.com/docs, "Prompt caching", limitations)."""

TABLE_HEADER = (
    "way",
    "model",
    "input tokens",
    "input",
    "short answers",
    "longest answers",
    "an item with a short answer: least / median / most",
)


@frozen_dataclass(kw_only=True)
class ItemEstimate:
    """The estimated cost of one item, in US dollars; None if the price is unknown.

    Args:
        item: Its number, from 0 on.
        name: The file, or the beginning of the text or row.
        input_tokens: Tokens of its prompt.
        input_usd: Price of the prompt.
        typical_usd: Price with a short answer.
        max_usd: Price with the longest answer.
    """

    item: int
    name: str
    input_tokens: int
    input_usd: float | None
    typical_usd: float | None
    max_usd: float | None


@frozen_dataclass(kw_only=True)
class MapEstimate:
    """The estimated cost of all items in one way.

    Args:
        variant: The difference from the job as it is, in words.
        model: The model's id.
        input_tokens: Tokens of all prompts together.
        input_usd: Price of the prompts in US dollars; None if the price is unknown, as below.
        typical_usd: Price with short answers.
        max_usd: Price with the longest answers.
        item_usd: The cheapest, the median and the dearest item, each with a short answer; empty without a price.
    """

    variant: str
    model: str
    input_tokens: int
    input_usd: float | None
    typical_usd: float | None
    max_usd: float | None
    item_usd: tuple[float, ...] = ()

    def as_row(self) -> tuple[str, ...]:
        """The cells of a table for people; see `MapEstimates.table`."""
        return (
            self.variant,
            self.model,
            number_formatting.format_tokens(self.input_tokens),
            *map(number_formatting.format_usd, (self.input_usd, self.typical_usd, self.max_usd)),
            " / ".join(map(number_formatting.format_usd, self.item_usd)) or "$?",
        )


@frozen_dataclass(kw_only=True)
class MapEstimates:
    """The estimated cost of a job.

    Args:
        variants: All items together, as requested and in other ways.
        items: Each item, as requested, in their order.
        counted: Items whose tokens the API has counted; those of the others follow from their length.
        shared_tokens: Tokens at the beginning of every prompt that are written to the prompt cache once.
    """

    variants: Sequence[MapEstimate]
    items: Sequence[ItemEstimate]
    counted: int
    shared_tokens: int = 0

    def table(self) -> list[tuple[str, ...]]:
        """The header and the rows of a table for people."""
        return [TABLE_HEADER, *(each.as_row() for each in self.variants)]

    @property
    def dearest_items(self) -> list[ItemEstimate]:
        """The items that cost most, the dearest first."""
        return sorted(self.items, key=lambda each: (-each.input_tokens, each.item))[:MAX_DEAREST_ITEMS]

    def notes(self) -> list[str]:
        """The sentences below the table for people."""
        count = len(self.items)
        how = "each counted" if self.counted == count else f"{self.counted:,} counted, the others by their length"
        notes = [f"{number_formatting.format_count(count, 'item')}, {how}. Nothing was generated."]
        if self.shared_tokens:
            shared = number_formatting.format_tokens(self.shared_tokens)
            notes.append(f"All begin with the same {shared} tokens, which are written to the prompt cache once.")
        if count > 1:
            dearest = ", ".join(
                f"item {each.item} ({each.name}) {number_formatting.format_usd(each.typical_usd)}"
                for each in self.dearest_items
            )
            notes.append(f"The most expensive: {dearest}.")
        return notes

    def as_json(self, max_items: int | None = None) -> dict[str, object]:
        """The fields for a program, with at most so many of the items."""
        return {
            "count": len(self.items),
            "counted": self.counted,
            "shared_tokens": self.shared_tokens,
            "variants": [asdict(each) for each in self.variants],
            "most_expensive": [asdict(each) for each in self.dearest_items],
            "items": [asdict(each) for each in self.items[:max_items]],
        }


def price_items(
    variants: Sequence[CallVariant], names: Sequence[str], tokens: Sequence[int], *, counted: int, shared_tokens: int
) -> MapEstimates:
    """The prices of items by the tokens of their prompts, which begin with `shared_tokens` that all have in common."""
    cached = shared_tokens if shared_tokens >= MIN_CACHED_TOKENS and len(tokens) > 1 else 0
    in_each_way = [(each, _price_each(each, tokens, cached)) for each in variants]
    limit = _total([each.max_usd for each in in_each_way[0][1]])
    offers: list[MapEstimate] = []
    for variant, prices in in_each_way:
        estimate = _add_up(variant, prices)
        dearer = limit is not None and (estimate.max_usd is None or estimate.max_usd >= limit)
        if variant.model == variants[0].model or not dearer:
            offers.append(estimate)
    requested = in_each_way[0][1]
    items = [
        ItemEstimate(
            item=number,
            name=name,
            input_tokens=price.input_tokens,
            input_usd=price.input_usd,
            typical_usd=price.typical_usd,
            max_usd=price.max_usd,
        )
        for number, (name, price) in enumerate(zip(names, requested, strict=True))
    ]
    caches = cached if variants[0].cache != "off" else 0
    return MapEstimates(variants=offers, items=items, counted=counted, shared_tokens=caches)


def _price_each(variant: CallVariant, tokens: Sequence[int], cached: int) -> list[CostEstimate]:
    cached = 0 if variant.cache == "off" else cached
    return [
        variant.price_item(max(each, cached), cached_tokens=cached, is_first=number == 0)
        for number, each in enumerate(tokens)
    ]


def _add_up(variant: CallVariant, prices: Sequence[CostEstimate]) -> MapEstimate:
    each_usd = sorted(price.typical_usd for price in prices if price.typical_usd is not None)
    return MapEstimate(
        variant=variant.variant,
        model=variant.model,
        input_tokens=sum(each.input_tokens for each in prices),
        input_usd=_total([each.input_usd for each in prices]),
        typical_usd=_total([each.typical_usd for each in prices]),
        max_usd=_total([each.max_usd for each in prices]),
        item_usd=(each_usd[0], each_usd[len(each_usd) // 2], each_usd[-1]) if each_usd else (),
    )


def _total(amounts: Sequence[float | None]) -> float | None:
    """The sum of some amounts; None if one is unknown."""
    known = [amount for amount in amounts if amount is not None]
    return sum(known) if len(known) == len(amounts) else None
