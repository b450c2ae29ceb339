"""The cost of a request to Claude in US dollars, from the list prices that `genai-prices` carries. No table of our own.

The library is imported at the first call (0.3 s, so on a thread), and each model's prices are looked up once a day.
Only its rows of Claude's models stay in memory.
The arithmetic is ours because the library's takes 90 µs and status lines ask often; a test holds both equal for every
model of the library. Inference that is confined to a region costs a tenth more, by a rule of the price page. Not
priced: code-execution hours, negotiated discounts.
"""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING, Literal, TypeAlias

from mcp_server_claude.frozen_dataclass import frozen_dataclass

if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot
    from genai_prices.types import ModelInfo, ModelPrice

    from mcp_server_claude.call_types import Usage

PricingMode: TypeAlias = Literal["", "batch", "fast"]
Usd: TypeAlias = Decimal

MILLION = Decimal(1_000_000)
WEB_SEARCH_USD = Decimal("0.01")
"""One web search where the library gives a model no price for it: $10 per 1,000 on every model
(platform.claude.com/docs, "Pricing", tool pricing, read 2026-11)."""

REGIONAL_FACTOR = Decimal("1.1")
"""Tokens cost a tenth more where inference is confined to a region: `inference_geo: "us"` on models since Opus 4.6, and
the regional and multi-region endpoints of Google Cloud (platform.claude.com/docs, "Pricing" and "Data residency", the
latter looked up 2026-11-29). Web searches do not. Bedrock's regional ids have prices of their own in the library."""
PRICED_LIKE = (("mythos", "fable"),)
"""Families without rows in the library, and the family that stands in the same row of the price page."""

PRICE_CONTEXT: dict[PricingMode, dict[str, str]] = {"": {}, "batch": {"processing": "batch"}, "fast": {"speed": "fast"}}
"""The library's words for how a request was processed (its `PriceContext`)."""

_library_lock = Lock()
PROVIDERS = ("anthropic", "aws", "google")
"""The library's providers that sell Claude under names of their own."""
BEDROCK_PREFIX = re.compile(r"^(?:[a-z]+(?:-[a-z]+)?\.)?anthropic\.")
"""What Bedrock puts before a model's id: `anthropic.`, `us.anthropic.`, `global.anthropic.`."""
SNAPSHOT_SUFFIX = re.compile(r"(?:-0|[-@](?:\d{8}|latest|default))?(?:-v\d+(?::\d+)?)?$")
"""What names a snapshot and not another model: `-20251101`, `@20251101` (Vertex), `-v1:0` (Bedrock), `-latest`, and the
`-0` of `claude-opus-4-0`."""


@frozen_dataclass(kw_only=True)
class PriceRates:
    """A model's prices in US dollars per million tokens. `cache_write` is for 5 minutes; `web_search` is for one."""

    input: Usd
    output: Usd
    cache_read: Usd
    cache_write: Usd
    cache_write_1h: Usd
    web_search: Usd = WEB_SEARCH_USD

    def uncached_input_rate(self, cache_ttl: Literal["5m", "1h", "off"]) -> Usd:
        """The rate of input that is not cached yet, written to the cache for this time to live."""
        match cache_ttl:
            case "5m":
                return self.cache_write
            case "1h":
                return self.cache_write_1h
            case "off":
                return self.input

    def in_region(self) -> PriceRates:
        """The prices where inference is confined to a region."""
        tokens = ("input", "output", "cache_read", "cache_write", "cache_write_1h")
        return replace(self, **{name: getattr(self, name) * REGIONAL_FACTOR for name in tokens})


def request_cost(
    model: str,
    usage: Usage,
    *,
    cache_creation_1h_input_tokens: int = 0,
    batch: bool = False,
    fast: bool = False,
    at: datetime | None = None,
) -> Usd | None:
    """The cost of one request in US dollars; None when no price of exactly this model (and mode) is known.

    Give each request's own usage, not a sum: a prompt over 100,000 tokens makes every token of its request dearer on
    some models. Its `speed`, `service_tier` and `inference_geo` count as the API reported them.
    `cache_creation_1h_input_tokens` is the part of `usage.cache_creation_input_tokens` that was written for an hour.
    `at` is when the request was made (default: now; UTC when it has no zone).
    """
    price = find_rates(
        model,
        prompt_tokens=usage.prompt_tokens,
        batch=batch or usage.service_tier == "batch",
        fast=fast or usage.speed == "fast",
        regional=usage.is_regional,
        at=at,
    )
    if price is None:
        return None
    hour = min(cache_creation_1h_input_tokens, usage.cache_creation_input_tokens)
    tokens = (
        usage.input_tokens * price.input
        + usage.cache_read_input_tokens * price.cache_read
        + (usage.cache_creation_input_tokens - hour) * price.cache_write
        + hour * price.cache_write_1h
        + usage.output_tokens * price.output
    )
    return tokens / MILLION + usage.web_searches * price.web_search


def find_rates(
    model: str,
    *,
    prompt_tokens: int = 0,
    batch: bool = False,
    fast: bool = False,
    regional: bool = False,
    at: datetime | None = None,
) -> PriceRates | None:
    """The prices of exactly this model for a prompt of that many tokens (cached ones included), None when unknown."""
    if batch and fast:
        return None  # the API has no such request
    mode: PricingMode = "batch" if batch else "fast" if fast else ""
    tiers = _cached_tiers(model, mode, _utc_day(at))
    found = next((rates for start, rates in reversed(tiers) if prompt_tokens > start), None)
    return found.in_region() if found is not None and regional else found


def price_tiers(model: str, *, at: datetime | None = None) -> tuple[tuple[int, PriceRates], ...]:
    """The prices of exactly this model by length of prompt, ascending: each holds for prompts of more tokens than its
    number, the first for all. Empty when they are unknown.
    """
    return _cached_tiers(model, "", _utc_day(at))


def highest_rates(line: str, *, at: datetime | None = None) -> PriceRates | None:
    """The highest price of each kind among the models of `line` that are or were sold: what a budget reserves for a
    model of that line whose own price is unknown. Of all lines, when `line` has none; None without any price.
    """
    found = _highest_rates_on(line.lower(), _utc_day(at))
    return found if found or not line else _highest_rates_on("", _utc_day(at))


def price_list_version() -> str:
    """Which prices these are. The library's data carry no date of their own, so its version names them."""
    from genai_prices import __version__

    return f"genai-prices {__version__}"


def _utc_day(at: datetime | None) -> date:
    moment = at or datetime.now(UTC)
    return (moment if moment.tzinfo is None else moment.astimezone(UTC)).date()


def _claude_prices() -> DataSnapshot:
    """The library's rows of Claude's models, the same for all threads. One thread at a time may drop a module."""
    with _library_lock:
        return _read_claude_prices()


@lru_cache(maxsize=1)
def _read_claude_prices() -> DataSnapshot:
    """The rows, from the library.

    The library's module of data holds the prices of forty providers, 4 MB. It is dropped, so that the SDK, which is
    imported next, takes its place. A program that asks the library itself makes it import the module again.
    """
    import genai_prices
    from genai_prices.data import providers
    from genai_prices.data_snapshot import DataSnapshot

    claude = [
        replace(each, models=[row for row in each.models if "claude" in row.id], extractors=None)
        for each in providers
        if each.id in PROVIDERS
    ]
    sys.modules.pop("genai_prices.data", None)
    genai_prices.__dict__.pop("data", None)
    return DataSnapshot(providers=claude, from_auto_update=False)


@lru_cache(maxsize=512)
def _cached_tiers(model: str, mode: PricingMode, day: date) -> tuple[tuple[int, PriceRates], ...]:
    """The rates by prompt length, `(more tokens than, rates)` in ascending order; empty when there is no price."""
    row = _find_price_row(model)
    return () if row is None else _tiers_of_row(row, mode, day)


def _find_price_row(model: str) -> ModelInfo | None:
    """The library's row of this very model. The library matches by prefix (`claude-opus-4-51` would cost what
    `claude-opus-4-5` does), so what it finds must have the same name.
    """
    name = model.strip().lower()
    row = _find_row_of_name(name)
    for family, priced_like in PRICED_LIKE:
        if row is None and family in name.split("-"):
            row = _find_row_of_name(name.replace(family, priced_like))
    return row


def _find_row_of_name(name: str) -> ModelInfo | None:
    provider = "aws" if BEDROCK_PREFIX.match(name) else "google" if "@" in name else "anthropic"
    try:
        _, row = _claude_prices().find_provider_model(name, None, provider, None)
    except LookupError:
        return None
    return row if _canonical_name(row.id) == _canonical_name(name) else None


def _canonical_name(name: str) -> str:
    return SNAPSHOT_SUFFIX.sub("", BEDROCK_PREFIX.sub("", name), count=1).replace(".", "-")


def _tiers_of_row(row: ModelInfo, mode: PricingMode, day: date) -> tuple[tuple[int, PriceRates], ...]:
    moment = datetime.combine(day, time(), UTC)
    if mode and not any(
        variant.when == PRICE_CONTEXT[mode] and (variant.constraint is None or variant.constraint.active(moment))
        for variant in row.price_variants or ()
    ):
        return ()  # the library would quietly take the standard price
    prices = row.get_prices(moment, PRICE_CONTEXT[mode])
    if not prices.input_mtok or not prices.output_mtok:
        return ()  # nothing of Anthropic's is free
    return tuple((start, _rates_in_tier(prices, start)) for start in _tier_starts(prices))


def _tier_starts(prices: ModelPrice) -> list[int]:
    from genai_prices.types import TieredPrices

    tiered = [price for price in vars(prices).values() if isinstance(price, TieredPrices)]
    return sorted({-1} | {tier.start for price in tiered for tier in price.tiers})


def _rates_in_tier(prices: ModelPrice, start: int) -> PriceRates:
    """The rates in the tier that begins after `start` tokens (-1: the first)."""
    from genai_prices.types import TieredPrices

    def at(key: str) -> Usd | None:
        price: Decimal | TieredPrices | None = getattr(prices, key, None)
        if not isinstance(price, TieredPrices):
            return price
        return next((tier.price for tier in reversed(price.tiers) if start >= tier.start), price.base)

    def first(*keys: str) -> Usd:
        return next((price for price in map(at, keys) if price is not None), Decimal(0))

    searches = at("web_searches_kcount")
    return PriceRates(
        input=first("input_mtok"),
        output=first("output_mtok"),
        cache_read=first("cache_read_mtok", "input_mtok"),
        cache_write=first("cache_write_5m_mtok", "cache_write_mtok", "input_mtok"),
        cache_write_1h=first("cache_write_1h_mtok", "cache_write_mtok", "input_mtok"),
        web_search=WEB_SEARCH_USD if searches is None else searches / 1000,
    )


@lru_cache(maxsize=32)
def _highest_rates_on(line: str, day: date) -> PriceRates | None:
    rows = next(each.models for each in _claude_prices().providers if each.id == "anthropic")
    found = [
        tiers[-1][1] for row in rows if not line or line in row.id.split("-") if (tiers := _tiers_of_row(row, "", day))
    ]
    if not found:
        return None
    return PriceRates(
        input=max(each.input for each in found),
        output=max(each.output for each in found),
        cache_read=max(each.cache_read for each in found),
        cache_write=max(each.cache_write for each in found),
        cache_write_1h=max(each.cache_write_1h for each in found),
        web_search=max(each.web_search for each in found),
    )
