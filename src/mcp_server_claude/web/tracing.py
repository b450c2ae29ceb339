"""OpenTelemetry of the HTTP layer: FastAPI's spans for `/chat`, and `traceparent` headers for MCP messages.

`/mcp` is left to the MCP SDK, which creates a span for each message and takes the parent from the message's `_meta`,
to which the header's trace context is copied. A FastAPI span would be misleading: a session of 2025-11-25 lives in the
request that created it, so all its calls would be children of that request. Paths and queries of the pages are private.
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
    """MCP middleware: copy the HTTP request's trace context into `_meta` if the message has none.

    Many clients set only the header.
    """
    request = cast("Request | None", ctx.request)
    meta: dict[str, Any] = {**(ctx.meta or {})}
    if request is None or TRACEPARENT in meta or TRACEPARENT not in request.headers:
        return await call_next(ctx)
    meta |= {name: request.headers[name] for name in (TRACEPARENT, TRACESTATE) if name in request.headers}
    return await call_next(replace(ctx, meta=cast("RequestParamsMeta", meta)))


def _is_untraced(scope: MutableMapping[str, Any]) -> bool:
    return scope["type"] != "http" or not (scope["path"] == CHAT_PATH or scope["path"].startswith(f"{CHAT_PATH}/"))


TELEMETRY_CONFIG: TelemetryConfig = {
    "auto_configure": False,  # `telemetry` has configured it
    "operation_spans": False,
    "logs": False,  # they would contain invalid requests
    "exclude": _is_untraced,
}
"""For `FastAPI(telemetry=…)`."""
