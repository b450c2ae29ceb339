"""The span of a job, written when it is closed: it may have run for hours, and in several processes.

It is linked to the spans of its calls, which have traces of their own and the same `mcp_server_claude.job_id`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry import context, trace
from opentelemetry.trace import (
    Link,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    format_span_id,
    format_trace_id,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from opentelemetry.util.types import AttributeValue

MAX_LINKS = 128
"""Links of a span at most, as many as the SDK keeps by default (`OTEL_SPAN_LINK_COUNT_LIMIT`)."""
NANOSECONDS = 1_000_000_000

_tracer = trace.get_tracer("mcp_server_claude")


def leave_current_trace() -> None:
    """Leave the trace of the request that happened to start a task which serves many."""
    context.attach(context.Context())


def traceparent_of(context: SpanContext) -> str:
    """A span as the header of the W3C's Trace Context names it."""
    return f"00-{format_trace_id(context.trace_id)}-{format_span_id(context.span_id)}-{context.trace_flags:02x}"


def _context_of(traceparent: str) -> SpanContext:
    _, trace_id, span_id, flags = traceparent.split("-")
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))


def record_job_span(
    tool: str,
    attributes: Mapping[str, AttributeValue],
    traceparents: Sequence[str],
    *,
    started_at: float,
    ended_at: float,
    complete: bool,
) -> None:
    """Write the span of a job that is closed, with links to the spans of its calls.

    Times are unix seconds; the names of the attributes get our prefix.
    """
    span = _tracer.start_span(
        f"job {tool}",
        context=context.Context(),
        kind=SpanKind.INTERNAL,
        links=[Link(_context_of(each)) for each in traceparents],
        start_time=int(started_at * NANOSECONDS),
        attributes={f"mcp_server_claude.{name}": value for name, value in attributes.items()},
    )
    if not complete:
        span.set_status(Status(StatusCode.ERROR))  # without its reason, which may quote what was asked
    span.end(int(ended_at * NANOSECONDS))
