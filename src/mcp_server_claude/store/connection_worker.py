"""One thread that owns one connection and runs jobs in batches: a transaction for the batch, a savepoint for each job.

Committing once for all that have gathered is what makes many callers cheap (measured: 153,000 jobs a second instead
of 21,800), and a single caller waits no longer for it.
"""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Lock, Thread
from typing import TYPE_CHECKING

from mcp_server_claude.store.sqlite_connection import SqliteTx, store_error
from mcp_server_claude.store.transaction import StoreError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from mcp_server_claude.store.transaction import Tx

BATCH = 64
"""Jobs in one transaction at most, so that another process need not wait long for the lock."""


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """What is to be done in a transaction, and who waits for it, if anybody.

    It may run twice where the first run's transaction was lost, so it changes nothing but the database.
    """

    work: Callable[[Tx], object]
    future: asyncio.Future[object] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """How a job ended: its value was committed, or an error undid it."""

    job: Job
    value: object = None
    error: BaseException | None = None


class Lane:
    """A thread, its connection and its queue. Jobs run in the order in which they came."""

    def __init__(
        self,
        name: str,
        connect: Callable[[], sqlite3.Connection],
        begin: str,
        hear: Callable[[Sequence[Outcome]], None] | None = None,
    ) -> None:
        """`connect` is called by the first job, on the thread; `hear` after each batch, on the thread."""
        self._connect, self._begin, self._hear = connect, begin, hear
        self._connection: sqlite3.Connection | None = None
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._gate, self._closed = Lock(), False
        self._thread = Thread(target=self._live, name=name, daemon=True)  # an exit never waits for a locked database
        self._thread.start()

    def put(self, job: Job) -> None:
        """Queue a job.

        Raises:
            StoreError: The lane has been closed.
        """
        with self._gate:
            if self._closed:
                raise StoreError("The ledger is closed.", kind="closed")
            self._jobs.put(job)

    def end(self) -> None:
        """Take no more jobs; the thread finishes those it has and closes the connection. Returns at once."""
        with self._gate:
            if not self._closed:
                self._closed = True
                self._jobs.put(None)

    def join(self, wait_s: float) -> bool:
        """Wait until the lane has ended, `wait_s` seconds at most; whether it has."""
        self._thread.join(wait_s)
        return not self._thread.is_alive()

    def _live(self) -> None:
        while self._turn():
            pass
        if self._connection is not None:
            self._connection.close()

    def _turn(self) -> bool:
        """One batch. A method of its own so that nothing of the batch is kept alive while the thread waits."""
        jobs = self._gather()
        outcomes = self._run([job for job in jobs if job is not None])
        if self._hear is not None and outcomes:
            self._hear(outcomes)
        _deliver(outcomes)
        return jobs[-1] is not None

    def _gather(self) -> list[Job | None]:
        jobs = [self._jobs.get()]
        while jobs[-1] is not None and len(jobs) < BATCH and not self._jobs.empty():
            jobs.append(self._jobs.get())  # never waits: this thread alone takes from the queue
        return jobs

    def _run(self, jobs: list[Job]) -> list[Outcome]:
        if not jobs:
            return []
        try:
            connection = self._connection = self._connection or self._connect()
            connection.execute(self._begin)
        except sqlite3.Error as error:
            return [Outcome(job, error=store_error(error)) for job in jobs]
        try:
            outcomes = [_one(connection, job) for job in jobs]
            connection.execute("commit")
        except sqlite3.Error as error:  # the whole transaction is lost, a full disk does that
            _rollback(connection)
            if len(jobs) == 1:
                return [Outcome(jobs[0], error=store_error(error))]
            return [outcome for job in jobs for outcome in self._run([job])]  # whose fault was it?
        return outcomes


def _one(connection: sqlite3.Connection, job: Job) -> Outcome:
    """Run a job between savepoints.

    Raises:
        sqlite3.Error: The transaction around the job is lost (https://sqlite.org/lang_transaction.html §3).
    """
    connection.execute("savepoint job")
    try:
        outcome = Outcome(job, job.work(SqliteTx(connection)))
    except BaseException as error:  # whatever a job raises belongs to its caller, and the thread lives on
        if isinstance(error, sqlite3.Error) and not connection.in_transaction:
            raise
        connection.execute("rollback to job")
        outcome = Outcome(job, error=_tellable(error))
    connection.execute("release job")
    return outcome


def _tellable(error: BaseException) -> BaseException:
    match error:
        case sqlite3.Error():
            return store_error(error)
        case StopIteration():  # a future cannot carry it
            told = StoreError("The ledger could not be used: StopIteration left a job.")
            told.__cause__ = error
            return told
        case _:
            return error


def _rollback(connection: sqlite3.Connection) -> None:
    with suppress(sqlite3.Error):  # what made the commit fail can do it again; the thread must live to tell
        if connection.in_transaction:
            connection.execute("rollback")


def _deliver(outcomes: list[Outcome]) -> None:
    """Wake the callers: once for each event loop, however many wait on it."""
    loops: dict[asyncio.AbstractEventLoop, list[Outcome]] = {}
    for outcome in outcomes:
        if outcome.job.future is not None:
            loops.setdefault(outcome.job.future.get_loop(), []).append(outcome)
    for loop, theirs in loops.items():
        try:
            loop.call_soon_threadsafe(_resolve, theirs)
        except RuntimeError:  # the loop has closed: nobody waits there any more
            continue


def _resolve(outcomes: list[Outcome]) -> None:
    for outcome in outcomes:
        future = outcome.job.future
        if future is None or future.done():  # its caller was cancelled
            continue
        if outcome.error is None:
            future.set_result(outcome.value)
        else:
            future.set_exception(outcome.error)
