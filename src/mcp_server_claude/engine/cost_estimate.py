"""The cost of a call and of its alternatives, estimated before anything is generated."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

from mcp_server_claude import pricing
from mcp_server_claude.frozen_dataclass import frozen_dataclass
from mcp_server_claude.pricing import MILLION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcp_server_claude.anthropic_api.models import ClaudeModel, ModelCatalog
    from mcp_server_claude.anthropic_api.request_body import CacheTtl
    from mcp_server_claude.anthropic_api.web_allowance import WebAllowance
    from mcp_server_claude.pricing import PriceRates

SHORT_ANSWER_TOKENS = 500
"""Output tokens of a short answer, the lower end of a price range."""
CHEAPER_FAMILIES = ("opus", "sonnet", "haiku")
ZERO = Decimal(0)


@frozen_dataclass(kw_only=True)
class CostEstimate:
    """The estimated cost of one way to make a call.

    Args:
        model: The model's id.
        variant: The difference from the call as it is, in words.
        input_tokens: Tokens of the input.
        max_tokens: Most tokens of the output.
        input_usd: Price of the input in US dollars; None if the price is unknown, as below.
        typical_usd: Price with a short answer.
        max_usd: Price with the longest answer, all `searches` with what they and fetched pages bring in, and an input
            that is written to the cache.
        searches: Most web searches.
        estimated: The input was not counted by the API; the estimate is rather too high.
    """

    model: str
    variant: str
    input_tokens: int
    max_tokens: int
    input_usd: float | None = None
    typical_usd: float | None = None
    max_usd: float | None = None
    searches: int = 0
    estimated: bool = False


@frozen_dataclass(kw_only=True)
class CallVariant:
    """One way to make a call, with what decides on its price.

    Args:
        model: The model's id.
        variant: The difference from the call as it is, in words.
        max_tokens: Most tokens of the output.
        batch: It is sent in a batch.
        regional: Inference is confined to a region, at a higher price.
        cache: The time to live of what is written to the prompt cache.
        web: What web tools may do; None without them.
    """

    model: str
    variant: str
    max_tokens: int
    batch: bool = False
    regional: bool = False
    cache: CacheTtl = "off"
    web: WebAllowance | None = None

    def price(self, input_tokens: int) -> CostEstimate:
        """The price of the call with an input of so many tokens, all of which may be written to the cache.

        A single call in a batch writes nothing.
        """
        rates = self._rates(input_tokens)
        if rates is None:
            return self._estimate(input_tokens)
        input_cost = input_tokens * rates.input
        highest_rate = rates.input if self.batch else rates.uncached_input_rate(self.cache)
        return self._estimate(input_tokens, rates, input_cost, input_tokens * highest_rate)

    def price_item(self, input_tokens: int, *, cached_tokens: int, is_first: bool) -> CostEstimate:
        """The price of one of many calls, whose input begins with `cached_tokens` that all have in common.

        The first call writes them to the cache, and the others read them. At most each call writes them.
        """
        rates = self._rates(input_tokens)
        if rates is None:
            return self._estimate(input_tokens)
        written_rate = rates.uncached_input_rate(self.cache)
        own_cost = (input_tokens - cached_tokens) * rates.input
        shared_cost = cached_tokens * (written_rate if is_first else rates.cache_read)
        return self._estimate(input_tokens, rates, own_cost + shared_cost, own_cost + cached_tokens * written_rate)

    def _rates(self, input_tokens: int) -> PriceRates | None:
        return pricing.find_rates(self.model, prompt_tokens=input_tokens, batch=self.batch, regional=self.regional)

    def _estimate(
        self,
        input_tokens: int,
        rates: PriceRates | None = None,
        input_cost: Decimal = ZERO,
        highest_input_cost: Decimal = ZERO,
    ) -> CostEstimate:
        """The estimate; costs are in millionths of a dollar."""
        searches = self.web.uses if self.web is not None else 0
        unpriced = CostEstimate(
            model=self.model,
            variant=self.variant,
            input_tokens=input_tokens,
            max_tokens=self.max_tokens,
            searches=searches,
        )
        if rates is None:
            return unpriced
        web_tokens = self.web.max_billed_tokens(input_tokens) if self.web is not None else 0
        short_cost = min(SHORT_ANSWER_TOKENS, self.max_tokens) * rates.output
        highest_cost = (
            highest_input_cost
            + web_tokens * rates.input
            + self.max_tokens * rates.output
            + searches * rates.web_search * MILLION
        )
        return replace(
            unpriced,
            input_usd=float(input_cost / MILLION),
            typical_usd=float((input_cost + short_cost) / MILLION),
            max_usd=float(highest_cost / MILLION),
        )


def call_variants(
    catalog: ModelCatalog,
    model: ClaudeModel,
    *,
    max_tokens: int,
    cache: CacheTtl,
    regional: bool = False,
    batches: bool = False,
    in_batch: bool = False,
    web: WebAllowance | None = None,
) -> tuple[CallVariant, ...]:
    """The call as it is, in a batch, and on the newest model of each other family.

    With `regional`, inference is confined to a region, at a higher price. With `batches`, a batch can be asked for, and
    is offered too; with `in_batch` it is asked for, so that all are batches. `web` is what web tools may do.
    """
    hour: CacheTtl = "off" if cache == "off" else "1h"

    def variant(candidate: ClaudeModel, name: str, *, batch: bool = in_batch) -> CallVariant:
        return CallVariant(
            model=candidate.id,
            variant=name,
            max_tokens=min(max_tokens, candidate.max_tokens_for()),
            batch=batch,
            regional=regional,
            cache=hour if batch else cache,
            web=web,
        )

    can_batch = batches and model.batch and not in_batch
    variants = [variant(model, "as requested")]
    if can_batch:
        variants.append(variant(model, "batch=true (within 24 h)", batch=True))
    for family in CHEAPER_FAMILIES:
        other = catalog.newest_in_line(family)
        if other is not None and other.id != model.id and (other.batch or not in_batch):
            variants.append(variant(other, f"model={family}"))
    return tuple(variants)


def cheaper_variants(variants: Sequence[CallVariant], input_tokens: int) -> list[CallVariant]:
    """The variants that are worth an offer: the call as it is, in a batch, and on models that cost less."""
    requested = variants[0]
    limit = requested.price(input_tokens).max_usd

    def costs_less(each: CallVariant) -> bool:
        price = each.price(input_tokens).max_usd
        return each.model == requested.model or limit is None or (price is not None and price < limit)

    return [each for each in variants if costs_less(each)]
