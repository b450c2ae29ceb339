"""The bearer token that can read `/metrics` and nothing else (`MCP_CLAUDE_METRICS_TOKEN`)."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mcp_server_claude.settings import Settings


def has_metrics_token(authorization: str, settings: Settings) -> bool:
    """True if an `Authorization` header carries the metrics token. Compares in constant time."""
    scheme, _, token = authorization.partition(" ")
    expected = settings.metrics_token.get_secret_value() if settings.metrics_token else ""
    if not expected or scheme.lower() != "bearer":
        return False
    return hmac.compare_digest(token.strip().encode("utf-8", "replace"), expected.encode("utf-8", "replace"))
