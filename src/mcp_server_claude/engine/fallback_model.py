"""The fallback model, which answers if the requested model is overloaded or declines.

The API's own `fallbacks` are not used: they are a beta of Anthropic's own API alone and do not cover overloads.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mcp_server_claude import number_formatting
from mcp_server_claude.call_types import THINKING_BLOCK_TYPES
from mcp_server_claude.errors import RequestError
from mcp_server_claude.frozen_dataclass import frozen_dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mcp_server_claude.anthropic_api.models import ClaudeModel
    from mcp_server_claude.call_types import Block, Call, ModelUsage
    from mcp_server_claude.engine.loop_outcome import LoopOutcome
    from mcp_server_claude.engine.retry_policy import RetryPolicy
    from mcp_server_claude.errors import CallError

MAX_OVERLOADS_BEFORE_FALLBACK = 2
"""Overloads in a row after which the fallback model is asked; without one, a call retries much longer."""


@frozen_dataclass(kw_only=True)
class FallbackModel:
    """The fallback model, or the reason why it cannot answer this call; neither if none is configured."""

    model: ClaudeModel | None = None
    unavailable_reason: str = ""

    @classmethod
    def unavailable(cls, name: str, failure: CallError) -> FallbackModel:
        """A fallback model that cannot answer this call, for this reason."""
        return cls(unavailable_reason=f"The fallback model ({name}) could not be asked instead: {failure}")

    def for_thread(self, call: Call) -> FallbackModel:
        """The fallback model if it reads every type of attachment in the thread of the call."""
        if self.model is None:
            return self
        try:
            check_attachments(call, self.model)
        except RequestError as failure:
            return FallbackModel.unavailable(self.model.id, failure)
        return self

    def error_note(self, requested: ClaudeModel, reason: str) -> str:
        """The note for the error of a call when the fallback model was tried, or could not be."""
        return (
            f"{self.model.id} was asked because {requested.id} {reason}."
            if self.model is not None
            else self.unavailable_reason
        )


def check_attachments(call: Call, model: ClaudeModel) -> None:
    """Check that the model reads every type of attachment in the thread.

    Raises:
        RequestError: It does not.
    """
    kinds = {block.get("type") for block in _thread_blocks(call)}
    if "image" in kinds and not model.images:
        raise RequestError(f"{model.id} reads no images.", kind="unsupported")
    if "document" in kinds and not model.pdf:
        raise RequestError(f"{model.id} reads no PDF.", kind="unsupported")


def fallback_reason(outcome: LoopOutcome) -> str:
    """The reason for using the fallback model, as the end of a sentence; empty if there is none."""
    if outcome.error is not None:
        return "was overloaded" if outcome.error.kind == "overloaded" else ""
    return "declined" if outcome.stream.stop_reason == "refusal" else ""


def with_early_fallback(policy: RetryPolicy) -> RetryPolicy:
    """The retry policy of a call that has a fallback model."""
    return replace(policy, max_overloads=MAX_OVERLOADS_BEFORE_FALLBACK)


def without_thinking(blocks: Iterable[Block]) -> list[Block]:
    """The blocks that every model accepts."""
    return [block for block in blocks if block.get("type") not in THINKING_BLOCK_TYPES]


def answered_by_note(by_model: Sequence[ModelUsage], reason: str) -> str:
    """The note that names the models, the first as the requested one and the last as the one that answered, with the
    cost of each if the first cost something.
    """
    requested, *_, answering = by_model

    def named(share: ModelUsage) -> str:
        return (
            f"{share.model} ({number_formatting.format_usd(share.cost_usd)})"
            if requested.cost_usd != 0
            else share.model
        )

    return f"answered by {named(answering)}, {named(requested)} {reason}"


def _thread_blocks(call: Call) -> list[Mapping[str, object]]:
    """The content blocks of this turn's attachments and of all earlier messages."""
    return [*call.attachments, *(block for past in call.history for block in past.content)]
