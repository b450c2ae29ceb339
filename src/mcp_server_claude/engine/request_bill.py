"""The bill of one upstream request: its counts and its cost, shared out where the API asked more than one model.

Where a response has `usage.iterations`, each entry is billed at the price of its own model: the top level counts the
last attempt of a server-side fallback alone, and neither compaction nor an advisor
(https://platform.claude.com/docs/en/build-with-claude/refusals-and-fallback and `anthropic.types.beta`, SDK 2.14, as
documented by November 2026). This package asks for none of these, but a gateway may.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mcp_server_claude import pricing
from mcp_server_claude.anthropic_api.stream_usage import MESSAGE_ATTEMPT
from mcp_server_claude.call_types import THINKING_BLOCK_TYPES, TokenCounts
from mcp_server_claude.frozen_dataclass import frozen_dataclass

if TYPE_CHECKING:
    from decimal import Decimal

    from mcp_server_claude.anthropic_api.message_stream import MessageStream
    from mcp_server_claude.anthropic_api.stream_usage import BilledAttempt
    from mcp_server_claude.call_types import Usage

FREE_REFUSAL_CATEGORIES = frozenset({"", "cyber", "general_harms"})
"""Categories of a refusal that is not billed if it comes before any output. The others are billed since 2026-09-24
(https://platform.claude.com/docs/en/test-and-evaluate/strengthen-guardrails/handle-streaming-refusals, as documented by
November 2026)."""

ESTIMATED_BLOCK_TYPES = frozenset({"text", "tool_use", *THINKING_BLOCK_TYPES})
"""Blocks whose tokens can be estimated from what arrived. Others are the work of server tools: what they searched for
and brought in is counted at the end of the stream."""


@frozen_dataclass(kw_only=True)
class BillShare:
    """The part of one model; `cost` is in US dollars, None if its price is unknown."""

    model: str
    counts: TokenCounts
    cost: Decimal | None


@frozen_dataclass(kw_only=True)
class RequestBill:
    """The bill of one request. `usage` counts everything that is billed, under the model that answered.

    `cost` is in US dollars, None if a price is unknown. `shares` are empty where one model did all. `fallback_from` is
    the requested model where the API let another one answer. `is_lower_bound` says that the API may bill more, for it
    has not counted all that it bills.
    """

    usage: Usage
    cost: Decimal | None
    shares: tuple[BillShare, ...] = ()
    fallback_from: str = ""
    is_lower_bound: bool = False


def request_bill(stream: MessageStream, max_tokens: int | None = None) -> RequestBill:
    """The bill of a request, from its stream. `max_tokens` is that of the request, which bounds an estimate.

    A request that never began costs nothing. Nor does a refusal before any output, unless its category is billed; usage
    shows tokens for it nevertheless.
    """
    usage = _bounded_estimate(stream.usage(), max_tokens)
    return replace(_known_bill(stream, usage), is_lower_bound=_is_lower_bound(stream, usage))


def _bounded_estimate(usage: Usage, max_tokens: int | None) -> Usage:
    """The usage with no more estimated output than the request allowed, and the budgets have reserved."""
    if max_tokens is None or not usage.estimated:
        return usage
    return replace(
        usage,
        output_tokens=min(usage.output_tokens, max_tokens),
        thinking_tokens=min(usage.thinking_tokens, max_tokens),
    )


def _known_bill(stream: MessageStream, usage: Usage) -> RequestBill:
    if not stream.has_started:
        return RequestBill(usage=usage, cost=pricing.Usd(0))
    if stream.has_invalid_usage:
        return RequestBill(usage=usage, cost=None, fallback_from=stream.fallback_from)
    if _has_separate_attempts(stream):
        return _bill_of_attempts(stream, usage)
    cost = pricing.Usd(0) if _is_free_refusal(stream) else _usage_cost(stream, usage)
    return RequestBill(usage=usage, cost=cost, fallback_from=stream.fallback_from)


def _is_lower_bound(stream: MessageStream, usage: Usage) -> bool:
    is_uncounted = stream.has_started and not usage.prompt_tokens
    if stream.has_invalid_usage or is_uncounted:
        return True
    return usage.estimated and (stream.has_uncounted_thinking or not stream.block_types <= ESTIMATED_BLOCK_TYPES)


def _usage_cost(stream: MessageStream, usage: Usage) -> Decimal | None:
    return pricing.request_cost(
        usage.model, usage, cache_creation_1h_input_tokens=stream.cache_creation_1h_input_tokens
    )


def _has_separate_attempts(stream: MessageStream) -> bool:
    """True if an attempt is billed apart from the top level of usage."""
    attempts = stream.attempts
    models = {attempt.model for attempt in attempts if attempt.model}
    return len(models) > 1 or any(attempt.kind != MESSAGE_ATTEMPT for attempt in attempts)


def _bill_of_attempts(stream: MessageStream, usage: Usage) -> RequestBill:
    shares = [_attempt_share(attempt, stream, usage) for attempt in stream.attempts]
    searches = TokenCounts(web_searches=usage.web_searches)
    shares.append(BillShare(model=usage.model, counts=searches, cost=_searches_cost(usage)))
    by_model = tuple(_sum_shares(shares))
    counts, total = TokenCounts(), pricing.Usd(0)
    for share in by_model:
        counts = counts.plus(share.counts)
        total += share.cost or 0
    is_priced = all(share.cost is not None for share in by_model)
    return RequestBill(
        usage=replace(usage, **counts.counts()),
        cost=total if is_priced else None,
        shares=by_model if len(by_model) > 1 else (),
        fallback_from=stream.fallback_from,
    )


def _attempt_share(attempt: BilledAttempt, stream: MessageStream, usage: Usage) -> BillShare:
    # A summary names no model: it is made by the requested one (`BetaCompactionIterationUsage`, SDK 2.14).
    model = attempt.model or stream.fallback_from or usage.model
    declined = stream.declined_categories
    if stream.stop_reason == "refusal":
        declined = {**declined, usage.model: str(stream.stop_details.get("category") or "")}
    if not attempt.counts.output_tokens and declined.get(model, "billed") in FREE_REFUSAL_CATEGORIES:
        return BillShare(model=model, counts=attempt.counts, cost=pricing.Usd(0))
    cost = pricing.request_cost(
        model,
        replace(usage, **attempt.counts.counts()),
        cache_creation_1h_input_tokens=attempt.cache_creation_1h_input_tokens,
    )
    return BillShare(model=model, counts=attempt.counts, cost=cost)


def _searches_cost(usage: Usage) -> Decimal | None:
    only_searches = replace(usage, **TokenCounts(web_searches=usage.web_searches).counts())
    return pricing.request_cost(usage.model, only_searches) if usage.web_searches else pricing.Usd(0)


def _sum_shares(shares: list[BillShare]) -> list[BillShare]:
    """One share for each model, in the order of their first attempts."""
    by_model: dict[str, BillShare] = {}
    for share in shares:
        known = by_model.get(share.model)
        if known is None:
            by_model[share.model] = share
            continue
        cost = None if known.cost is None or share.cost is None else known.cost + share.cost
        by_model[share.model] = replace(known, counts=known.counts.plus(share.counts), cost=cost)
    return list(by_model.values())


def _is_free_refusal(stream: MessageStream) -> bool:
    has_output = stream.text_chars > 0 or stream.has_thinking or not stream.has_only_text
    category = str(stream.stop_details.get("category") or "")
    return stream.stop_reason == "refusal" and not has_output and category in FREE_REFUSAL_CATEGORIES
