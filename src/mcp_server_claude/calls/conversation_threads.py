"""Conversations of many turns: the history goes in, the newest turn streams, the answer joins the history."""

from __future__ import annotations

import time
from collections import OrderedDict
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from secrets import token_hex
from typing import TYPE_CHECKING

import anyio

from mcp_server_claude.call_types import Reply, Waiting
from mcp_server_claude.calls.thread_transcripts import (
    ThreadBusy,
    ThreadTranscript,
    TranscriptWithCosts,
    answers_and_cost,
    blocks_to_store,
    find_transcript,
    lock_and_add_question,
    store_answer_and_unlock,
    text_blocks_of,
    with_history,
)
from mcp_server_claude.engine.thread_history import has_definitions, known_definitions
from mcp_server_claude.errors import CallError, RequestError, TemporaryError, UnknownIdError
from mcp_server_claude.store import StoreError, call_journal, store_errors_as
from mcp_server_claude.store import thread_messages as stored

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from mcp_server_claude.call_types import Block, Call, Listener, SentTurn
    from mcp_server_claude.engine.engine import CostEstimate, Engine
    from mcp_server_claude.engine.prepared_call import PreparedCall
    from mcp_server_claude.settings import Settings
    from mcp_server_claude.store import Store
    from mcp_server_claude.store.thread_messages import Thread, ThreadCursor
    from mcp_server_claude.text_log import TextLog

MAX_LATEST_THREADS = 10
THREAD_BUSY = "Another server process is answering in this thread. Try again when it has, or ask without a thread."
THREAD_BUSY_RETRY_S = 5.0
"""Seconds after which a client should retry a locked thread."""
THREAD_POLL_INTERVAL_S = 0.5
"""Seconds between two attempts to lock a thread in which another process answers."""
MAX_REMEMBERED_CONTAINERS = 10_000
"""Conversations of which it is remembered where their code ran."""
THREAD_ID_PREFIX = "t_"
CALL_ID_PREFIX = "c_"


@dataclass(slots=True)
class _ThreadLock:
    """One call at a time for each conversation of this process."""

    lock: anyio.Lock
    waiting_calls: int = 0


class ConversationThreads:
    """Continues conversations, one call at a time each, across restarts and processes."""

    def __init__(self, settings: Settings, engine: Engine, store: Store) -> None:
        self._settings = settings
        self._engine = engine
        self._store = store
        self._thread_locks: dict[str, _ThreadLock] = {}
        self._containers: OrderedDict[str, str] = OrderedDict()
        self._on_delete: Callable[[str], None] | None = None

    def publish_deletions(self, on_delete: Callable[[str], None]) -> None:
        """Call `on_delete` with the user of each conversation that is deleted in this process."""
        self._on_delete = on_delete

    async def answer_in_thread(self, call: Call, listener: Listener, text: TextLog) -> Reply:
        """Answer a call within its conversation, a new one where it names none.

        Raises:
            RequestError: There is no such conversation.
            TemporaryError: Another process is answering in it, until the deadline of the call.
            CallError: See `Engine.run_call`.
        """
        if not self._settings.retention_days:
            if call.thread:
                raise RequestError("This server keeps no threads (MCP_CLAUDE_RETENTION_DAYS=0). Ask without one.")
            return await self._engine.run_call(await self._engine.prepare_call(call, listener), listener, text)
        call = self.assign_thread_id(replace(call, thread=call.thread.strip()))
        if not call.starts_thread:  # it must be there before any files are read, or uploaded
            transcript = await self.read_transcript(call.thread, call.user)
            call = replace(call, model=call.model or transcript.thread.model)
        prepared = await self._engine.prepare_call(call, listener)
        async with self.exclusive_access(prepared, listener):
            return await self._continue_thread(prepared, listener, text)

    async def check_call(self, call: Call) -> Call:
        """Check a call that is to be answered later. Returns it with the ids of its model and of its conversation.

        Raises:
            CallError: There is no such conversation, or the call cannot be sent like this.
        """
        thread_id = call.thread.strip()
        if thread_id:
            transcript = await self.read_transcript(thread_id, call.user)
            call = replace(call, model=call.model or transcript.thread.model)
        prepared = await self._engine.prepare_call(call)
        return self.assign_thread_id(replace(call, model=prepared.model.id))

    async def answer_alone(self, call: Call, listener: Listener, text: TextLog) -> Reply:
        """Answer a call outside of any conversation.

        Raises:
            CallError: See `Engine.run_call`.
        """
        return await self._engine.run_call(await self._engine.prepare_call(call, listener), listener, text)

    def assign_thread_id(self, call: Call) -> Call:
        """The call with the id of its conversation, a fresh one where it names none and threads are kept."""
        if call.thread.strip() or not self._settings.retention_days:
            return call
        return replace(call, thread=f"{THREAD_ID_PREFIX}{token_hex(8)}", starts_thread=True)

    async def estimate_call_cost(self, call: Call) -> tuple[CostEstimate, ...]:
        """Estimate the cost of a call within its conversation; see `Engine.estimate_costs`.

        Raises:
            CallError: There is no such conversation, or the call cannot be sent like this.
        """
        thread_id = call.thread.strip()
        if not thread_id:
            return await self._engine.estimate_costs(await self._engine.prepare_call(call))
        transcript = await self.read_transcript(thread_id, call.user)
        prepared = await self._engine.prepare_call(replace(call, model=call.model or transcript.thread.model))
        return await self._engine.estimate_costs(prepared.with_call(with_history(prepared.call, transcript)))

    async def read_transcript(self, thread_id: str, user: str) -> ThreadTranscript:
        """A user's conversation, whole.

        Raises:
            RequestError: There is none of that id.
            ConfigurationError: It could not be read.
        """
        with store_errors_as("The thread could not be read"):
            transcript = await self._store.write(find_transcript, thread_id, user)
        if transcript is None:
            raise await self._unknown_thread_error(thread_id, user)
        return transcript

    async def latest_threads(self, user: str, limit: int = MAX_LATEST_THREADS) -> list[Thread]:
        """A user's latest conversations.

        Raises:
            ConfigurationError: They could not be read.
        """
        with store_errors_as("The threads could not be read"):
            return await self._store.write(stored.recent_threads, user, limit)

    async def latest_threads_with_costs(
        self, user: str, limit: int, after: ThreadCursor | None = None
    ) -> list[tuple[Thread, int]]:
        """A page of a user's conversations, the latest first, each with its cost in micro-dollars.

        `after` is the cursor of the last conversation of the page before.

        Raises:
            ConfigurationError: They could not be read.
        """
        with store_errors_as("The threads could not be read"):
            return await self._store.write(stored.threads_with_cost, user, limit, after)

    async def read_transcript_with_costs(self, thread_id: str, user: str) -> TranscriptWithCosts:
        """A user's conversation with what became of its calls.

        Raises:
            RequestError: There is none of that id.
            ConfigurationError: It could not be read.
        """
        transcript = await self.read_transcript(thread_id, user)
        with store_errors_as("The thread could not be read"):
            answers, cost = await self._store.write(answers_and_cost, thread_id)
        return TranscriptWithCosts(thread=transcript.thread, turns=transcript.turns, answers=answers, cost_micros=cost)

    async def delete_thread(self, thread_id: str, user: str) -> None:
        """Delete a user's conversation with its text.

        Raises:
            RequestError: There is none of that id.
            ConfigurationError: It could not be deleted.
        """
        with store_errors_as("The thread could not be deleted"):
            deleted = await self._store.write(stored.delete_thread, thread_id, user)
        if not deleted:
            raise await self._unknown_thread_error(thread_id, user)
        if self._on_delete is not None:
            self._on_delete(user)

    async def _continue_thread(self, prepared: PreparedCall, listener: Listener, text: TextLog) -> Reply:
        call, new = prepared.call, prepared.call.starts_thread
        try:
            beginning = await self._lock_and_add_question(prepared, listener)
        except StoreError as error:
            if error.kind == "unreachable":  # the commit can have succeeded unnoticed
                self._store.write_nowait(store_answer_and_unlock, call, (), None)
            if new:  # the answer matters more than its continuation
                alone = prepared.with_call(replace(call, thread="", starts_thread=False))
                return await self._engine.run_call(alone, listener, text)
            raise TemporaryError(f"The thread could not be read: {error}", kind="store") from error
        except BaseException:  # cancelled while it was being taken: the queued lock still runs
            self._store.write_nowait(store_answer_and_unlock, call, (), None)
            raise
        if beginning is None:
            raise await self._unknown_thread_error(call.thread, call.user)
        call = with_history(call, beginning)
        uses_code = "code" in call.tools or has_definitions("code", known_definitions(call))
        if uses_code:
            call = replace(call, container_id=self._containers.get(call.thread, ""))
        answer: list[Block] = []
        sent: SentTurn | None = None
        try:
            reply = await self._engine.run_call(prepared.with_call(call), listener, text)
            answer, sent = blocks_to_store(reply), reply.sent
            if uses_code:
                self._remember_container(call.thread, reply.container_id)
        except CallError:
            raise
        except BaseException:  # cancelled: what was written stays, as in the journal
            answer = text_blocks_of(text.whole())
            raise
        finally:
            # Posted, not awaited: a cancelled call does not wait, and the next turn's write comes after this one.
            self._store.write_nowait(store_answer_and_unlock, call, answer, sent)
        return reply

    async def _lock_and_add_question(self, prepared: PreparedCall, listener: Listener) -> ThreadTranscript | None:
        """Lock a thread for a call and add its question, after the call of another process that holds it.

        Returns None if the thread does not exist. A `Waiting` event is sent if the call has to wait.

        Raises:
            TemporaryError: The other call still holds the thread at the deadline.
            StoreError: The store failed.
        """
        call, is_waiting = prepared.call, False
        while True:
            beginning = await self._store.write(
                lock_and_add_question, call, self._store.locks, time.time(), new=call.starts_thread
            )
            if not isinstance(beginning, ThreadBusy):
                return beginning
            left = prepared.deadline.remaining_s()
            if not left:
                raise TemporaryError(THREAD_BUSY, kind="thread_busy", retry_after_s=THREAD_BUSY_RETRY_S)
            if not is_waiting:
                is_waiting = True
                listener(Waiting("waiting for the thread, another server is answering in it"))
            await anyio.sleep(min(left, THREAD_POLL_INTERVAL_S))

    async def _unknown_thread_error(self, thread_id: str, user: str) -> RequestError:
        """The error for an unknown thread. The id of a call, given in its place, is recognized."""
        record = None
        if thread_id.startswith(CALL_ID_PREFIX):
            with suppress(StoreError):
                record = await self._store.write(call_journal.find_call, thread_id, user)
        if record is not None and record.thread:
            return RequestError(f"{thread_id} is a call; its thread is {record.thread}.", kind="not_found")
        return UnknownIdError("thread", f"; threads are kept for {self._settings.retention_days:g} days")

    def _remember_container(self, thread_id: str, container: str) -> None:
        """Remember where a conversation's code ran; after a restart its next code runs in a new container."""
        if container:
            self._containers[thread_id] = container
            self._containers.move_to_end(thread_id)
            if len(self._containers) > MAX_REMEMBERED_CONTAINERS:
                self._containers.popitem(last=False)
        else:
            self._containers.pop(thread_id, None)

    @asynccontextmanager
    async def exclusive_access(self, prepared: PreparedCall, listener: Listener) -> AsyncGenerator[None]:
        """Hold the lock of a thread within this process. A `Waiting` event is sent if another call has it.

        Raises:
            TemporaryError: The deadline of the call has passed.
        """
        thread_id = prepared.call.thread
        thread_lock = self._thread_locks.setdefault(thread_id, _ThreadLock(anyio.Lock()))
        thread_lock.waiting_calls += 1
        try:
            try:
                thread_lock.lock.acquire_nowait()  # a round of the event loop less than `acquire`
            except anyio.WouldBlock:
                listener(Waiting("waiting for the thread, another call is answering in it"))
                with prepared.deadline.enforce():
                    await thread_lock.lock.acquire()
            try:
                yield
            finally:
                thread_lock.lock.release()
        finally:
            thread_lock.waiting_calls -= 1
            if not thread_lock.waiting_calls:
                del self._thread_locks[thread_id]
