"""The model that is asked instead, where the one that was asked for is overloaded or declines.

Ours and not the API's own `fallbacks`: that one is a beta of Anthropic's own API alone, and knows nothing of overloads.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from mcp_server_claude import number_formatting
from mcp_server_claude.call_types import THINKING
from mcp_server_claude.errors import Failure, Refused

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mcp_server_claude.anthropic_api.models import ClaudeModel
    from mcp_server_claude.call_types import Block, Call, Message, Share
    from mcp_server_claude.engine.request_loop import Ended
    from mcp_server_claude.engine.retry_policy import Policy

OVERLOADS = 2
"""Overloads in a row after which another model is asked, instead of the many that are borne where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spare:
    """The other model, or a sentence on why it cannot take the call; neither where none is configured."""

    model: ClaudeModel | None = None
    unfit: str = ""

    def of(self, asked: ClaudeModel, why: str) -> str:
        """What is to be said besides where a call failed of which the other model was, or should have been, asked."""
        return f"{self.model.id} was asked because {asked.id} {why}." if self.model is not None else self.unfit


def fits(call: Call, model: ClaudeModel) -> None:
    """Look whether the model can read what the call has attached.

    Raises:
        Refused: It cannot.
    """
    kinds = {block.get("type") for block in _blocks(call)}
    if "image" in kinds and not model.images:
        raise Refused(f"{model.id} reads no images.", kind="unsupported")
    if "document" in kinds and not model.pdf:
        raise Refused(f"{model.id} reads no PDF.", kind="unsupported")


def due(ended: Ended) -> str:
    """Why another model is to be asked, as the end of a sentence; empty where it is not."""
    if ended.failure is not None:
        return "was overloaded" if ended.failure.kind == "overloaded" else ""
    return "declined" if ended.answer.stop_reason == "refusal" else ""


def impatient(policy: Policy) -> Policy:
    """The policy where there is another model to ask."""
    return replace(policy, overloads=OVERLOADS)


def asked_of(call: Call, model: ClaudeModel) -> Call:
    """The call as another model is asked it: without thinking, which is bound to the model that thought it."""
    history = tuple(
        cast("Message", {**message, "content": without_thinking(cast("Sequence[Block]", message["content"]))})
        if isinstance(message["content"], list | tuple)
        else message
        for message in call.history
    )
    return replace(call, model=model.id, history=history)


def without_thinking(blocks: Iterable[Block]) -> list[Block]:
    """The blocks that any model can be shown."""
    return [block for block in blocks if block.get("type") not in THINKING]


def told(shares: Sequence[Share], why: str) -> str:
    """Who answered instead of whom, and, where both cost something, what each did."""
    asked, instead = shares

    def named(share: Share) -> str:
        return f"{share.model} ({number_formatting.format_usd(share.cost_usd)})" if asked.cost_usd != 0 else share.model

    return f"answered by {named(instead)}, {named(asked)} {why}"


def also(failure: Failure, more: str) -> Failure:
    """The failure, saying this too."""
    other = type(failure)(
        f"{failure} {more}",
        kind=failure.kind,
        retry_after_s=failure.retry_after_s,
        request_id=failure.request_id,
        status=failure.status,
        usage=failure.usage,
    )
    other.should_retry = failure.should_retry
    return other


def _blocks(call: Call) -> list[Mapping[str, object]]:
    """What is attached, in this turn and in those before it."""
    turns = [cast("Sequence[Block]", m["content"]) for m in call.history if isinstance(m["content"], list | tuple)]
    return [*call.attached, *(block for turn in turns for block in turn)]
