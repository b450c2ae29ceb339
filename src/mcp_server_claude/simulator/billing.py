"""The bill of the simulated API, computed from its own log by the documented rules (no price of the product is used).

Prices are US dollars per million tokens (platform.claude.com/docs/en/about-claude/pricing, read in copies of August to
November 2026). A cache write costs 1.25 times the input (5 minutes) or twice (1 hour); inference in the United States
costs 1.1 times everything, an item of a batch half. A refusal before any output is free unless its category is billed
(release notes of 2026-09-24). Each sampling iteration costs the price of its own model. Assumed: a stream that breaks
off is billed for what it has sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from mcp_server_claude.simulator.sampling_iterations import SamplingIteration
from mcp_server_claude.simulator.token_counting import InputUsage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mcp_server_claude.simulator.request_log import LoggedRequest

MILLION = Decimal(1_000_000)
WEB_SEARCH_USD = Decimal("0.01")
US_INFERENCE_FACTOR = Decimal("1.1")
BATCH_FACTOR = Decimal("0.5")
BILLED_REFUSALS = frozenset({"bio", "frontier_llm", "reasoning_extraction"})
FAST_FACTOR = 2
"""Fast mode costs twice the standard price of every token ("Fast mode", as documented by November 2026)."""
HAIKU_STEP_TOKENS = 100_000
HAIKU_STEP_FACTOR = 5
"""Above 100,000 tokens of prompt, every price of Haiku 5.5 is five times as high."""

INPUT_OUTPUT_CACHE_READ_USD: dict[str, tuple[str, str, str]] = {
    "claude-fable-5-2": ("8", "40", "0.20"),
    "claude-mythos-5-2": ("8", "40", "0.20"),
    "claude-fable-5-1": ("10", "50", "0.25"),
    "claude-mythos-5-1": ("10", "50", "0.25"),
    "claude-opus-5-5": ("4", "20", "0.20"),
    "claude-sonnet-5-5": ("2", "10", "0.10"),
    "claude-haiku-5-5": ("0.10", "0.50", "0.01"),
    "claude-opus-5": ("5", "25", "0.50"),
    "claude-sonnet-5": ("2", "10", "0.20"),
    "claude-opus-4-8": ("5", "25", "0.50"),
    "claude-opus-4-7": ("5", "25", "0.50"),
    "claude-opus-4-6": ("5", "25", "0.50"),
    "claude-sonnet-4-6": ("3", "15", "0.30"),
    "claude-opus-4-5-20251101": ("5", "25", "0.50"),
    "claude-haiku-4-5-20251001": ("1", "5", "0.10"),
    "claude-sonnet-4-5-20250929": ("3", "15", "0.30"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BilledRequest:
    """One request, or one item of a batch, and its price in US dollars; None for a model without a published price."""

    request_id: str
    model: str
    usd: Decimal | None
    batch_id: str | None = None
    custom_id: str | None = None


def bill_requests(requests: Iterable[LoggedRequest]) -> list[BilledRequest]:
    """The bill of every message request that has begun to be answered, in order of arrival."""
    return [
        BilledRequest(
            request_id=request.request_id,
            model=request.model,
            usd=_request_usd(request),
            batch_id=request.batch_id,
            custom_id=request.custom_id,
        )
        for request in requests
        if (request.path == "/v1/messages" or request.batch_id is not None) and request.status == 200 and request.model
    ]


def _request_usd(request: LoggedRequest) -> Decimal | None:
    iterations = request.iterations or (_whole_request(request),)
    total = Decimal(0)
    for iteration in iterations:
        usd = _iteration_usd(iteration, has_searched=request.web_searches > 0)
        if usd is None:
            return None
        total += usd
    if request.speed == "fast":
        total *= FAST_FACTOR
    if request.inference_geo == "us":
        total *= US_INFERENCE_FACTOR
    if request.batch_id is not None:
        total *= BATCH_FACTOR
    return total + request.web_searches * WEB_SEARCH_USD


def _whole_request(request: LoggedRequest) -> SamplingIteration:
    """A request whose iterations are all of one model, as one."""
    written_1h = request.cache_creation_1h_input_tokens
    return SamplingIteration(
        kind="message",
        model=request.model,
        input_usage=InputUsage(
            uncached=request.input_tokens,
            cache_read=request.cache_read_input_tokens,
            cache_write_5m=request.cache_creation_input_tokens - written_1h,
            cache_write_1h=written_1h,
        ),
        output_tokens=request.output_tokens,
        declined=request.stop_reason == "refusal",
        declined_category=request.refusal_category,
    )


def _iteration_usd(iteration: SamplingIteration, *, has_searched: bool) -> Decimal | None:
    if iteration.model not in INPUT_OUTPUT_CACHE_READ_USD:
        return None
    is_empty = not iteration.output_tokens and not has_searched
    if iteration.declined and is_empty and iteration.declined_category not in BILLED_REFUSALS:
        return Decimal(0)
    per_input, per_output, per_read = map(Decimal, INPUT_OUTPUT_CACHE_READ_USD[iteration.model])
    used = iteration.input_usage
    usd = (
        used.uncached * per_input
        + used.cache_write_5m * per_input * Decimal("1.25")
        + used.cache_write_1h * per_input * 2
        + used.cache_read * per_read
        + iteration.output_tokens * per_output
    ) / MILLION
    is_above_step = iteration.model == "claude-haiku-5-5" and used.total > HAIKU_STEP_TOKENS
    return usd * HAIKU_STEP_FACTOR if is_above_step else usd
