"""The decision whether a user must approve a call that could cost more than `MCP_CLAUDE_CONFIRM_ABOVE_USD`.

Imports no store, since the tools are built before it is imported; `pending_approvals` holds the questions.
"""

from __future__ import annotations

from secrets import token_hex
from typing import TYPE_CHECKING

from mcp_server_claude import number_formatting

if TYPE_CHECKING:
    from collections.abc import Sequence


def question_with_nonce(text: str) -> str:
    """A question that differs from every other one."""
    return f"{text} [{token_hex(4)}]"


def needs_approval(highest_usd: float | None, above_usd: float | None) -> bool:
    """True if the user must be asked: a call could cost more than the limit, or its price is unknown."""
    return above_usd is not None and (highest_usd is None or highest_usd > above_usd)


def highest_cost(estimates: Sequence[float | None], max_usd: float) -> float | None:
    """The most that a call can cost in US dollars, by the estimate of it as it is and its own limit (0 for none)."""
    estimate = estimates[0] if estimates else None
    return (max_usd or None) if estimate is None else min(estimate, max_usd or estimate)


def cost_sentence(highest_usd: float | None) -> str:
    """The sentence that says what a call could cost."""
    if highest_usd is None:
        return "The price of this call is unknown."
    return f"This call may cost up to {number_formatting.format_usd(highest_usd)}."


def limit_sentences(highest_usd: float | None, above_usd: float) -> str:
    """What a call could cost, and the beginning of a sentence on the limit that it exceeds."""
    if highest_usd is None:
        (limit,) = number_formatting.format_distinct_usd(above_usd)
        return f"{cost_sentence(None)} Above MCP_CLAUDE_CONFIRM_ABOVE_USD ({limit})"
    cost, limit = number_formatting.format_distinct_usd(highest_usd, above_usd)
    return f"This call may cost up to {cost}. Above MCP_CLAUDE_CONFIRM_ABOVE_USD ({limit})"
