"""The outcome of a request loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcp_server_claude.engine.stop_reasons import AnswerEnd
from mcp_server_claude.frozen_dataclass import frozen_dataclass

if TYPE_CHECKING:
    from mcp_server_claude.anthropic_api.message_stream import MessageStream
    from mcp_server_claude.anthropic_api.models import ClaudeModel
    from mcp_server_claude.call_types import Block, SentTurn
    from mcp_server_claude.errors import CallError


@frozen_dataclass(kw_only=True)
class LoopOutcome:
    """The end of a request loop.

    Args:
        stream: The last stream.
        blocks: The content blocks of the whole answer.
        max_tokens: The output tokens that the last request allowed.
        is_limited_by_budget: Whether a budget allowed fewer output tokens than the call asks for.
        sent: The part of the request that a thread keeps.
        container_id: The container in which code ran; empty without one.
        error: The error that no retry could fix; None when Claude ended its turn.
        notes: Sentences for the footer on what has changed in the thread.
    """

    stream: MessageStream
    blocks: tuple[Block, ...]
    max_tokens: int
    is_limited_by_budget: bool
    sent: SentTurn
    container_id: str = ""
    error: CallError | None = None
    notes: tuple[str, ...] = ()

    def answer_end(self, model: ClaudeModel, thread: str | None = None) -> AnswerEnd:
        """The stop reason with the limits of `model` and of the last request."""
        usage = self.stream.usage()
        return AnswerEnd(
            reason=self.stream.stop_reason,
            details=self.stream.stop_details,
            max_tokens=self.max_tokens,
            is_limited_by_budget=self.is_limited_by_budget,
            output_tokens=0 if usage.estimated else usage.output_tokens,
            model_max_tokens=model.max_output_tokens,
            input_tokens=usage.prompt_tokens,
            context_tokens=model.context_tokens,
            thread=thread,
        )
