"""Rate limit for each user in this process: calls started a minute, and calls at once. Budgets belong to the engine."""

from __future__ import annotations

import math
import time
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mcp_server_claude import number_formatting
from mcp_server_claude.errors import TemporaryError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from mcp_server_claude.call_types import Call, Limits

WINDOW_S = 60.0


@dataclass(slots=True)
class UserWindow:
    """The recent calls of one user: their start times, and the number that run now."""

    started_at: deque[float] = field(default_factory=deque[float])
    running_calls: int = 0

    def drop_before(self, moment: float) -> None:
        while self.started_at and self.started_at[0] <= moment:
            self.started_at.popleft()


class UserRateLimiter:
    """Admits calls, or raises with the time of the next free slot. Holds only users with recent or running calls."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` returns seconds."""
        self._clock = clock
        self._windows: dict[str, UserWindow] = {}
        self._last_cleanup_at = clock()

    @property
    def tracked_users(self) -> frozenset[str]:
        """Those whose calls are remembered."""
        return frozenset(self._windows)

    @contextmanager
    def admit_call(self, call: Call) -> Generator[None]:
        """Count a call for as long as the block runs. Those of jobs are not counted: their jobs were.

        Raises:
            TemporaryError: Its user has as many calls running, or has begun as many in a minute, as `call.limits`
            allow.
        """
        limits = call.limits
        if not is_limited(call):
            yield
            return
        now = self._clock()
        self._drop_idle_windows(now)
        seat = self._windows.setdefault(call.user, UserWindow())
        seat.drop_before(now - WINDOW_S)
        raise_if_limited(seat, limits, now)
        if limits.calls_per_minute:
            seat.started_at.append(now)
        seat.running_calls += 1
        try:
            yield
        finally:
            seat.running_calls -= 1

    def _drop_idle_windows(self, now: float) -> None:
        """Drop the windows of idle users, once a minute."""
        if now < self._last_cleanup_at + WINDOW_S:
            return
        self._last_cleanup_at = now
        for seat in self._windows.values():
            seat.drop_before(now - WINDOW_S)
        self._windows = {user: seat for user, seat in self._windows.items() if seat.running_calls or seat.started_at}


def is_limited(call: Call) -> bool:
    """Return True if limits hold for a call. Those of jobs are not counted: their jobs were."""
    return not call.job_id and bool(call.limits.calls_per_minute or call.limits.concurrent)


def raise_if_limited(window: UserWindow, limits: Limits, now: float) -> None:
    """Refuse a call that is one too many; such a call does not count.

    Raises:
        TemporaryError: It is.
    """
    if limits.concurrent and window.running_calls >= limits.concurrent:
        running = number_formatting.format_count(window.running_calls, "call")
        raise TemporaryError(
            f"You have {running} running, and at most {limits.concurrent} are allowed. Wait, or stop one.",
            kind="user_concurrency",
        )
    if limits.calls_per_minute and len(window.started_at) >= limits.calls_per_minute:
        # A limit that was lowered meanwhile: the call after so many that are still counted.
        wait = window.started_at[-limits.calls_per_minute] + WINDOW_S - now
        allowed = number_formatting.format_count(limits.calls_per_minute, "call")
        raise TemporaryError(
            f"You may start {allowed} a minute. Try again in {math.ceil(wait)} s.",
            kind="user_rate_limit",
            retry_after_s=wait,
        )
