"""The cost of a call and of its alternatives, estimated before anything is generated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mcp_server_claude import pricing
from mcp_server_claude.pricing import MILLION

if TYPE_CHECKING:
    from mcp_server_claude.anthropic_api.models import ClaudeModel, ModelCatalog
    from mcp_server_claude.anthropic_api.request_body import CacheTtl
    from mcp_server_claude.anthropic_api.web_allowance import WebAllowance

SHORT_ANSWER_TOKENS = 500
"""Output tokens of a short answer, the lower end of a price range."""
CHEAPER_FAMILIES = ("opus", "sonnet", "haiku")


@dataclass(frozen=True, slots=True, kw_only=True)
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


def cost_estimates(
    catalog: ModelCatalog,
    model: ClaudeModel,
    *,
    input_tokens: int,
    max_tokens: int,
    cache: CacheTtl,
    regional: bool = False,
    batches: bool = False,
    in_batch: bool = False,
    web: WebAllowance | None = None,
) -> tuple[CostEstimate, ...]:
    """Estimates for the call as it is, and on the newest model of each cheaper family.

    With `regional`, inference is confined to a region, at a higher price. With `batches`, a batch can be asked for, and
    is offered too; with `in_batch` it is asked for, so that all are quoted as batches. `web` is what web tools may do.
    """
    searches = web.uses if web is not None else 0
    web_tokens = web.max_billed_tokens(input_tokens) if web is not None else 0

    def quote(candidate: ClaudeModel, variant: str, *, batch: bool = in_batch) -> CostEstimate:
        longest_tokens = min(max_tokens, candidate.max_tokens_for())
        rates = pricing.find_rates(candidate.id, prompt_tokens=input_tokens, batch=batch, regional=regional)
        if rates is None:
            return CostEstimate(
                model=candidate.id,
                variant=variant,
                input_tokens=input_tokens,
                max_tokens=longest_tokens,
                searches=searches,
            )
        input_cost, short_cost = input_tokens * rates.input, min(SHORT_ANSWER_TOKENS, longest_tokens) * rates.output
        highest_cost = (
            input_tokens * rates.uncached_input_rate(cache)
            + web_tokens * rates.input
            + longest_tokens * rates.output
            + searches * rates.web_search * MILLION
        )
        return CostEstimate(
            model=candidate.id,
            variant=variant,
            input_tokens=input_tokens,
            max_tokens=longest_tokens,
            input_usd=float(input_cost / MILLION),
            typical_usd=float((input_cost + short_cost) / MILLION),
            max_usd=float(highest_cost / MILLION),
            searches=searches,
        )

    as_requested = quote(model, "as requested")
    can_batch = batches and model.batch and not in_batch
    alternatives = [quote(model, "batch=true (within 24 h)", batch=True)] if can_batch else []
    for family in CHEAPER_FAMILIES:
        cheaper = catalog.newest_in_line(family)
        if cheaper is not None and cheaper.id != model.id and (cheaper.batch or not in_batch):
            offer = quote(cheaper, f"model={family}")
            if as_requested.max_usd is None or (offer.max_usd is not None and offer.max_usd < as_requested.max_usd):
                alternatives.append(offer)
    return as_requested, *alternatives
