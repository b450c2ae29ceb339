"""How many calls a user may begin in a minute and have at once, in this process; money is the engine's business."""

from __future__ import annotations

import math
import time
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mcp_server_claude.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from mcp_server_claude.call_types import Call, Limits

MINUTE = 60.0


@dataclass(slots=True)
class _Seat:
    """What one user has done of late: when calls were begun, and how many are running."""

    begun: deque[float] = field(default_factory=deque[float])
    running: int = 0

    def forget(self, before: float) -> None:
        while self.begun and self.begun[0] <= before:
            self.begun.popleft()


class Limiter:
    """Lets calls in, or says when to come again. Knows only who asked of late, or has calls running."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` tells seconds."""
        self._clock = clock
        self._seats: dict[str, _Seat] = {}
        self._swept = clock()

    @property
    def users(self) -> frozenset[str]:
        """Those whose calls are remembered."""
        return frozenset(self._seats)

    @contextmanager
    def admit(self, call: Call) -> Generator[None]:
        """Count a call for as long as the block runs.

        Raises:
            Unavailable: Its user has as many calls running, or has begun as many in a minute, as `call.limits` allow.
        """
        limits = call.limits
        if not limits.calls_per_minute and not limits.concurrent:
            yield
            return
        now = self._clock()
        self._sweep(now)
        seat = self._seats.setdefault(call.user, _Seat())
        seat.forget(now - MINUTE)
        _check(seat, limits, now)
        if limits.calls_per_minute:
            seat.begun.append(now)
        seat.running += 1
        try:
            yield
        finally:
            seat.running -= 1

    def _sweep(self, now: float) -> None:
        """Once a minute, drop the seats of users who have gone."""
        if now < self._swept + MINUTE:
            return
        self._swept = now
        for seat in self._seats.values():
            seat.forget(now - MINUTE)
        self._seats = {user: seat for user, seat in self._seats.items() if seat.running or seat.begun}


def _check(seat: _Seat, limits: Limits, now: float) -> None:
    """Refuse a call that is one too many; such a call does not count.

    Raises:
        Unavailable: It is.
    """
    if limits.concurrent and seat.running >= limits.concurrent:
        raise Unavailable(
            f"You have {_calls(seat.running)} running, and may have {limits.concurrent}. Wait for one to end, or stop "
            "one.",
            kind="user_busy",
        )
    if limits.calls_per_minute and len(seat.begun) >= limits.calls_per_minute:
        # A limit that was lowered meanwhile: the call after so many that are still counted.
        wait = seat.begun[-limits.calls_per_minute] + MINUTE - now
        raise Unavailable(
            f"You may begin {_calls(limits.calls_per_minute)} a minute. Try again in {math.ceil(wait)} s.",
            kind="user_rate",
            retry_after_s=wait,
        )


def _calls(count: int) -> str:
    return f"{count} call" if count == 1 else f"{count} calls"
