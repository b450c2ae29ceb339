"""Answers that are read while they are written, from the start or from where a reader left off.

A call that is begun here belongs to no request: readers come and go, and it goes on for as long as somebody reads, or
did a short while ago. A place in an answer is a number of its characters. So it means the same in the memory of this
process, where running calls are followed as they grow, and in the journal, where all others are read.
"""

from __future__ import annotations

import logging
import math
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio

from mcp_server_claude.calls import answer_feed_final_events
from mcp_server_claude.calls.answer_feed_events import Account, End, Failed, Piece, Start, Status, Told
from mcp_server_claude.calls.answer_feed_live import LARGEST, Live
from mcp_server_claude.calls.running_calls import BY_READER
from mcp_server_claude.errors import Failure, Misconfigured, Refused
from mcp_server_claude.store import StoreError, call_journal

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence

    from anyio.abc import TaskGroup

    from mcp_server_claude.call_types import Call, Produced
    from mcp_server_claude.calls.answer_feed_events import Telling
    from mcp_server_claude.calls.running_calls import Jobs, Running
    from mcp_server_claude.settings import Settings
    from mcp_server_claude.store import Store

__all__ = ["Account", "End", "Failed", "Piece", "Start", "Status", "Streams", "Told"]

PATIENCE_S = 2.0
"""Seconds in which a call that fails at once can still be refused, before it counts as a stream."""
ARRIVE_S = 10.0
"""Seconds that the first reader of a call has to come, however short the grace."""
GATHER_S = 0.05
"""Seconds over which text is gathered for one reader once the first has been sent."""
POLL_S = 0.25
SWEEP_S = 5.0
LINGER_S = 60.0
"""Seconds at most that an answer stays in memory when it is finished; then the journal has it."""

_log = logging.getLogger(__name__)


class Streams:
    """The answers that are being read."""

    def __init__(
        self,
        settings: Settings,
        jobs: Jobs,
        store: Store,
        *,
        sweep: Callable[[], Awaitable[None]],
        made: Callable[[str, str], Awaitable[Sequence[Produced]]],
        warmed: anyio.Event,
        tasks: TaskGroup,
    ) -> None:
        """`sweep` closes the calls of dead processes; `made` knows the files of a call; `warmed` is set once what
        all calls need is there, or is not.
        """
        self._grace = settings.reader_grace_s
        self._default = settings.model
        self._jobs = jobs
        self._store = store
        self._sweep = sweep
        self._made = made
        self._warmed = warmed
        self._swept_at = 0.0
        self._tasks = tasks
        self._live: dict[str, Live] = {}
        self._leaving = anyio.Event()
        self._heeded: list[object] = []

    @property
    def held(self) -> int:
        """How many answers are in memory."""
        return len(self._live)

    async def begin(self, call: Call) -> Call:
        """Begin a call; returns it, with its conversation's id, when it shows a sign of life, or after `PATIENCE_S`.

        Raises:
            Failure: It failed before there was anything to tell; see `Jobs.ask`.
        """
        await self._warmed.wait()  # a server that has just started imports for seconds: no sign of what the call does
        if self._leaving.is_set():
            raise answer_feed_final_events.shutdown()
        live = self._attend(self._jobs.begin(call), ours=True)
        try:
            with anyio.move_on_after(PATIENCE_S):
                await live.heard.wait()
        finally:
            if not live.readers:
                live.running.allow(max(self._grace, ARRIVE_S))
        outcome = live.running.outcome
        if isinstance(outcome, Exception) and not live.statuses:
            self._live.pop(call.id, None)
            self._jobs.delivered(call.id)  # its sentence is all that there will be
            raise outcome
        return live.running.call

    async def read(self, call_id: str, user: str, offset: int = 0) -> AsyncGenerator[Told]:
        """What a user's call tells from a character on, to its end. Returns the events, which come as they happen.

        Raises:
            Refused: There is no such call, its text is not kept any more, or it is shorter than that.
            Misconfigured: The journal could not be read.
        """
        live = self._live.get(call_id)
        if live is None and (running := self._jobs.running(call_id, user)):
            live = self._attend(running, ours=False)
        if live is not None and live.running.call.user == user:
            if offset > live.running.text.chars:
                raise answer_feed_final_events.beyond(live.running.text.chars)
            return self._follow(live, offset)
        kept = await self._look(call_id, user, offset)
        if kept.record.state == "closed":
            if offset > kept.record.chars:
                raise answer_feed_final_events.beyond(kept.record.chars)
            if kept.missing and not kept.text:
                raise answer_feed_final_events.forgotten()
        return self._replay(kept, user, offset)

    async def stop(self, call_id: str, user: str) -> bool:
        """Stop a user's call; False when it has ended already. One of another process ends within a second or two.

        Raises:
            Refused: There is no such call.
            Misconfigured: The journal could not be read.
        """
        if await self._jobs.stop(call_id, user, BY_READER):
            return True
        if call_id not in self._live or self._live[call_id].running.call.user != user:
            await self._look(call_id, user, 0)
        return False

    def drain(self) -> None:
        """The server is about to end: every reader is told so, and how to go on."""
        self._leaving.set()
        for live in self._live.values():
            live.press()

    def heed(self, leaving: anyio.Event) -> None:
        """`drain` when this event is set."""
        if leaving not in self._heeded:
            self._heeded.append(leaving)
            self._tasks.start_soon(self._drain_at, leaving)

    async def _drain_at(self, leaving: anyio.Event) -> None:
        await leaving.wait()
        self.drain()

    def _attend(self, running: Running, *, ours: bool) -> Live:
        live = self._live[running.call.id] = Live(running, running.call.model or self._default, ours=ours)
        running.ears.append(live.hear)
        self._tasks.start_soon(self._tend, live)
        return live

    async def _tend(self, live: Live) -> None:
        """See a call to its end, and keep it in memory for who has lost the line and comes back."""
        try:
            await live.running.done.wait()
        except BaseException:  # the services close, and the call with them
            self.drain()
            raise
        live.press()
        bug = live.running.outcome
        if isinstance(bug, Exception) and not isinstance(bug, Failure):
            _log.error("call %s met a fault of this server", live.running.call.id, exc_info=bug)
        await anyio.sleep(max(ARRIVE_S, min(self._grace, LINGER_S)))
        self._live.pop(live.running.call.id, None)

    async def _follow(self, live: Live, offset: int) -> AsyncGenerator[Told]:
        """A call of this process, as it grows."""
        running = live.running
        with self._reading(live):
            seen = live.newest()
            yield Told(offset, Start(running.call.id, running.call.thread, live.model))
            rested = 0.0
            while True:
                while (found := live.after(offset, seen)) is not None:
                    event, offset, seen = found
                    if isinstance(event, Piece):
                        rested = anyio.current_time() + GATHER_S
                    yield Told(offset, event)
                if running.done.is_set() or self._leaving.is_set():
                    break
                await live.news(rested)
            for event in answer_feed_final_events.of(running.outcome):
                yield Told(offset, await self._with_files(event, running.call.id, running.call.user))
            if live.ours:
                self._jobs.delivered(running.call.id)

    @contextmanager
    def _reading(self, live: Live) -> Generator[None]:
        """While somebody reads, a call may take as long as it takes."""
        live.readers += 1
        if live.ours:
            live.running.allow(math.inf)
        try:
            yield
        finally:
            live.readers -= 1
            if live.ours and not live.readers:
                live.running.allow(self._grace)

    async def _replay(self, kept: call_journal.Tail, user: str, offset: int) -> AsyncGenerator[Told]:
        """A call that has ended or runs elsewhere, as the journal comes to know of it."""
        record = kept.record
        yield Told(offset, Start(record.id, record.thread or "", record.model))
        while True:
            for start in range(0, len(kept.text), LARGEST):
                piece = kept.text[start : start + LARGEST]
                offset += len(piece)
                yield Told(offset, Piece(piece))
            if ending := self._ended(kept, offset):
                break
            with anyio.move_on_after(POLL_S):
                await self._leaving.wait()
            try:
                kept = await self._again(record.id, user, offset)
            except Failure as failure:
                ending = answer_feed_final_events.of(failure)
                break
        for event in ending:
            yield Told(offset, await self._with_files(event, record.id, user))
        if kept.record.state == "closed":
            self._jobs.delivered(record.id)

    async def _with_files(self, event: Telling, call_id: str, user: str) -> Telling:
        """The last event names what files there are; without a ledger there are none."""
        if not isinstance(event, End):
            return event
        with suppress(Failure):
            return replace(event, files=tuple(await self._made(call_id, user)))
        return event

    def _ended(self, kept: call_journal.Tail, offset: int) -> list[Telling]:
        """What there is to say when nothing more will come, else nothing."""
        if kept.missing:
            return answer_feed_final_events.of(answer_feed_final_events.gap())
        if kept.record.state == "closed":
            return (
                answer_feed_final_events.of(answer_feed_final_events.beyond(kept.record.chars))
                if offset > kept.record.chars
                else answer_feed_final_events.kept(kept.record)
            )
        return answer_feed_final_events.of(answer_feed_final_events.shutdown()) if self._leaving.is_set() else []

    async def _again(self, call_id: str, user: str, offset: int) -> call_journal.Tail:
        """Another look; now and then also whether the process that runs the call is alive."""
        if time.monotonic() - self._swept_at > SWEEP_S:
            self._swept_at = time.monotonic()
            await self._sweep()
        return await self._look(call_id, user, offset, again=True)

    async def _look(self, call_id: str, user: str, offset: int, *, again: bool = False) -> call_journal.Tail:
        """A user's call as the journal has it, the first time after whatever was posted of it here.

        Raises:
            Refused: There is no such call.
            Misconfigured: The journal could not be read.
        """
        lane = self._store.read if again else self._store.write
        try:
            kept = await lane(call_journal.tail, call_id, user, offset)
        except StoreError as error:
            raise Misconfigured(f"The journal could not be read: {error}", kind="ledger") from error
        if kept is None:
            raise Refused("There is no call of that id.", kind="not_found")
        return kept
