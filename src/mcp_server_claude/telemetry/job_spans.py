"""The span of a job, written when it is closed: it may have run for hours, and in several processes.

The spans of its calls have the same attribute `mcp_server_claude.job_id`, and traces of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry import context, trace
from opentelemetry.trace import SpanKind, Status, StatusCode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.util.types import AttributeValue

NANOSECONDS = 1_000_000_000

_tracer = trace.get_tracer("mcp_server_claude")


def leave_current_trace() -> None:
    """Leave the trace of the request that happened to start a task which serves many."""
    context.attach(context.Context())


def record_job_span(
    tool: str, attributes: Mapping[str, AttributeValue], *, started_at: float, ended_at: float, complete: bool
) -> None:
    """Write the span of a job that is closed. Times are unix seconds; the names of the attributes get our prefix."""
    span = _tracer.start_span(
        f"job {tool}",
        context=context.Context(),
        kind=SpanKind.INTERNAL,
        start_time=int(started_at * NANOSECONDS),
        attributes={f"mcp_server_claude.{name}": value for name, value in attributes.items()},
    )
    if not complete:
        span.set_status(Status(StatusCode.ERROR))  # without its reason, which may quote what was asked
    span.end(int(ended_at * NANOSECONDS))
