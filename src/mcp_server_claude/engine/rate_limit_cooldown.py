"""A cooldown shared by all calls: when the API asks one of them to wait, the others wait too."""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import anyio

from mcp_server_claude.call_types import Waiting
from mcp_server_claude.errors import TemporaryError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp_server_claude.call_types import Listener

MAX_SHARED_PAUSE_S = 60.0
RESUME_JITTER_S = 0.5
"""Seconds over which the waiting calls resume."""


class RateLimitCooldown:
    """The moment before which no request is sent."""

    def __init__(self) -> None:
        self._until = 0.0

    def pause_for(self, seconds: float) -> None:
        """Pause all calls. A pause longer than `MAX_SHARED_PAUSE_S` is ignored; each call then gets its own 429."""
        if seconds <= MAX_SHARED_PAUSE_S:
            self._until = max(self._until, time.monotonic() + seconds)

    def update_from_headers(self, headers: Mapping[str, str]) -> None:
        """Pause until the reset where the `anthropic-ratelimit-*` headers say that no request is left."""
        if headers.get("anthropic-ratelimit-requests-remaining") == "0":
            self.pause_for(_seconds_until(headers.get("anthropic-ratelimit-requests-reset", "")))

    async def wait_until_clear(self, listener: Listener, *, timeout_s: float) -> None:
        """Wait for the end of the cooldown, also if it is extended meanwhile.

        Raises:
            TemporaryError: The cooldown will not end within `timeout_s` seconds.
        """
        until = time.monotonic() + timeout_s
        while (left := self._until - time.monotonic()) > 0:
            if self._until > until:
                message = f"The rate limit of this API key is reached. Try again in {left:.0f} s."
                raise TemporaryError(message, kind="rate_limit", retry_after_s=left)
            listener(Waiting("the rate limit is reached", left))
            await anyio.sleep(left + random.uniform(0, RESUME_JITTER_S))  # noqa: S311 - spreads callers, guards no secret


def _seconds_until(timestamp: str) -> float:
    """Seconds until an RFC 3339 timestamp; 0 if it is past or malformed."""
    try:
        at = datetime.fromisoformat(timestamp)
    except ValueError:
        return 0.0
    return max(0.0, ((at if at.tzinfo else at.replace(tzinfo=UTC)) - datetime.now(UTC)).total_seconds())
