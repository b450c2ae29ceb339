"""The model that is asked instead, where the one that was asked for is overloaded or declines.

Ours and not the API's own `fallbacks`: that one is a beta of Anthropic's own API alone, and knows nothing of overloads.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mcp_server_claude import number_formatting
from mcp_server_claude.call_types import THINKING_BLOCK_TYPES
from mcp_server_claude.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mcp_server_claude.anthropic_api.models import ClaudeModel
    from mcp_server_claude.call_types import Block, Call, ModelUsage
    from mcp_server_claude.engine.loop_outcome import LoopOutcome
    from mcp_server_claude.engine.retry_policy import RetryPolicy

MAX_OVERLOADS_BEFORE_FALLBACK = 2
"""Overloads in a row after which another model is asked, instead of the many that are borne where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FallbackModel:
    """The other model, or a sentence on why it cannot take the call; neither where none is configured."""

    model: ClaudeModel | None = None
    unavailable_reason: str = ""

    def error_note(self, requested: ClaudeModel, reason: str) -> str:
        """What is to be said besides where a call failed of which the other model was, or should have been, asked."""
        return (
            f"{self.model.id} was asked because {requested.id} {reason}."
            if self.model is not None
            else self.unavailable_reason
        )


def check_attachments(call: Call, model: ClaudeModel) -> None:
    """Look whether the model can read what the call has attached.

    Raises:
        RequestError: It cannot.
    """
    kinds = {block.get("type") for block in _thread_blocks(call)}
    if "image" in kinds and not model.images:
        raise RequestError(f"{model.id} reads no images.", kind="unsupported")
    if "document" in kinds and not model.pdf:
        raise RequestError(f"{model.id} reads no PDF.", kind="unsupported")


def fallback_reason(outcome: LoopOutcome) -> str:
    """Why another model is to be asked, as the end of a sentence; empty where it is not."""
    if outcome.error is not None:
        return "was overloaded" if outcome.error.kind == "overloaded" else ""
    return "declined" if outcome.stream.stop_reason == "refusal" else ""


def with_early_fallback(policy: RetryPolicy) -> RetryPolicy:
    """The policy where there is another model to ask."""
    return replace(policy, max_overloads=MAX_OVERLOADS_BEFORE_FALLBACK)


def without_thinking(blocks: Iterable[Block]) -> list[Block]:
    """The blocks that any model can be shown."""
    return [block for block in blocks if block.get("type") not in THINKING_BLOCK_TYPES]


def answered_by_note(by_model: Sequence[ModelUsage], reason: str) -> str:
    """Who answered instead of whom, and, where both cost something, what each did."""
    asked, instead = by_model

    def named(share: ModelUsage) -> str:
        return f"{share.model} ({number_formatting.format_usd(share.cost_usd)})" if asked.cost_usd != 0 else share.model

    return f"answered by {named(instead)}, {named(asked)} {reason}"


def _thread_blocks(call: Call) -> list[Mapping[str, object]]:
    """What is attached, in this turn and in those before it."""
    return [*call.attachments, *(block for past in call.history for block in past.content)]
