"""The registry of calls: each is run, waited for, stopped and read by its id, also after its request has ended.

A call normally ends with its request. With a detach delay it outlives it: the caller gets an id and the text so far,
and the call runs on in the server's task group, as a job that survives the process (`jobs`). A call of `start_call`
belongs to no request. Calls of other processes are found in the journal, which also takes requests to stop them.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

import anyio

from mcp_server_claude.call_types import Reply, Usage
from mcp_server_claude.calls.running_call import (
    STOPPED_BY_READER,
    STOPPED_UNREAD,
    RunningCall,
)
from mcp_server_claude.calls.shared_user_rate_limit import SharedUserRateLimiter
from mcp_server_claude.engine.journal_writer import journal_bug
from mcp_server_claude.errors import CallError, RequestError, UnknownIdError
from mcp_server_claude.frozen_dataclass import frozen_dataclass
from mcp_server_claude.store import StoreError, call_journal, store_errors_as
from mcp_server_claude.telemetry.call_spans import traceparent_listener
from mcp_server_claude.text_log import is_blank

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from anyio.abc import TaskGroup

    from mcp_server_claude.call_types import Call, Listener
    from mcp_server_claude.calls.conversation_threads import ConversationThreads
    from mcp_server_claude.settings import Settings
    from mcp_server_claude.store import Store, Transaction

P = ParamSpec("P")
T = TypeVar("T")

MAX_LATEST_CALLS = 10
STOP_POLL_INTERVAL_S = 1.0
"""Seconds between two looks at the journal for calls that another process wants stopped."""
REMOTE_STOP_TIMEOUT_S = 5.0
"""Seconds that a call of another process is given to stop."""
REMOTE_STOP_POLL_INTERVAL_S = 0.25


@frozen_dataclass(kw_only=True)
class CallSnapshot:
    """A call as it can be read afterwards: its record, and its text so far."""

    record: call_journal.JournaledCall
    text: str


class CallRegistry:
    """The calls of this process, and the journal of all."""

    def __init__(
        self, settings: Settings, threads: ConversationThreads, store: Store, worker: str, task_group: TaskGroup
    ) -> None:
        self._settings = settings
        self._threads = threads
        self._store = store
        self._worker = worker
        self._task_group = task_group
        self._rate_limiter = SharedUserRateLimiter(store)
        self._adopt_as_job: Callable[[RunningCall], Awaitable[str]] | None = None
        self._read_cooldowns: Callable[[], Awaitable[None]] | None = None
        self._on_end: Callable[[str, str], None] | None = None
        self._on_list_change: Callable[[str], None] | None = None
        self._running: dict[str, RunningCall] = {}
        self._has_running = anyio.Event()
        task_group.start_soon(self._poll_stop_requests)

    def publish_ends(self, on_end: Callable[[str, str], None], on_list_change: Callable[[str], None]) -> None:
        """Call `on_end` with the id and the thread of each call that has ended.

        `on_list_change` is called with the user of one that has left a new thread or files.
        """
        self._on_end = on_end
        self._on_list_change = on_list_change

    def set_job_adopter(self, adopt: Callable[[RunningCall], Awaitable[str]]) -> None:
        """`adopt` makes a job of a call that outlives its request, and returns the job's id."""
        self._adopt_as_job = adopt

    def set_cooldown_reader(self, read: Callable[[], Awaitable[None]]) -> None:
        """`read` takes over the waits of other servers after a rate limit.

        It runs before the first call and then once a second, while there are calls.
        """
        self._read_cooldowns = read

    async def run_call(self, call: Call, listener: Listener, *, detach_delay_s: float = 0) -> Reply:
        """Answer a call. After `detach_delay_s` seconds (0: never) the text so far is returned, and the call runs on.

        Raises:
            CallError: See `ConversationThreads.answer_in_thread`.
        """
        running = self._register(call, listener)
        if detach_delay_s:
            return await self._run_detachable(running, listener, detach_delay_s)
        await self._run_to_end(running)
        return _reply_or_raise(running)

    def admit_job(self, call: Call) -> AbstractAsyncContextManager[None]:
        """Count the start of a job as a call of its user, for as long as the block runs.

        Raises:
            TemporaryError: See `UserRateLimiter.admit_call`.
        """
        return self._rate_limiter.admit_call(call)

    def register_job_call(self, call: Call) -> RunningCall:
        """Make a call of a job known by its id. It runs with `run_registered`, in the conversation that it names."""
        running = self._running[call.id] = RunningCall(call)
        self._has_running.set()
        return running

    async def run_registered(self, running: RunningCall) -> None:
        """Answer a registered call; its outcome is in `running`."""
        await self._run_to_end(running)

    def discard(self, running: RunningCall) -> None:
        """Forget a registered call, whether or not it has run."""
        self._running.pop(running.call.id, None)

    def start_call(self, call: Call, *listeners: Listener) -> RunningCall:
        """Start a call in the server's task group: it does not end with a request."""
        running = self._register(call, *listeners)
        self._task_group.start_soon(self._run_until_shutdown, running)
        return running

    def find_running(self, call_id: str, user: str) -> RunningCall | None:
        """A user's call that runs in this process."""
        running = self._running.get(call_id)
        return running if running is not None and running.call.user == user else None

    async def running_call_in_thread(self, thread: str, user: str) -> str | None:
        """The id of a user's call that is being answered in a conversation, here or in another process.

        Raises:
            ConfigurationError: The journal could not be read.
        """
        for running in self._running.values():
            if running.call.thread == thread and running.call.user == user:
                return running.call.id
        return await self._with_journal(call_journal.open_call_in_thread, thread, user)

    async def wait_until_done(self, call_id: str, seconds: float) -> None:
        """Wait until a call of this process has ended, so many seconds at most."""
        if running := self._running.get(call_id):
            with anyio.move_on_after(seconds):
                await running.done.wait()

    async def stop_call(self, call_id: str, user: str, reason: str) -> bool:
        """Stop a user's call: here at once, in another process within a second or two. False where none is running.

        Raises:
            ConfigurationError: It runs elsewhere, and the journal could not be written.
        """
        running = self.find_running(call_id, user)
        if running is None:
            return await self._with_journal(call_journal.request_stop, call_id, user)
        running.cancel_run(reason)
        return True

    async def stop_and_wait(self, call_id: str, user: str) -> None:
        """Stop a user's call and wait for its end; for `REMOTE_STOP_TIMEOUT_S` if it runs in another process.

        Raises:
            ConfigurationError: It runs elsewhere, and the journal could not be written.
        """
        running = self.find_running(call_id, user)
        if not await self.stop_call(call_id, user, STOPPED_BY_READER):
            return
        if running is not None:
            await running.done.wait()
            return
        with anyio.move_on_after(REMOTE_STOP_TIMEOUT_S):  # what another process does sets no event here
            record = await self._with_journal(call_journal.find_call, call_id, user)
            while record and record.state == "open":
                await anyio.sleep(REMOTE_STOP_POLL_INTERVAL_S)
                record = await self._with_journal(call_journal.find_call, call_id, user)

    async def read_call(self, call_id: str, user: str) -> CallSnapshot:
        """A user's call with its text so far; of a running one up to this moment.

        Raises:
            RequestError: There is none of that id.
            ConfigurationError: The journal could not be read.
        """
        running = self.find_running(call_id, user)
        record, text = await self._with_journal(_read_record_and_text, call_id, user)
        if record is None and running is not None:
            record = running.provisional_record()
        if record is None:
            raise UnknownIdError("call")
        return CallSnapshot(record=record, text=running.text.slice(0) if running else text)

    async def latest_calls(self, user: str) -> list[call_journal.JournaledCall]:
        """A user's latest calls, those that had no reader first.

        Raises:
            ConfigurationError: The journal could not be read.
        """
        return await self._with_journal(call_journal.recent_calls, user, MAX_LATEST_CALLS)

    def mark_delivered(self, call_id: str) -> None:
        """An answer has reached its reader: where nothing is to be kept, its text goes now. Not that of a running call:
        what its reader has is only the beginning.
        """
        if not self._settings.retention_days and call_id not in self._running:
            self._store.write_nowait(call_journal.delete_text, call_id)

    def _register(self, call: Call, *listeners: Listener) -> RunningCall:
        running = RunningCall(self._threads.assign_thread_id(call), *listeners)
        self._running[call.id] = running
        self._has_running.set()
        return running

    async def _with_journal(
        self, operation: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run an operation on the journal after all queued writes.

        Raises:
            ConfigurationError: It could not be done.
        """
        with store_errors_as("The journal could not be read"):
            return await self._store.write(operation, *args, **kwargs)

    async def _poll_stop_requests(self) -> None:
        """Stop what another process wants stopped. One look a second for all calls, and none while there are none."""
        while self._store.durable:
            await self._has_running.wait()
            await anyio.sleep(STOP_POLL_INTERVAL_S)
            if not self._running:
                self._has_running = anyio.Event()
                continue
            with suppress(StoreError):  # the waiting caller reports that it still runs
                for call_id in await self._store.read(call_journal.stop_requests, self._worker):
                    if running := self._running.get(call_id):
                        running.cancel_run(STOPPED_BY_READER)
            await self._read_shared_cooldowns()

    async def _read_shared_cooldowns(self) -> None:
        if self._read_cooldowns is not None:
            with suppress(StoreError):  # the API says it too
                await self._read_cooldowns()

    async def _run_until_shutdown(self, running: RunningCall) -> None:
        """Run a call that belongs to no request; a shutdown interrupts it, and does not cancel it."""
        try:
            await self._run_to_end(running)
        except BaseException:
            self._store.write_nowait(call_journal.mark_interrupted, running.call.id)
            raise

    async def _run_detachable(self, running: RunningCall, listener: Listener, delay_s: float) -> Reply:
        self._task_group.start_soon(self._run_to_end, running)
        try:
            with anyio.move_on_after(delay_s):
                await running.done.wait()
            if running.done.is_set():
                return _reply_or_raise(running)
            job_id = ""
            if self._adopt_as_job is not None:
                with suppress(CallError):  # it still runs, as long as this process does
                    job_id = await self._adopt_as_job(running)
        except BaseException:
            running.cancel_scope.cancel()
            raise
        running.listeners.remove(listener)  # its request is about to end
        return Reply(
            text=running.text.slice(0),
            usage=replace(running.partial_usage(), duration_s=delay_s),
            incomplete=f'it is still being written. claude_jobs(id="{job_id or running.call.id}", wait=50) returns the '
            "rest.",
            job_id=job_id,
        )

    async def _run_to_end(self, running: RunningCall) -> None:
        """Run a call and store its outcome. Never raises: a detached call must not end the server's task group."""
        try:
            with running.cancel_scope, traceparent_listener(running.record_traceparent):
                async with self._rate_limiter.admit_call(running.call):
                    if len(self._running) == 1:
                        await self._read_shared_cooldowns()
                    is_alone = running.call.job_id and not running.call.thread
                    answer = self._threads.answer_alone if is_alone else self._threads.answer_in_thread
                    reply = await answer(running.call, running.publish_event, running.text)
                    running.outcome = replace(reply, blocks=(), sent=None)  # the thread has them, and the text again
            if running.cancel_scope.cancelled_caught:
                running.outcome = await self._stopped_outcome(running)
        except CallError as failure:
            running.outcome = failure
        except Exception:  # noqa: BLE001 - an outcome of the call: logged, journaled, and raised where it is awaited
            usage = await self._journaled_usage(running)
            running.outcome = journal_bug(self._store, self._worker, running.call, usage)
        finally:
            self._running.pop(running.call.id, None)
            running.done.set()
            self._publish_end(running)

    def _publish_end(self, running: RunningCall) -> None:
        call, outcome = running.call, running.outcome
        if self._on_end is not None:
            self._on_end(call.id, call.thread)
        # The thread of a first question that failed is not kept.
        if self._on_list_change is not None and isinstance(outcome, Reply) and (call.starts_thread or outcome.files):
            self._on_list_change(call.user)

    async def _stopped_outcome(self, running: RunningCall) -> Reply | RequestError:
        """The outcome of a stopped call: its text so far and its usage."""
        text, usage = running.text.slice(0), await self._journaled_usage(running)
        if not is_blank(text):
            return Reply(text=text, usage=usage, incomplete=f"{running.cancel_reason} Ask again for the rest.")
        return RequestError(
            f"The call ended before any text came: {running.cancel_reason}", kind="cancelled", usage=usage
        )

    async def _journaled_usage(self, running: RunningCall) -> Usage:
        """The usage of a call from its journal, or else the usage so far."""
        with suppress(StoreError):
            record = await self._store.write(call_journal.find_call, running.call.id, running.call.user)
            if record is not None and record.usage is not None:
                return Usage.from_json(record.usage)
        return running.partial_usage()


def _read_record_and_text(tx: Transaction, call_id: str, user: str) -> tuple[call_journal.JournaledCall | None, str]:
    record = call_journal.find_call(tx, call_id, user)
    return record, call_journal.answer_text(tx, call_id) if record else ""


def _reply_or_raise(running: RunningCall) -> Reply:
    match running.outcome:
        case Reply() as reply:
            return reply
        case CallError() as failure:
            raise failure
        case None:
            message = "a call has ended without an outcome"
            raise RuntimeError(message)


__all__ = ["STOPPED_BY_READER", "STOPPED_UNREAD", "CallRegistry", "CallSnapshot", "RunningCall"]
