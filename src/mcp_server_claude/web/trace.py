"""What FastAPI's own OpenTelemetry tells: a span for each request of `/chat`, in the trace that its header names.

`/mcp` is left to the MCP SDK, which makes a span of each message and takes the trace from the message's `_meta`: a
session of 2025-11-25 lives in the request that began it, and all its calls would hang from that one. Of what people
look at, paths and queries are nobody's business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from fastapi.telemetry import TelemetryConfig

CHAT = "/chat"


def _is_no_call(scope: MutableMapping[str, Any]) -> bool:
    return scope["type"] != "http" or not (scope["path"] == CHAT or scope["path"].startswith(f"{CHAT}/"))


TELEMETRY: TelemetryConfig = {
    "auto_configure": False,  # `telemetry.start` has done it
    "operation_spans": False,
    "logs": False,  # they hold what was asked, where that was wrong
    "exclude": _is_no_call,
}
"""For `FastAPI(telemetry=…)`."""
