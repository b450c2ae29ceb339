"""The number of items that are answered at the same time, as the API's rate limits allow.

It doubles until the API asks for a pause for the first time, is halved with each pause, and grows by one a round after
that: the additive increase and multiplicative decrease of TCP (RFC 5681).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mcp_server_claude.engine.rate_limit_cooldown import RateLimitCooldown

INITIAL_CONCURRENCY = 8


class AdaptiveConcurrency:
    """The concurrency of this process for one model, between 1 and a maximum."""

    def __init__(self, max_concurrent: int, cooldown: RateLimitCooldown) -> None:
        self._max = max_concurrent
        self._current = float(min(max_concurrent, INITIAL_CONCURRENCY))
        self._cooldown = cooldown
        self._pauses = cooldown.pauses
        self._is_probing = True

    @property
    def limit(self) -> int:
        """The number of items that may run now, never more than the API has requests left for."""
        self._take_pauses()
        limit = int(self._current)
        if self._cooldown.requests_remaining is not None:
            limit = min(limit, self._cooldown.requests_remaining)
        return max(1, limit)

    def record_answer(self) -> None:
        """Grow after an item that was answered."""
        self._take_pauses()
        self._current = min(self._max, self._current + (1 if self._is_probing else 1 / self._current))

    def _take_pauses(self) -> None:
        """Halve once for all pauses since the last look: those of one burst say the same thing."""
        if self._cooldown.pauses != self._pauses:
            self._pauses = self._cooldown.pauses
            self._is_probing = False
            self._current = max(1.0, self._current / 2)
