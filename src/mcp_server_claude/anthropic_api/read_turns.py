"""Turns for streams that arrive at full speed: one of them is parsed in each iteration of the event loop.

Whatever else waits for the loop, such as another tool's answer, takes several iterations. With ten streams parsed in
each, it would wait for all ten several times (benchmarks/, row "another tool's answer").

Threads wait too. The loop gives up the interpreter's lock in each system call, for a microsecond, and has it again
before a waiting thread is awake; a thread that is signalled so often never waits for the interval after which it may
demand the lock. Such a thread waited for a tenth of a second. So the loop pauses once in a while.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from collections.abc import Callable

THREADS_INTERVAL_S = 0.005
"""Seconds between two pauses for threads, while streams wait for their turn."""
THREADS_PAUSE_S = 0.0001
"""Seconds of such a pause, in which a thread that waits for the interpreter's lock wakes up and gets it."""


class ReadTurns:
    """The turns of one event loop, in the order in which they were asked for.

    `now` returns seconds of a monotonic clock, and `pause` waits for so many.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic, pause: Callable[[float], None] = time.sleep) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_taken = False
        self._now = now
        self._pause = pause
        self._next_pause_at = 0.0

    @classmethod
    def of_running_loop(cls) -> ReadTurns:
        """The turns of the running event loop."""
        loop = asyncio.get_running_loop()
        turns = _turns.get(loop)
        if turns is None:
            turns = _turns[loop] = cls()
        return turns

    async def wait_for_turn(self) -> None:
        """Return at once if nobody has had a turn in this iteration of the loop; otherwise in a later one."""
        if not self._is_taken:
            self._is_taken = True
            asyncio.get_running_loop().call_soon(self._give_next_turn)
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        await turn

    def _give_next_turn(self) -> None:
        self._pause_for_threads()
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # it is done if its task was cancelled
                turn.set_result(None)
                asyncio.get_running_loop().call_soon(self._give_next_turn)
                return
        self._is_taken = False

    def _pause_for_threads(self) -> None:
        if self._waiting and (now := self._now()) >= self._next_pause_at:
            self._next_pause_at = now + THREADS_INTERVAL_S
            self._pause(THREADS_PAUSE_S)


# No value refers to its loop, else no entry would ever be dropped.
_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, ReadTurns] = WeakKeyDictionary()
