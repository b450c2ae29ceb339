"""The sampling iterations of one response: the model is run again for each result of a server tool, for a summary of
the conversation, and where another model takes over. Each iteration reads the whole context, and is billed.

`usage` counts all iterations of the model that answers, but neither those that summarize nor those of a model that
declined; `usage.iterations` lists them all. It is shown where compaction or fallbacks are enabled. Sources:
`anthropic.types.beta.BetaIterationsUsage` and its members (SDK 2.14.0, November 2026),
platform.claude.com/docs/en/build-with-claude/compaction-threshold (read in a copy of October 2026).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from mcp_server_claude.simulator.token_counting import InputUsage

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    from mcp_server_claude.simulator.json_body import Object

    IterationKind: TypeAlias = Literal["message", "compaction", "fallback_message"]

MAX_LOOP_ITERATIONS = 10
"""Iterations of a loop of server tools, after which the turn is paused ("Server tools", August 2026)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingIteration:
    """One run of a model. `declined_category` is that of a refusal which ended it, None where it did not decline."""

    kind: IterationKind
    model: str
    input_usage: InputUsage
    output_tokens: int = 0
    declined: bool = False
    declined_category: str | None = None

    def usage_entry(self) -> Object:
        """The entry in `usage.iterations`. That of a summary names no model: it is the requested one."""
        entry: Object = {
            "type": self.kind,
            **self.input_usage.usage_fields(),
            "cache_creation": self.input_usage.cache_creation(),
            "output_tokens": self.output_tokens,
        }
        return entry if self.kind == "compaction" else {**entry, "model": self.model}


def tool_loop_usage(first: InputUsage, result_tokens: Sequence[int]) -> InputUsage:
    """The input of all iterations of a loop: the first, and one for each result, which reads what came before again.
    Where there are more results than iterations, the first ones come together.

    Assumed: the API caches nothing between the iterations of one request.
    """
    uncached, context = first.uncached, first.total
    in_first = max(0, len(result_tokens) - MAX_LOOP_ITERATIONS)
    context += sum(result_tokens[:in_first])
    for tokens in result_tokens[in_first:]:
        context += tokens
        uncached += context
    return replace(first, uncached=uncached)


def compaction_iteration(model: str, whole: InputUsage, summary_tokens: int) -> SamplingIteration:
    """The run that summarizes the conversation: it reads all of it."""
    return SamplingIteration(kind="compaction", model=model, input_usage=whole, output_tokens=summary_tokens)


def compacted_usage(question_tokens: int, summary_tokens: int) -> InputUsage:
    """The input of the run after a summary, which stands in place of all that came before the latest question."""
    return InputUsage(uncached=question_tokens + summary_tokens)
