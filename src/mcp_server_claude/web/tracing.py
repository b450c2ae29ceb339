"""What FastAPI's own OpenTelemetry tells: a span for each request of `/chat`, in the trace that its header names.

`/mcp` is left to the MCP SDK, which makes a span of each message and takes the trace from the message's `_meta`; here
that is given what the header names. FastAPI's span would be of no use there: a session of 2025-11-25 lives in the
request that began it, and all its calls would hang from that one. Of what people look at, paths and queries are
nobody's business.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from fastapi.telemetry import TelemetryConfig
    from mcp.server.context import CallNext, ServerRequestContext
    from mcp.types import RequestParamsMeta
    from starlette.requests import Request

CHAT_PATH = "/chat"
TRACEPARENT, TRACESTATE = "traceparent", "tracestate"


async def use_http_trace_context(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> Any:
    """Where a message's `_meta` names no trace, that of its HTTP request holds: many clients know only the header."""
    request = cast("Request | None", ctx.request)
    meta: dict[str, Any] = {**(ctx.meta or {})}
    if request is None or TRACEPARENT in meta or TRACEPARENT not in request.headers:
        return await call_next(ctx)
    meta |= {name: request.headers[name] for name in (TRACEPARENT, TRACESTATE) if name in request.headers}
    return await call_next(replace(ctx, meta=cast("RequestParamsMeta", meta)))


def _is_untraced(scope: MutableMapping[str, Any]) -> bool:
    return scope["type"] != "http" or not (scope["path"] == CHAT_PATH or scope["path"].startswith(f"{CHAT_PATH}/"))


TELEMETRY_CONFIG: TelemetryConfig = {
    "auto_configure": False,  # `telemetry.start` has done it
    "operation_spans": False,
    "logs": False,  # they hold what was asked, where that was wrong
    "exclude": _is_untraced,
}
"""For `FastAPI(telemetry=…)`."""
