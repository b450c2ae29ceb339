"""Calls by their id: run, waited for, stopped, and read again, also when whoever began them has gone.

A call normally ends with its request. With `detach_after_s` it outlives it: the caller gets the id and what is there,
and the call goes on in the server's own task group until it is done or the server ends. One that was begun with `begin`
belongs to no request at all. What other processes run is known by the journal, which also takes the wish to stop it.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

import anyio

from mcp_server_claude.call_types import Reply, Usage
from mcp_server_claude.calls.running_call import BY_NOBODY, BY_READER, BY_TOOL, Running, Scroll
from mcp_server_claude.calls.user_rate_limit import Limiter
from mcp_server_claude.errors import Failure, Misconfigured, Refused
from mcp_server_claude.store import StoreError, call_journal

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import TaskGroup

    from mcp_server_claude.call_types import Call, Listen
    from mcp_server_claude.calls.conversation_threads import Threads
    from mcp_server_claude.settings import Settings
    from mcp_server_claude.store import Store, Tx

P = ParamSpec("P")
T = TypeVar("T")

RECENT = 10
HEED_S = 1.0
"""Seconds between two looks at the journal for calls that another process wants stopped."""
ELSEWHERE_S = 5.0
"""Seconds that a call of another process is given to stop."""
POLL_S = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A call as it can be read afterwards: its record, and its text so far."""

    record: call_journal.Record
    text: str


class Jobs:
    """The calls of this process, and the journal of all."""

    def __init__(self, settings: Settings, threads: Threads, store: Store, worker: str, tasks: TaskGroup) -> None:
        self._settings = settings
        self._threads = threads
        self._store = store
        self._worker = worker
        self._tasks = tasks
        self._limiter = Limiter()
        self._running: dict[str, Running] = {}
        self._busy = anyio.Event()
        tasks.start_soon(self._heed)

    async def ask(self, call: Call, listen: Listen) -> Reply:
        """Answer a call, within `detach_after_s` where that is set.

        Raises:
            Failure: See `Threads.answer`.
        """
        running = self._enter(call, listen)
        if self._settings.detach_after_s:
            return await self._detachable(running, listen)
        await self._run(running)
        return _outcome(running)

    def begin(self, call: Call, *ears: Listen) -> Running:
        """Have a call answered in the server's own time: it ends with nobody's request."""
        running = self._enter(call, *ears)
        self._tasks.start_soon(self._run, running)
        return running

    def running(self, call_id: str, user: str) -> Running | None:
        """A user's call that runs in this process."""
        running = self._running.get(call_id)
        return running if running is not None and running.call.user == user else None

    async def running_in(self, thread: str, user: str) -> str | None:
        """The id of a user's call that is being answered in a conversation, here or in another process.

        Raises:
            Misconfigured: The journal could not be read.
        """
        for running in self._running.values():
            if running.call.thread == thread and running.call.user == user:
                return running.call.id
        return await self._journal(call_journal.under_way, thread, user)

    async def wait(self, call_id: str, seconds: float) -> None:
        """Wait until a call of this process has ended, so many seconds at most."""
        if running := self._running.get(call_id):
            with anyio.move_on_after(seconds):
                await running.done.wait()

    async def stop(self, call_id: str, user: str, why: str) -> bool:
        """Stop a user's call: here at once, in another process within a second or two. False where none is running.

        Raises:
            Misconfigured: It runs elsewhere, and the journal could not be written.
        """
        running = self.running(call_id, user)
        if running is None:
            return await self._journal(call_journal.wish_stop, call_id, user)
        running.stop(why)
        return True

    async def cancel(self, call_id: str, user: str) -> None:
        """Stop a user's call and wait until it has; one that runs elsewhere is not waited for longer than it may take.

        Raises:
            Misconfigured: It runs elsewhere, and the journal could not be written.
        """
        running = self.running(call_id, user)
        if not await self.stop(call_id, user, BY_TOOL):
            return
        if running is not None:
            await running.done.wait()
            return
        with anyio.move_on_after(ELSEWHERE_S):  # what another process does sets no event here
            while (record := await self._journal(call_journal.call, call_id, user)) and record.state == "open":  # noqa: ASYNC110
                await anyio.sleep(POLL_S)

    async def read(self, call_id: str, user: str) -> Job:
        """A user's call with its text so far; of a running one up to this moment.

        Raises:
            Refused: There is none of that id.
            Misconfigured: The journal could not be read.
        """
        running = self.running(call_id, user)
        record, text = await self._journal(_read, call_id, user)
        if record is None and running is not None:
            record = running.record()
        if record is None:
            raise Refused("There is no call of that id. claude_jobs without an id lists the latest.", kind="not_found")
        return Job(record=record, text=running.text.between(0) if running else text)

    async def recent(self, user: str) -> list[call_journal.Record]:
        """A user's latest calls, those that had no reader first.

        Raises:
            Misconfigured: The journal could not be read.
        """
        return await self._journal(call_journal.recent, user, RECENT)

    def delivered(self, call_id: str) -> None:
        """An answer has reached its reader: where nothing is to be kept, its text goes now. Not that of a running call:
        what its reader has is only the beginning.
        """
        if not self._settings.retention_days and call_id not in self._running:
            self._store.post(call_journal.discard, call_id)

    def _enter(self, call: Call, *ears: Listen) -> Running:
        running = Running(self._threads.mint(call), *ears)
        self._running[call.id] = running
        self._busy.set()
        return running

    async def _journal(self, job: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do this with the journal, on the writer's thread: it comes after whatever was posted of a call.

        Raises:
            Misconfigured: It could not be done.
        """
        try:
            return await self._store.write(job, *args, **kwargs)
        except StoreError as error:
            raise Misconfigured(f"The journal could not be read: {error}", kind="ledger") from error

    async def _heed(self) -> None:
        """Stop what another process wants stopped. One look a second for all calls, and none while there are none."""
        while self._store.durable:
            await self._busy.wait()
            await anyio.sleep(HEED_S)
            if not self._running:
                self._busy = anyio.Event()
                continue
            with suppress(StoreError):  # whoever waits for it says that it still runs
                for call_id in await self._store.read(call_journal.wished_stopped, self._worker):
                    if running := self._running.get(call_id):
                        running.stop(BY_READER)

    async def _detachable(self, running: Running, listen: Listen) -> Reply:
        self._tasks.start_soon(self._run, running)
        try:
            with anyio.move_on_after(self._settings.detach_after_s):
                await running.done.wait()
        except BaseException:
            running.scope.cancel()
            raise
        if running.done.is_set():
            return _outcome(running)
        running.ears.remove(listen)  # its request is about to end
        return Reply(
            text=running.text.between(0),
            usage=replace(running.so_far(), duration_s=self._settings.detach_after_s),
            incomplete=f'it is still being written. claude_jobs(id="{running.call.id}", wait=50) returns the rest.',
        )

    async def _run(self, running: Running) -> None:
        """Run to the end; what comes of it is kept, so that a failure of a detached call takes nobody along."""
        try:
            with running.scope, self._limiter.admit(running.call):
                running.outcome = await self._threads.answer(running.call, running.hear)
            if running.scope.cancelled_caught:
                running.outcome = await self._stopped(running)
        except Exception as error:  # noqa: BLE001 - raised again where the call is waited for
            running.outcome = error
        finally:
            self._running.pop(running.call.id, None)
            running.done.set()

    async def _stopped(self, running: Running) -> Reply | Refused:
        """What a stopped call comes to: the text it has, with the account that the journal has been given."""
        text, usage = running.text.between(0), running.so_far()
        with suppress(StoreError):
            record, _ = await self._store.write(_read, running.call.id, running.call.user)
            if record is not None and record.usage is not None:
                usage = Usage.of_json(record.usage)
        if text.strip():
            return Reply(text=text, usage=usage, incomplete=f"{running.why} Ask again for the rest.")
        return Refused(f"The call ended before it said anything: {running.why}", kind="stopped", usage=usage)


def _read(tx: Tx, call_id: str, user: str) -> tuple[call_journal.Record | None, str]:
    record = call_journal.call(tx, call_id, user)
    return record, call_journal.text(tx, call_id) if record else ""


def _outcome(running: Running) -> Reply:
    match running.outcome:
        case Reply() as reply:
            return reply
        case Failure() as failure:
            raise failure
        case Exception() as bug:
            raise bug
        case None:
            message = "a call has ended without an outcome"
            raise RuntimeError(message)


__all__ = ["BY_NOBODY", "BY_READER", "Job", "Jobs", "Running", "Scroll"]
