"""Sentences for each stop reason: why an answer is incomplete or missing, and what to do.

Source: https://platform.claude.com/docs/en/build-with-claude/handling-stop-reasons, as documented by November 2026.
"""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING

from mcp_server_claude import number_formatting
from mcp_server_claude.call_types import COMPLETE_STOP_REASONS
from mcp_server_claude.frozen_dataclass import frozen_dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp_server_claude.call_types import StopReason

BUDGET_CUT = "it reached what the budget allows."
"""Begins the reason of an answer that a budget cut short; the chat page recognises it."""
RAISE_BUDGET = "Raise the limit (max_usd, or the budget a day)."
EARLY_STOP_SHARE = 0.9
"""Share of `max_tokens` below which a `max_tokens` stop had another cause, e.g. that of a gateway."""


@frozen_dataclass(kw_only=True)
class AnswerEnd:
    """The end of an answer, and the limits that may have caused it. All counts are 0 where unknown.

    Args:
        reason: The API's stop reason; None for a broken stream.
        details: The API's `stop_details`.
        max_tokens: The output tokens that the last request allowed.
        is_limited_by_budget: Whether a budget allowed fewer output tokens than the call asks for.
        output_tokens: The output tokens of the last request.
        model_max_tokens: The most output tokens that the model allows.
        input_tokens: The input tokens of the last request, cached ones included.
        context_tokens: The model's context window.
        thread: The thread that holds the text so far.
    """

    reason: StopReason | None
    details: Mapping[str, object] = field(default_factory=dict[str, object])
    max_tokens: int = 0
    is_limited_by_budget: bool = False
    output_tokens: int = 0
    model_max_tokens: int = 0
    input_tokens: int = 0
    context_tokens: int = 0
    thread: str | None = None


def continue_hint(thread: str | None) -> str:
    """The way to get the rest of a cut answer. Its thread, where it has one, holds the text so far."""
    return f"Ask for the rest in thread {thread}" if thread else "Ask again and quote its last lines to get the rest"


def incomplete_reason(end: AnswerEnd) -> str:
    """One sentence on why an answer is incomplete and how to get the rest; empty for a complete one."""
    if end.reason in COMPLETE_STOP_REASONS:
        return ""
    match end.reason:
        case "max_tokens":
            return _max_tokens_reached(end)
        case "model_context_window_exceeded":
            return _context_full(end)
        case "pause_turn":
            return f"Claude paused a long turn. {continue_hint(end.thread)}."
        case "tool_use":
            return "Claude asked for a tool that this server does not offer. Ask again for an answer without tools."
        case "refusal":
            return "Claude stopped and declined to continue."
        case None:
            return f"the connection ended before the answer did. {continue_hint(end.thread)}."
        case _:
            return f"Claude stopped for a reason that this server does not know ({end.reason[:40]})."


def no_text_message(end: AnswerEnd) -> str:
    """The sentence of the error for an answer without text, or one that Claude declined."""
    match end.reason:
        case "refusal":
            category = str(end.details.get("category") or "").strip()[:40]
            explanation = str(end.details.get("explanation") or "").strip().rstrip(".")[:300]
            named = f" (category: {category})" if category else ""
            explained = f": {explanation}" if explanation else ""
            return f"Claude declined to answer{named}{explained}. Rephrase the request, or ask another model."
        case "max_tokens":
            tokens = number_formatting.format_tokens(_limit_reached(end))
            if _budget_reached(end):
                return f"All {tokens} output tokens that the budget allows were used for thinking. {RAISE_BUDGET}"
            remedy = "a larger max_tokens or a lower effort" if _may_raise_max_tokens(end) else "a lower effort"
            return f"All {tokens} output tokens were used for thinking. Ask with {remedy}."
        case None:
            return "The connection ended before any text came. Try again."
        case _:
            reason = incomplete_reason(end)
            return f"There is no answer: {reason}" if reason else "Claude ended its turn without any text."


def cut_json_message(end: AnswerEnd) -> str:
    """The sentence of the error for JSON that `max_tokens` cut off."""
    if _budget_reached(end):
        return f"The budget was used up before the JSON was complete. {RAISE_BUDGET}"
    return "max_tokens cut the JSON off. Ask with a larger max_tokens."


def too_long_message(tokens: int, context_tokens: int, *, exact: bool) -> str:
    """The sentence for a prompt that does not fit in the model's context window, with the excess."""
    about = "" if exact else "about "
    if tokens <= context_tokens:
        return f"The prompt is longer than the model takes ({context_tokens:,} tokens). Send less."
    return (
        f"The prompt is too long: {about}{tokens:,} tokens, {about}{tokens - context_tokens:,} more than the "
        f"{context_tokens:,} that the model takes. Send less."
    )


def _limit_reached(end: AnswerEnd) -> int:
    """The limit that held. An endpoint may stop before `max_tokens`: then it is the number of tokens that came."""
    stopped_early = 0 < end.output_tokens < EARLY_STOP_SHARE * end.max_tokens
    return end.output_tokens if stopped_early else end.max_tokens


def _budget_reached(end: AnswerEnd) -> bool:
    """Whether the limit that held is that of a budget."""
    return end.is_limited_by_budget and _limit_reached(end) == end.max_tokens


def _may_raise_max_tokens(end: AnswerEnd) -> bool:
    own_limit_reached = _limit_reached(end) == end.max_tokens
    return own_limit_reached and not (end.model_max_tokens and end.max_tokens >= end.model_max_tokens)


def _max_tokens_reached(end: AnswerEnd) -> str:
    if _budget_reached(end):
        return f"{BUDGET_CUT} {RAISE_BUDGET} {continue_hint(end.thread)}."
    limit = number_formatting.format_tokens(_limit_reached(end))
    if _limit_reached(end) != end.max_tokens:
        most = number_formatting.format_tokens(end.max_tokens)
        return (
            f"it reached max_tokens at {limit} output tokens, although {most} were allowed: the API or a gateway has a "
            f"lower limit. {continue_hint(end.thread)}."
        )
    if not _may_raise_max_tokens(end):
        return f"it reached max_tokens ({limit}), the model's own limit. {continue_hint(end.thread)}."
    again = "again with a larger max_tokens"
    if end.thread:
        return f"it reached max_tokens ({limit}). {continue_hint(end.thread)}, or {again}."
    return f"it reached max_tokens ({limit}). Ask {again}, or quote its last lines for the rest."


def _context_full(end: AnswerEnd) -> str:
    """The sentence for a full context window: the share of the input, and how much shorter it must be."""
    room = end.context_tokens - end.input_tokens
    if not end.context_tokens or not end.input_tokens or room >= end.max_tokens:
        return "the model's context window is full. Ask again with a shorter prompt, or for the rest alone."
    return (
        f"the model's context window of {end.context_tokens:,} tokens is full: the input took {end.input_tokens:,} of "
        f"them and left {max(0, room):,} of the {end.max_tokens:,} that the answer might have had. Shorten the input "
        f"by up to {end.max_tokens - room:,} tokens, or ask for the rest alone."
    )
