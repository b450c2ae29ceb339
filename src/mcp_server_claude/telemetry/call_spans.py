"""Observing a call: its span, its measurements and its line in the log, made from the events of the engine.

    tools/call claude_ask            the MCP SDK's, with the client's `traceparent` above it
    └ chat claude-opus-5-5           ours: the call, with its usage
      ├ anthropic.messages.create    Anthropic's SDK's: one upstream request
      └ anthropic.messages.create    … and its continuation

The names are those of the GenAI semantic conventions. Ours is INTERNAL and those of the SDK are CLIENT: a sum of tokens
over spans takes one kind or the other.
"""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode, format_trace_id

from mcp_server_claude.call_types import Usage, Waiting
from mcp_server_claude.errors import CallError
from mcp_server_claude.telemetry import job_spans, metrics, stderr_logging
from mcp_server_claude.telemetry.stderr_logging import CallOutcome

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from opentelemetry.trace import Span
    from opentelemetry.util.types import AttributeValue

    from mcp_server_claude.call_types import Call, CallEvent, Listener, Reply
    from mcp_server_claude.settings import Settings
    from mcp_server_claude.telemetry.stderr_logging import CallEnd

CONVERSATION_ID = "gen_ai.conversation.id"
MAX_CONTENT_CHARS = 750_000
"""Characters of an answer that a span holds at most, as many as Anthropic's SDK allows itself."""

_tracer = trace.get_tracer("mcp_server_claude")
_traceparent_listeners: ContextVar[Sequence[Callable[[str], object]]] = ContextVar("traceparent_listeners", default=())


class CallSpan:
    """One call that is observed. `call` carries the trace's id, and `listener` adds the events to the span too."""

    def __init__(self, call: Call, listener: Listener, span: Span, settings: Settings) -> None:
        context = span.get_span_context()
        self.call = replace(call, trace_id=format_trace_id(context.trace_id)) if context.is_valid else call
        self.listener = self._with_span_events(listener) if span.is_recording() else listener
        if context.is_valid:
            for listen in _traceparent_listeners.get():
                listen(job_spans.traceparent_of(context))
        self._span = span
        self._settings = settings
        self._started_at = time.monotonic()
        self._model = ""
        self._current_usage: Callable[[], Usage] = self._empty_usage

    def set_model(self, model: str, usage: Callable[[], Usage]) -> None:
        """The call goes to this model, and `usage` is its current usage."""
        self._model, self._current_usage = model, usage
        self._span.update_name(f"chat {model}")
        self._span.set_attribute("gen_ai.request.model", model)

    def record_reply(self, reply: Reply) -> Reply:
        """The reply, after it was recorded."""
        if self._settings.trace_content and self._span.is_recording():
            part = {"type": "text", "content": reply.text[:MAX_CONTENT_CHARS]}
            message = {"role": "assistant", "parts": [part], "finish_reason": reply.usage.stop_reason}
            self._span.set_attribute("gen_ai.output.messages", json.dumps([message]))
        self.record_end("incomplete" if reply.incomplete else "complete", reply.usage)
        return reply

    def record_end(self, end: CallEnd, usage: Usage | None = None, kind: str = "") -> None:
        """Tell of the call's end: on its span, in the measurements, and in the log."""
        ended = CallOutcome(call=self.call, end=end, usage=usage or self._current_usage(), model=self._model, kind=kind)
        stderr_logging.log_call(ended)
        metrics.record_call_metrics(ended, users=self._settings.telemetry_users)
        if self._span.is_recording():
            self._span.set_attributes(_usage_attributes(ended))
            if end == "failed":
                self._span.set_status(Status(StatusCode.ERROR))  # without its sentence, which may quote what was asked

    def _with_span_events(self, listener: Listener) -> Listener:
        def add_event(event: CallEvent) -> None:
            if isinstance(event, Waiting):
                waited = {"why": event.reason, "seconds": event.seconds or 0.0, "attempt": event.attempt}
                self._span.add_event("waiting", waited)
            listener(event)

        return add_event

    def _empty_usage(self) -> Usage:
        """The usage of a call that ended before its first request."""
        call, took = self.call, round(time.monotonic() - self._started_at, 4)
        return Usage(
            call_id=call.id, user=call.user, thread=call.thread or None, trace_id=call.trace_id, duration_s=took
        )


@contextmanager
def traceparent_listener(listener: Callable[[str], object]) -> Generator[None]:
    """Have `listener` get the `traceparent` of the call that begins in the block, if it is traced.

    It is released at the end of the block. The context is not: a timer that was cancelled keeps a copy of it until its
    time has come, as `asyncio` does of the deadline of a call.
    """
    listeners = [listener]
    token = _traceparent_listeners.set(listeners)
    try:
        yield
    finally:
        listeners.clear()
        _traceparent_listeners.reset(token)


@contextmanager
def call_span(call: Call, listener: Listener, settings: Settings) -> Generator[CallSpan]:
    """Observe a call for as long as the block runs, below the span that is current, if there is one."""
    parent = trace.get_current_span()
    if call.thread and parent.is_recording():
        parent.set_attribute(CONVERSATION_ID, call.thread)
    with _tracer.start_as_current_span(
        "chat",
        kind=SpanKind.INTERNAL,
        attributes=_request_attributes(call, settings),
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        call_observation = CallSpan(call, listener, span, settings)
        try:
            yield call_observation
        except CallError as failure:
            call_observation.record_end("failed", failure.usage, failure.kind)
            raise
        except Exception as bug:
            call_observation.record_end("failed", kind=type(bug).__name__)
            raise
        except BaseException:
            call_observation.record_end("cancelled")
            raise


def _request_attributes(call: Call, settings: Settings) -> dict[str, AttributeValue]:
    """Attributes that a span starts with, so that a sampler sees them."""
    attributes: dict[str, AttributeValue] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "mcp_server_claude.call_id": call.id,
        "mcp_server_claude.tool": call.tool,
        "mcp_server_claude.source": call.source,
    }
    if call.thread:
        attributes[CONVERSATION_ID] = call.thread
    if call.job_id:
        attributes["mcp_server_claude.job_id"] = call.job_id
    if call.max_tokens:
        attributes["gen_ai.request.max_tokens"] = call.max_tokens
    if settings.telemetry_users:
        attributes["user.id"] = call.user
    return attributes


def _usage_attributes(outcome: CallOutcome) -> dict[str, AttributeValue]:
    """The usage as attributes of a span; what is not known is left out."""
    usage, tokens = outcome.usage, metrics.tokens_by_type(outcome)
    known: dict[str, AttributeValue | None] = {
        "gen_ai.response.model": usage.model or None,
        "gen_ai.response.finish_reasons": [usage.stop_reason] if usage.stop_reason else None,
        "gen_ai.response.time_to_first_chunk": usage.ttft_s,
        "gen_ai.usage.input_tokens": tokens["input"],
        "gen_ai.usage.output_tokens": tokens["output"],
        "gen_ai.usage.cache_read.input_tokens": usage.cache_read_input_tokens,
        "gen_ai.usage.cache_write.input_tokens": usage.cache_creation_input_tokens,
        "gen_ai.usage.reasoning.output_tokens": usage.thinking_tokens,
        "mcp_server_claude.cost_usd": usage.cost_usd,
        "mcp_server_claude.end": outcome.end,
        "mcp_server_claude.attempts": usage.attempts,
        "mcp_server_claude.retries": usage.retries,
        "mcp_server_claude.estimated": usage.estimated,
        "mcp_server_claude.resumed": usage.resumed,
        "error.type": outcome.kind or ("cancelled" if outcome.end == "cancelled" else None),
    }
    return {name: value for name, value in known.items() if value is not None}
