"""The brake that all calls share: when the API tells one of them to wait, the others do not storm it meanwhile."""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import anyio

from mcp_server_claude.call_types import Waiting
from mcp_server_claude.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp_server_claude.call_types import Listen

LONGEST_S = 60.0
SPREAD_S = 0.5
"""Seconds over which those who waited come back."""


class Brake:
    """Until when nothing should be sent."""

    def __init__(self) -> None:
        self._until = 0.0

    def pull(self, seconds: float) -> None:
        """The API asked one call to wait so long. What nobody would wait for holds nobody up: each hears it itself."""
        if seconds <= LONGEST_S:
            self._until = max(self._until, time.monotonic() + seconds)

    def read(self, headers: Mapping[str, str]) -> None:
        """Heed the `anthropic-ratelimit-*` headers of a response: with no request left, wait for the reset."""
        if headers.get("anthropic-ratelimit-requests-remaining") == "0":
            self.pull(_seconds_until(headers.get("anthropic-ratelimit-requests-reset", "")))

    async def wait(self, listen: Listen, *, patience_s: float) -> None:
        """Wait while it is on, telling so; it may be pulled anew meanwhile.

        Raises:
            Unavailable: It will not be off within `patience_s` seconds.
        """
        until = time.monotonic() + patience_s
        while (left := self._until - time.monotonic()) > 0:
            if self._until > until:
                message = f"The rate limit of this API key is reached. Try again in {left:.0f} s."
                raise Unavailable(message, kind="rate_limit", retry_after_s=left)
            listen(Waiting("the rate limit is reached", left))
            await anyio.sleep(left + random.uniform(0, SPREAD_S))  # noqa: S311 - spreads callers, guards no secret


def _seconds_until(moment: str) -> float:
    """Seconds until an RFC 3339 moment, 0 when it is none or past."""
    try:
        at = datetime.fromisoformat(moment)
    except ValueError:
        return 0.0
    return max(0.0, ((at if at.tzinfo else at.replace(tzinfo=UTC)) - datetime.now(UTC)).total_seconds())
