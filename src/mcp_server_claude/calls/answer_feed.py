"""Answers that are read while they are written, from the start or from where a reader left off.

A call that is started here belongs to no request. It runs as long as it has readers, and for a grace period after the
last one. Offsets count characters, so they are valid for running calls, in memory, and for all others, in the journal.
"""

from __future__ import annotations

import math
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio

from mcp_server_claude.calls import answer_feed_final_events
from mcp_server_claude.calls.answer_feed_events import (
    DoneEvent,
    ErrorEvent,
    FeedEvent,
    KeepAliveEvent,
    StartEvent,
    StatusEvent,
    TextEvent,
    UsageEvent,
)
from mcp_server_claude.calls.answer_feed_live import MAX_TEXT_EVENT_CHARS, LiveCall, LiveReader
from mcp_server_claude.calls.running_calls import STOPPED_BY_READER
from mcp_server_claude.errors import CallError, UnknownIdError
from mcp_server_claude.store import call_journal, store_errors_as

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence

    from anyio.abc import TaskGroup

    from mcp_server_claude.call_types import Call, OutputFile
    from mcp_server_claude.calls.answer_feed_events import FeedPayload
    from mcp_server_claude.calls.running_calls import CallRegistry, RunningCall
    from mcp_server_claude.settings import Settings
    from mcp_server_claude.store import Store

__all__ = [
    "AnswerFeed",
    "DoneEvent",
    "ErrorEvent",
    "FeedEvent",
    "KeepAliveEvent",
    "StartEvent",
    "StatusEvent",
    "TextEvent",
    "UsageEvent",
]

START_TIMEOUT_S = 2.0
"""Seconds in which a call that fails at once can still be refused, before it counts as a stream."""
FIRST_READER_TIMEOUT_S = 10.0
"""Seconds that the first reader of a call has to come, however short the grace."""
BATCH_INTERVAL_S = 0.04
"""Seconds over which text is gathered for one reader once the first has been sent."""
KEEP_ALIVE_INTERVAL_S = 15.0
"""Seconds of silence after which a reader gets a `KeepAliveEvent`."""
JOURNAL_POLL_INTERVAL_S = 0.25
ORPHAN_CHECK_INTERVAL_S = 5.0
MAX_RETAIN_S = 60.0
"""Seconds at most that an answer stays in memory when it is finished; then the journal has it."""


class AnswerFeed:
    """The answers that are being read."""

    def __init__(
        self,
        settings: Settings,
        calls: CallRegistry,
        store: Store,
        *,
        close_orphans: Callable[[], Awaitable[None]],
        list_files: Callable[[str, str], Awaitable[Sequence[OutputFile]]],
        startup_finished: anyio.Event,
        task_group: TaskGroup,
    ) -> None:
        """`close_orphans` closes the calls of dead processes, and `list_files` lists the files of a user's call.

        `startup_finished` is set once what all calls need is there, or has failed.
        """
        self._reader_grace_s = settings.reader_grace_s
        self._default_model = settings.model
        self._calls = calls
        self._store = store
        self._close_orphans = close_orphans
        self._list_files = list_files
        self._startup_finished = startup_finished
        self._orphans_closed_at = 0.0
        self._task_group = task_group
        self._live_calls: dict[str, LiveCall] = {}
        self._shutting_down = anyio.Event()
        self._watched_events: list[object] = []

    @property
    def answers_in_memory(self) -> int:
        """The number of answers in memory."""
        return len(self._live_calls)

    async def start_answer(self, call: Call) -> Call:
        """Start a call. Returns it, with the id of its thread, after its first event or `START_TIMEOUT_S`.

        Raises:
            CallError: It failed before its first event; see `CallRegistry.run_call`.
        """
        await (
            self._startup_finished.wait()
        )  # a server that has just started imports for seconds: no sign of what the call does
        if self._shutting_down.is_set():
            raise answer_feed_final_events.shutdown_error()
        live = self._add_live_call(self._calls.start_call(call), owned=True)
        try:
            with anyio.move_on_after(START_TIMEOUT_S):
                await live.first_event.wait()
        finally:
            if not live.readers:
                live.running_call.set_time_left(max(self._reader_grace_s, FIRST_READER_TIMEOUT_S))
        outcome = live.running_call.outcome
        if isinstance(outcome, Exception) and not live.statuses:
            self._live_calls.pop(call.id, None)
            self._calls.mark_delivered(call.id)  # its sentence is all that there will be
            raise outcome
        return live.running_call.call

    async def follow_answer(
        self, call_id: str, user: str, offset: int = 0, *, send_now: Callable[[FeedEvent], bool] | None = None
    ) -> AsyncGenerator[FeedEvent]:
        """Events of a user's call from a character offset to its end, as they happen.

        While the next event is waited for, text may be passed to `send_now` instead, which returns False if it does not
        take the event. It must not wait, nor change anything if it raises an error.

        Raises:
            RequestError: There is no such call, its text was deleted, or it is shorter than that.
            ConfigurationError: The journal could not be read.
        """
        live = self._live_calls.get(call_id)
        if live is None and (running := self._calls.find_running(call_id, user)):
            live = self._add_live_call(running, owned=False)
        if live is not None and live.running_call.call.user == user:
            if offset > live.running_call.text.chars:
                raise answer_feed_final_events.offset_too_large(live.running_call.text.chars)
            return self._follow_running(live, offset, send_now)
        journaled = await self._read_journal(call_id, user, offset)
        if journaled.call.state == "closed":
            if offset > journaled.call.chars:
                raise answer_feed_final_events.offset_too_large(journaled.call.chars)
            if journaled.missing and not journaled.text:
                raise answer_feed_final_events.text_deleted()
        return self._replay_from_journal(journaled, user, offset)

    async def stop_answer(self, call_id: str, user: str) -> bool:
        """Stop a user's call; False when it has ended already. One of another process ends within a second or two.

        Raises:
            RequestError: There is no such call.
            ConfigurationError: The journal could not be read.
        """
        if await self._calls.stop_call(call_id, user, STOPPED_BY_READER):
            return True
        if call_id not in self._live_calls or self._live_calls[call_id].running_call.call.user != user:
            await self._read_journal(call_id, user, 0)
        return False

    def drain_readers(self) -> None:
        """Send every reader the events of a shutdown, with the way to resume."""
        self._shutting_down.set()
        for live in self._live_calls.values():
            live.stop_waiting()

    def drain_readers_when(self, shutdown_event: anyio.Event) -> None:
        """Call `drain_readers` when this event is set."""
        if shutdown_event not in self._watched_events:
            self._watched_events.append(shutdown_event)
            self._task_group.start_soon(self._drain_readers_at, shutdown_event)

    async def _drain_readers_at(self, shutdown_event: anyio.Event) -> None:
        await shutdown_event.wait()
        self.drain_readers()

    def _add_live_call(self, running: RunningCall, *, owned: bool) -> LiveCall:
        live = self._live_calls[running.call.id] = LiveCall(
            running, running.call.model or self._default_model, owned=owned
        )
        running.listeners.append(live.record_event)
        self._task_group.start_soon(self._retain_until_read, live)
        return live

    async def _retain_until_read(self, live: LiveCall) -> None:
        """Wait for the end of a call, and keep it in memory for readers that reconnect."""
        try:
            await live.running_call.done.wait()
        except BaseException:  # the services close, and the call with them
            self.drain_readers()
            raise
        live.stop_waiting()
        await anyio.sleep(max(FIRST_READER_TIMEOUT_S, min(self._reader_grace_s, MAX_RETAIN_S)))
        self._live_calls.pop(live.running_call.call.id, None)

    async def _follow_running(
        self, live: LiveCall, offset: int, send_now: Callable[[FeedEvent], bool] | None
    ) -> AsyncGenerator[FeedEvent]:
        """A call of this process, as it grows."""
        running = live.running_call
        with self._reader_scope(live), live.subscribe() as update:
            reader = LiveReader(
                live,
                update,
                offset,
                interval_s=BATCH_INTERVAL_S,
                keep_alive_s=KEEP_ALIVE_INTERVAL_S,
                send_now=send_now,
            )
            yield FeedEvent(offset, StartEvent(running.call.id, running.call.thread, live.model))
            while True:
                while (event := reader.next_event()) is not None:
                    yield event
                if running.done.is_set() or self._shutting_down.is_set():
                    break
                if not await reader.wait_for_event():
                    yield FeedEvent(reader.offset, KeepAliveEvent())
            for final in answer_feed_final_events.events_for_outcome(running.outcome):
                payload = await self._add_output_files(final, running.call.id, running.call.user)
                yield FeedEvent(reader.offset, payload)
            if live.owned:
                self._calls.mark_delivered(running.call.id)

    @contextmanager
    def _reader_scope(self, live: LiveCall) -> Generator[None]:
        """Suspend the time limit of a call while it has a reader."""
        live.readers += 1
        if live.owned:
            live.running_call.set_time_left(math.inf)
        try:
            yield
        finally:
            live.readers -= 1
            if live.owned and not live.readers:
                live.running_call.set_time_left(self._reader_grace_s)

    async def _replay_from_journal(
        self, journaled: call_journal.TextFromOffset, user: str, offset: int
    ) -> AsyncGenerator[FeedEvent]:
        """A call that has ended or runs elsewhere, as the journal records it."""
        record = journaled.call
        yield FeedEvent(offset, StartEvent(record.id, record.thread or "", record.model))
        sent_at = time.monotonic()
        while True:
            for start in range(0, len(journaled.text), MAX_TEXT_EVENT_CHARS):
                piece = journaled.text[start : start + MAX_TEXT_EVENT_CHARS]
                offset += len(piece)
                yield FeedEvent(offset, TextEvent(piece))
                sent_at = time.monotonic()
            if time.monotonic() - sent_at > KEEP_ALIVE_INTERVAL_S:
                yield FeedEvent(offset, KeepAliveEvent())
                sent_at = time.monotonic()
            if ending := self._final_events(journaled, offset):
                break
            with anyio.move_on_after(JOURNAL_POLL_INTERVAL_S):
                await self._shutting_down.wait()
            try:
                journaled = await self._poll_journal(record.id, user, offset)
            except CallError as failure:
                ending = answer_feed_final_events.events_for_outcome(failure)
                break
        for event in ending:
            yield FeedEvent(offset, await self._add_output_files(event, record.id, user))
        if journaled.call.state == "closed":
            self._calls.mark_delivered(record.id)

    async def _add_output_files(self, event: FeedPayload, call_id: str, user: str) -> FeedPayload:
        """The last event names what files there are; without a ledger there are none."""
        if not isinstance(event, DoneEvent):
            return event
        with suppress(CallError):
            return replace(event, files=tuple(await self._list_files(call_id, user)))
        return event

    def _final_events(self, journaled: call_journal.TextFromOffset, offset: int) -> list[FeedPayload]:
        """The last events of an answer that has ended; none while it runs."""
        if journaled.missing:
            return answer_feed_final_events.events_for_outcome(answer_feed_final_events.text_missing())
        if journaled.call.state == "closed":
            return (
                answer_feed_final_events.events_for_outcome(
                    answer_feed_final_events.offset_too_large(journaled.call.chars)
                )
                if offset > journaled.call.chars
                else answer_feed_final_events.events_for_journaled_call(journaled.call)
            )
        return (
            answer_feed_final_events.events_for_outcome(answer_feed_final_events.shutdown_error())
            if self._shutting_down.is_set()
            else []
        )

    async def _poll_journal(self, call_id: str, user: str, offset: int) -> call_journal.TextFromOffset:
        """Another look; now and then also whether the process that runs the call is alive."""
        if time.monotonic() - self._orphans_closed_at > ORPHAN_CHECK_INTERVAL_S:
            self._orphans_closed_at = time.monotonic()
            await self._close_orphans()
        return await self._read_journal(call_id, user, offset, poll=True)

    async def _read_journal(
        self, call_id: str, user: str, offset: int, *, poll: bool = False
    ) -> call_journal.TextFromOffset:
        """A user's call as the journal has it. The first read waits for the writes that are queued in this process.

        Raises:
            RequestError: There is no such call.
            ConfigurationError: The journal could not be read.
        """
        run = self._store.read if poll else self._store.write
        with store_errors_as("The journal could not be read"):
            journaled = await run(call_journal.text_from_offset, call_id, user, offset)
        if journaled is None:
            raise UnknownIdError("call")
        return journaled
