"""A cooldown shared by the calls to a model: when the API asks one of them to wait, the others wait too.

The API limits each model by itself, in a token bucket that fills continuously; the models of Opus 4 share a limit, and
so do those of Sonnet 4 (https://platform.claude.com/docs/en/api/rate-limits, as documented by November 2026).
"""

from __future__ import annotations

import random
import re
import time
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import anyio

from mcp_server_claude.call_types import Waiting
from mcp_server_claude.errors import TemporaryError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mcp_server_claude.call_types import Listener

MAX_SHARED_PAUSE_S = 60.0
MIN_PUBLISHED_PAUSE_S = 1.0
"""Seconds of a pause below which other servers do not learn of it: it would be over before they do."""
RESUME_JITTER_S = 0.5
"""Seconds over which the waiting calls resume."""
SHARED_LIMIT = re.compile(r"(?:opus|sonnet)-4(?!\d)")
"""The part of a model's id that names a limit which several models share."""
MAX_MODELS = 1_000
MAX_DIGITS = 15
"""Digits of a number in a header that is believed."""
REQUESTS_LIMIT, REQUESTS_REMAINING, REQUESTS_RESET = (
    f"anthropic-ratelimit-requests-{name}" for name in ("limit", "remaining", "reset")
)


class RateLimitCooldown:
    """The moment before which no request is sent to a model."""

    def __init__(self, publish: Callable[[float], None] | None = None) -> None:
        """`publish` gets the seconds of each longer pause, for other servers with the same key."""
        self._publish = publish
        self._until = 0.0
        self.pauses = 0
        """Number of pauses so far."""
        self.requests_remaining: int | None = None
        """Requests left in the API's current window, as the latest response reported; None if unknown."""

    @property
    def is_clear(self) -> bool:
        """True if requests can be sent."""
        return self._until <= time.monotonic()

    def pause_for(self, seconds: float) -> None:
        """Pause all calls. A pause longer than `MAX_SHARED_PAUSE_S` is ignored; each call then gets its own 429."""
        self.pauses += 1
        if seconds <= MAX_SHARED_PAUSE_S:
            self._until = max(self._until, time.monotonic() + seconds)
            if self._publish is not None and seconds >= MIN_PUBLISHED_PAUSE_S:
                self._publish(seconds)

    def extend_pause(self, seconds: float) -> None:
        """Pause for as long as another server does, which the API asked to."""
        until = time.monotonic() + min(seconds, MAX_SHARED_PAUSE_S)
        if until > self._until + MIN_PUBLISHED_PAUSE_S:
            self.pauses += 1
            self._until = until

    def update_from_headers(self, headers: Mapping[str, str]) -> None:
        """Pause until one request is free where the `anthropic-ratelimit-*` headers say that none is left.

        The reset is the moment at which the whole bucket is full again, so one request is free after that time divided
        by the limit. Without a limit that is not known, and nothing waits: the API answers 429 if it must.
        """
        limit = _decimal_number(headers.get(REQUESTS_LIMIT, ""))
        self.requests_remaining = _decimal_number(headers.get(REQUESTS_REMAINING, ""))
        if self.requests_remaining == 0 and limit:
            self.pause_for(_seconds_until(headers.get(REQUESTS_RESET, "")) / limit)

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


class RateLimitCooldowns:
    """The cooldowns of all models."""

    def __init__(self) -> None:
        self._by_limit: dict[str, RateLimitCooldown] = {}
        self._publish: Callable[[str, float], None] | None = None

    def publish_to(self, publish: Callable[[str, float], None]) -> None:
        """`publish` gets the name of a rate limit and the seconds of its pause, of each pause that begins from now."""
        self._publish = publish

    def extend_pauses(self, seconds_by_limit: Mapping[str, float]) -> None:
        """Take over the pauses of other servers, by the names of their rate limits."""
        for name, seconds in seconds_by_limit.items():
            self._named(name).extend_pause(seconds)

    def for_model(self, model_id: str) -> RateLimitCooldown:
        """The cooldown of the rate limit that counts for a model."""
        shared = SHARED_LIMIT.search(model_id)
        return self._named(shared[0] if shared else model_id)

    def _named(self, name: str) -> RateLimitCooldown:
        if name not in self._by_limit and len(self._by_limit) >= MAX_MODELS:
            self._by_limit = {name: each for name, each in self._by_limit.items() if not each.is_clear}
        return self._by_limit.setdefault(name, RateLimitCooldown(partial(self._publish_pause, name)))

    def _publish_pause(self, name: str, seconds: float) -> None:
        if self._publish is not None:
            self._publish(name, seconds)


def _decimal_number(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) <= MAX_DIGITS else None


def _seconds_until(timestamp: str) -> float:
    """Seconds until an RFC 3339 timestamp; 0 if it is past or malformed."""
    try:
        at = datetime.fromisoformat(timestamp)
    except ValueError:
        return 0.0
    return max(0.0, ((at if at.tzinfo else at.replace(tzinfo=UTC)) - datetime.now(UTC)).total_seconds())
