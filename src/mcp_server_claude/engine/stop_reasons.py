"""What each stop reason means for whoever reads the answer (platform.claude.com/docs, "Handling stop reasons")."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcp_server_claude import number_formatting
from mcp_server_claude.call_types import COMPLETE_STOP_REASONS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp_server_claude.call_types import StopReason


def continue_hint(thread: str | None) -> str:
    """How to have the rest of an answer that was cut; its thread, where it has one, holds what there is."""
    return f"Ask for the rest in thread {thread}" if thread else "Ask again, or quote its last lines for the rest"


def budget_cut(thread: str | None) -> str:
    """The same where money was the limit."""
    return (
        f"it reached what the budget allows. Raise the limit (max_usd, or the budget a day). {continue_hint(thread)}."
    )


def incomplete_reason(
    reason: StopReason | None,
    *,
    max_tokens: int,
    input_tokens: int = 0,
    context: int = 0,
    thread: str | None = None,
) -> str:
    """One sentence on why an answer is not whole and how to go on; empty when it is whole.

    `input_tokens` are those of the request, cached ones included, `context` those of the model, 0 when unknown.
    `thread` is the conversation that holds the answer as far as it came.
    """
    if reason in COMPLETE_STOP_REASONS:
        return ""
    match reason:
        case "max_tokens":
            again = "again with a larger max_tokens"
            how = (
                f"{continue_hint(thread)}, or {again}"
                if thread
                else f"Ask {again}, or quote its last lines for the rest"
            )
            return f"it reached max_tokens ({number_formatting.format_tokens(max_tokens)}). {how}."
        case "model_context_window_exceeded":
            return _context_full(max_tokens, input_tokens, context)
        case "pause_turn":
            return f"Claude paused a long turn. {continue_hint(thread)}."
        case "tool_use":
            return "Claude asked for a tool that this server does not offer. Ask again for an answer without tools."
        case "refusal":
            return "Claude stopped and declined to go on."
        case None:
            return f"the connection ended before the answer did. {continue_hint(thread)}."
        case _:
            return f"Claude stopped for a reason that this server does not know ({reason[:40]})."


def no_text_message(
    reason: StopReason | None,
    details: Mapping[str, object],
    *,
    max_tokens: int,
    input_tokens: int = 0,
    context: int = 0,
) -> str:
    """The same for an answer without any text, or one that was declined, as the sentence of a failure."""
    match reason:
        case "refusal":
            category = str(details.get("category") or "").strip()[:40]
            why = str(details.get("explanation") or "").strip().rstrip(".")[:300]
            named = f" (category: {category})" if category else ""
            return (
                f"Claude declined to answer{named}{f': {why}' if why else ''}. Rephrase the request, or ask another "
                "model."
            )
        case "max_tokens":
            return (
                f"All {number_formatting.format_tokens(max_tokens)} output tokens went into thinking. Ask with a "
                "larger max_tokens or a lower effort."
            )
        case None:
            return "The connection ended before any text came. Try again."
        case _:
            why = incomplete_reason(reason, max_tokens=max_tokens, input_tokens=input_tokens, context=context)
            return f"There is no answer: {why}" if why else "Claude ended its turn without any text."


def too_long_message(tokens: int, context: int, *, exact: bool) -> str:
    """A prompt does not fit in the model's context window: by how much."""
    about = "" if exact else "about "
    if tokens <= context:
        return f"The prompt is longer than the model takes ({context:,} tokens). Send less."
    return (
        f"The prompt is too long: {about}{tokens:,} tokens, {about}{tokens - context:,} more than the {context:,} that "
        "the model takes. Send less."
    )


def _context_full(max_tokens: int, input_tokens: int, context: int) -> str:
    """The context window is full: how much of it the input took, and how much less it would have to be."""
    room = context - input_tokens
    if not context or not input_tokens or room >= max_tokens:
        return "the model's context window is full. Ask again with a shorter prompt, or for the rest alone."
    return (
        f"the model's context window of {context:,} tokens is full: the input took {input_tokens:,} of them and left "
        f"{max(0, room):,} of the {max_tokens:,} that the answer might have had. Shorten the input by up to "
        f"{max_tokens - room:,} tokens, or ask for the rest alone."
    )
