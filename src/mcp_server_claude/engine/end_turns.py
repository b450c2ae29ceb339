"""Turns for the work at the end of an answer, so that the text of other answers does not wait for it.

The ledger, the conversation and the result of a call cost as much as fifty deltas. Where hundreds of answers end within
a second, that work filled the event loop, and text was late by as much as all of it took. So one answer after the other
begins its end, and only while the loop is on time, but none waits for long. In a call with tools each of its requests
ends so, since nobody knows before whether it was the last.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

INTERVAL_S = 0.001
"""Seconds between two turns at least."""
ON_TIME_S = 0.015
"""Seconds by which the loop may be late for a turn to be given."""
MAX_INTERVAL_S = 0.05
"""Seconds after which a turn is given however late the loop is."""
MAX_WAIT_S = 1.0
"""Seconds that an answer waits at most, or as long as the turns of those before it take."""
OVERDUE_INTERVAL_S = 0.005
"""Seconds for each turn of answers that have waited that long. It is more than an end costs, so that the iterations of
the loop, of which each gives the turns of the one before it, do not grow.
"""


class EndTurns:
    """The turns of one event loop, in the order in which they were asked for.

    `now` returns seconds of the event loop's clock.
    """

    def __init__(self, now: Callable[[], float] | None = None) -> None:
        self._now = now or (lambda: asyncio.get_running_loop().time())
        self._waiting: deque[tuple[float, asyncio.Future[None]]] = deque()
        self._last_turn_at = -MAX_INTERVAL_S

    async def wait_for_turn(self) -> None:
        """Return at once if nobody waits and the last turn is over; otherwise when it is the caller's turn."""
        now = self._now()
        if not self._waiting and now - self._last_turn_at >= INTERVAL_S:
            self._last_turn_at = now
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((now, turn))
        if len(self._waiting) == 1:
            self._schedule()
        await turn

    def _schedule(self) -> None:
        asyncio.get_running_loop().call_later(INTERVAL_S, self._give_turn, self._now() + INTERVAL_S)

    def _give_turn(self, due: float) -> None:
        now, given = self._now(), 0
        overdue_turns = max(1, int((now - self._last_turn_at) / OVERDUE_INTERVAL_S))
        while self._waiting:
            since, turn = self._waiting[0]
            if not turn.done():  # else its task was cancelled
                is_overdue = now - since >= MAX_WAIT_S
                if given >= (overdue_turns if is_overdue else 1) or not (is_overdue or self._is_time(now, due)):
                    break
                turn.set_result(None)
                given += 1
            self._waiting.popleft()
        if given:
            self._last_turn_at = now
        if self._waiting:
            self._schedule()

    def _is_time(self, now: float, due: float) -> bool:
        return now - due <= ON_TIME_S or now - self._last_turn_at >= MAX_INTERVAL_S
