"""Observing a call: its span, its measurements and its line in the log, made of what the engine tells.

    tools/call claude_ask            the MCP SDK's, with the client's `traceparent` above it
    └ chat claude-opus-5-5           ours: the call, with its account
      ├ anthropic.messages.create    Anthropic's SDK's: one upstream request
      └ anthropic.messages.create    … and its continuation

The names are those of the GenAI semantic conventions. Ours is INTERNAL and those of the SDK are CLIENT: whoever adds up
tokens over spans takes one kind or the other.
"""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode, format_trace_id

from mcp_server_claude.call_types import Usage, Waiting
from mcp_server_claude.errors import Failure
from mcp_server_claude.telemetry import metrics, stderr_logging
from mcp_server_claude.telemetry.stderr_logging import Ended

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from opentelemetry.trace import Span
    from opentelemetry.util.types import AttributeValue

    from mcp_server_claude.call_types import Call, Event, Listen, Reply
    from mcp_server_claude.settings import Settings
    from mcp_server_claude.telemetry.stderr_logging import End

CONVERSATION = "gen_ai.conversation.id"
LONGEST_CONTENT = 750_000
"""Characters of an answer that a span holds at most, as many as Anthropic's SDK allows itself."""

_tracer = trace.get_tracer("mcp_server_claude")


class Observed:
    """One call that is observed. `call` carries the trace's id, and `listen` hears for the span too."""

    def __init__(self, call: Call, listen: Listen, span: Span, settings: Settings) -> None:
        context = span.get_span_context()
        self.call = replace(call, trace_id=format_trace_id(context.trace_id)) if context.is_valid else call
        self.listen = self._hearing(listen) if span.is_recording() else listen
        self._span = span
        self._settings = settings
        self._began = time.monotonic()
        self._model = ""
        self._usage: Callable[[], Usage] = self._nothing

    def asks(self, model: str, usage: Callable[[], Usage]) -> None:
        """The call goes to this model, and `usage` is its account as it stands."""
        self._model, self._usage = model, usage
        self._span.update_name(f"chat {model}")
        self._span.set_attribute("gen_ai.request.model", model)

    def answered(self, reply: Reply) -> Reply:
        """The reply, after it was told."""
        if self._settings.trace_content and self._span.is_recording():
            part = {"type": "text", "content": reply.text[:LONGEST_CONTENT]}
            message = {"role": "assistant", "parts": [part], "finish_reason": reply.usage.stop_reason}
            self._span.set_attribute("gen_ai.output.messages", json.dumps([message]))
        self.ended("incomplete" if reply.incomplete else "complete", reply.usage)
        return reply

    def ended(self, end: End, usage: Usage | None = None, kind: str = "") -> None:
        """Tell of the call's end: on its span, in the measurements, and in the log."""
        ended = Ended(call=self.call, end=end, usage=usage or self._usage(), model=self._model, kind=kind)
        stderr_logging.told(ended)
        metrics.record(ended, users=self._settings.telemetry_users)
        if self._span.is_recording():
            self._span.set_attributes(_account(ended))
            if end == "failed":
                self._span.set_status(Status(StatusCode.ERROR))  # without its sentence, which may quote what was asked

    def _hearing(self, listen: Listen) -> Listen:
        def hear(event: Event) -> None:
            if isinstance(event, Waiting):
                waited = {"why": event.why, "seconds": event.seconds or 0.0, "attempt": event.attempt}
                self._span.add_event("waiting", waited)
            listen(event)

        return hear

    def _nothing(self) -> Usage:
        """The account of a call that ended before one was begun."""
        call, took = self.call, round(time.monotonic() - self._began, 4)
        return Usage(
            call_id=call.id, user=call.user, thread=call.thread or None, trace_id=call.trace_id, duration_s=took
        )


@contextmanager
def observed(call: Call, listen: Listen, settings: Settings) -> Generator[Observed]:
    """Observe a call for as long as the block runs, below the span that is current, if there is one."""
    around = trace.get_current_span()
    if call.thread and around.is_recording():
        around.set_attribute(CONVERSATION, call.thread)
    with _tracer.start_as_current_span(
        "chat",
        kind=SpanKind.INTERNAL,
        attributes=_question(call, settings),
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        seen = Observed(call, listen, span, settings)
        try:
            yield seen
        except Failure as failure:
            seen.ended("failed", failure.usage, failure.kind)
            raise
        except Exception as bug:
            seen.ended("failed", kind=type(bug).__name__)
            raise
        except BaseException:
            seen.ended("cancelled")
            raise


def _question(call: Call, settings: Settings) -> dict[str, AttributeValue]:
    """What a span begins with, so that a sampler sees it."""
    attributes: dict[str, AttributeValue] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "mcp_server_claude.call_id": call.id,
        "mcp_server_claude.tool": call.tool,
        "mcp_server_claude.source": call.source,
    }
    if call.thread:
        attributes[CONVERSATION] = call.thread
    if call.max_tokens:
        attributes["gen_ai.request.max_tokens"] = call.max_tokens
    if settings.telemetry_users:
        attributes["user.id"] = call.user
    return attributes


def _account(ended: Ended) -> dict[str, AttributeValue]:
    """The account as a span tells it; what is not known is left out."""
    usage, tokens = ended.usage, metrics.tokens_of(ended)
    known: dict[str, AttributeValue | None] = {
        "gen_ai.response.model": usage.model or None,
        "gen_ai.response.finish_reasons": [usage.stop_reason] if usage.stop_reason else None,
        "gen_ai.response.time_to_first_chunk": usage.ttft_s,
        "gen_ai.usage.input_tokens": tokens["input"],
        "gen_ai.usage.output_tokens": tokens["output"],
        "gen_ai.usage.cache_read.input_tokens": usage.cache_read_input_tokens,
        "gen_ai.usage.cache_creation.input_tokens": usage.cache_creation_input_tokens,
        "gen_ai.usage.reasoning.output_tokens": usage.thinking_tokens,
        "mcp_server_claude.cost_usd": usage.cost_usd,
        "mcp_server_claude.end": ended.end,
        "mcp_server_claude.attempts": usage.attempts,
        "mcp_server_claude.retries": usage.retries,
        "mcp_server_claude.estimated": usage.estimated,
        "mcp_server_claude.resumed": usage.resumed,
        "error.type": ended.kind or ("cancelled" if ended.end == "cancelled" else None),
    }
    return {name: value for name, value in known.items() if value is not None}
