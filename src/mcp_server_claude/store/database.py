"""The store: one thread that writes and some that read, on an SQLite file, in memory, or on a PostgreSQL server."""

from __future__ import annotations

import asyncio
import logging
import time
from queue import SimpleQueue
from threading import Lock
from typing import TYPE_CHECKING, Concatenate, NoReturn, ParamSpec, TypeVar, cast

from mcp_server_claude.store.connection_worker import MAX_BATCH_OPERATIONS, ConnectionWorker
from mcp_server_claude.store.database_connection import DatabaseBackend
from mcp_server_claude.store.operations import Operation, OperationResult
from mcp_server_claude.store.process_locks import ProcessLocks
from mcp_server_claude.store.sqlite_backend import open_sqlite
from mcp_server_claude.store.transaction import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from mcp_server_claude.store.transaction import StoreErrorKind, Transaction

P = ParamSpec("P")
T = TypeVar("T")

MIN_SERVER_CONNECTIONS = 3
"""Connections of a store to a database server: one that writes, one for slow reads, one for other reads."""
DAMAGE_KINDS: frozenset[StoreErrorKind] = frozenset({"damaged", "io"})
"""Kinds of errors of a file that was damaged, for instance one that was changed while it was open."""
CLOSE_TIMEOUT_S = 2.0
"""Seconds that closing waits at most. A healthy store closes in a few milliseconds."""

_log = logging.getLogger(__name__)


class Store:
    """The server's database, for callers on any event loop and thread. Opened once, closed once.

    An operation is a function of a transaction and changes nothing else: it runs on a thread of the store, and again
    if its transaction was lost. Writes happen in the order of the calls. An exception in an operation rolls it back
    and is raised by the caller's await; SQLite's own errors are raised as `StoreError`.
    """

    def __init__(self, backend: DatabaseBackend) -> None:
        """For `open` and tests: a store on an opened database."""
        self._backend = backend
        self.locks = backend.locks
        """The lock of this process, and checks of the other processes that use the database."""
        self.lost_writes = 0
        """Number of failed writes that no caller can repeat."""
        self._late_writes = 0
        self._write_error = ""
        self._latest_error, self._error_count = "", 0
        self._logged_messages: set[str] = set()
        self._posted: list[Operation] = []
        self._posted_lock = Lock()
        self._is_closing = False
        self._posting_loop: asyncio.AbstractEventLoop | None = None
        self._writer = ConnectionWorker(
            "store-writer", backend.connect_writer, self._record_results, locks_rows=backend.is_shared
        )
        self._reader = self._reporter = self._writer
        self._workers = [self._writer]
        if backend.connect_reader is not None:
            # On a server, a transaction for several reads takes more round trips than one for each, by its savepoints.
            max_batch_operations = 1 if backend.is_shared else MAX_BATCH_OPERATIONS
            queues = [SimpleQueue[Operation | None](), *[SimpleQueue[Operation | None]()] * backend.max_readers]
            self._reporter, self._reader, *_ = readers = [
                ConnectionWorker(
                    "store-reader",
                    backend.connect_reader,
                    self._log_damage,
                    queue=queue,
                    max_batch_operations=max_batch_operations,
                )
                for queue in queues
            ]
            self._workers += readers

    @classmethod
    def open(cls, directory: Path, database_url: str = "", max_connections: int = MIN_SERVER_CONNECTIONS) -> Store:
        """Open the store on a PostgreSQL server if there is a URL, with at most so many connections, or in a directory.

        Creates the file and the schema if they are missing. A directory that cannot be used is replaced by memory. A
        server that cannot be reached is not: every operation tries again, and fails while it is away.

        Blocks, so call it on a thread. Waits up to 30 s for other processes that migrate the same database.
        """
        if database_url:
            return cls(_server_backend(database_url, max_connections))
        return cls(open_sqlite(directory))

    @property
    def path(self) -> Path | None:
        """The file, if the database has one."""
        return self._backend.path

    @property
    def location(self) -> str:
        """The place of the database for people to read, without secrets."""
        return self._backend.location

    @property
    def durable(self) -> bool:
        """True if the content outlives the process."""
        return self._backend.durable

    @property
    def is_shared(self) -> bool:
        """True if servers on several machines use the database."""
        return self._backend.is_shared

    def is_current(self) -> bool:
        """Return True if what is written can be found by the next process. May look at the disk.

        Writes to a file that was removed or replaced are lost when the process ends.
        """
        return self.durable and self._backend.replaced_file() is None

    @property
    def last_error(self) -> str:
        """Why the ledger is in memory, its file was removed, or the latest write failed. One sentence, or empty."""
        if self._backend.memory_reason or self._write_error:
            return self._backend.memory_reason or self._write_error
        return self._removal_error()

    def _removal_error(self) -> str:
        """A replaced file is not opened here: the write-ahead log beside it belongs to the old one, and damages it.

        SQLite finds the log by its name alone (https://sqlite.org/howtocorrupt.html §1.3). Without the log the file is
        whole: SQLite writes into it what it has of the log when the server stops.
        """
        replaced = self._backend.replaced_file()
        if replaced is None or self.path is None:
            return ""
        name = self.path.name
        cure = f"Stop the server, delete {name}-wal and {name}-shm, restore the file, and start the server."
        return (
            f"The ledger is not being kept: {replaced} was removed or replaced. "
            f"{cure if replaced == self.path else 'Restart the server.'}"
        )

    @property
    def error_count(self) -> int:
        """Number of writes that have failed so far."""
        return self._error_count

    def error_since(self, error_count: int) -> str:
        """Return `last_error`, or the latest error since there were `error_count`, even if later writes succeeded.

        Some writes succeed on a full disk: those that change nothing, and small ones that fit into the file.
        """
        return self.last_error or (self._latest_error if self._error_count > error_count else "")

    async def write(
        self, operation: Callable[Concatenate[Transaction, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run an operation in a transaction for writing, and return its value once it is committed.

        A cancelled caller stops waiting; the operation still runs and is committed.

        Raises:
            StoreError: The database failed (disk full, locked for 30 s, damaged), or the store is closed.
        """
        return await self._submit(self._writer, lambda tx: operation(tx, *args, **kwargs))

    async def write_together(
        self, operation: Callable[Concatenate[Transaction, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """`write`, but in one transaction with those of other callers, also on a database server, for more throughput.

        It changes rows that other servers change too by `Transaction.change_shared_rows` only.

        Raises:
            StoreError: As for `write`.
        """
        return await self._submit(self._writer, lambda tx: operation(tx, *args, **kwargs), runs_alone=False)

    async def write_surely(
        self, operation: Callable[Concatenate[Transaction, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """`write_together`, but while the database cannot be reached or written, the operation waits and runs later.

        The caller gets the error at once.

        Raises:
            StoreError: As for `write`.
        """
        return await self._submit(
            self._writer, lambda tx: operation(tx, *args, **kwargs), survives_outage=True, runs_alone=False
        )

    async def read(
        self, operation: Callable[Concatenate[Transaction, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run an operation that only reads, on one snapshot that includes every write awaited before.

        Raises:
            StoreError: The database failed, the operation tried to write, or the store is closed.
        """
        return await self._submit(self._reader, lambda tx: operation(tx, *args, **kwargs))

    async def read_slow(
        self, operation: Callable[Concatenate[Transaction, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """`read` for operations that may take a second, on a separate connection, so that no other read waits.

        Raises:
            StoreError: As for `read`.
        """
        return await self._submit(self._reporter, lambda tx: operation(tx, *args, **kwargs))

    def write_nowait(
        self, operation: Callable[Concatenate[Transaction, P], object], /, *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """`write_together` without waiting, from any thread. Failures are counted in `lost_writes`, and each kind is
        logged once.

        While the database cannot be reached or written, the operation waits in memory and runs afterwards.

        Those that a task posts one after the other, and what it then awaits, run in one transaction: they are handed to
        the writer together, with the next operation or in the next iteration of the event loop.
        """
        posted = Operation(lambda tx: operation(tx, *args, **kwargs), survives_outage=True)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # on a thread
            loop = None
        if loop is None or self._is_closing:
            self._submit_posted(posted)
            return
        with self._posted_lock:
            self._posted.append(posted)
            if self._posting_loop is loop:
                return
            self._posting_loop = loop
        loop.call_soon(self._submit_posted)

    def _submit_posted(self, *further: Operation) -> None:
        """Hand the operations that wait for that to the writer, in their order."""
        with self._posted_lock:
            for operation in (*self._posted, *further):
                try:
                    self._writer.submit(operation)
                except StoreError as error:
                    self._log_lost_write(error)
            self._posted.clear()
            self._posting_loop = None

    async def close(self) -> None:
        """Finish the queue and close the files, in a few milliseconds and at most 2 s. Later writes are refused.

        The queue is finished even if the caller is cancelled.
        """
        self._begin_shutdown()
        await asyncio.to_thread(self.close_blocking)

    def close_blocking(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """`close` for callers without an event loop. Gives up after `timeout_s` seconds."""
        self._begin_shutdown()
        deadline = time.monotonic() + timeout_s
        if not all(worker.join(max(0, deadline - time.monotonic())) for worker in self._workers):
            _log.warning(
                "The server closed before its ledger had taken all writes. %s", self._write_error or "They may be lost."
            )
        else:
            self._backend.close_idle()
        self.locks.release()

    def _begin_shutdown(self) -> None:
        self._is_closing = True
        self._submit_posted()
        for worker in self._workers:
            worker.begin_shutdown()

    async def _submit(
        self,
        worker: ConnectionWorker,
        function: Callable[[Transaction], T],
        *,
        survives_outage: bool = False,
        runs_alone: bool = True,
    ) -> T:
        if self._posted:
            self._submit_posted()
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        worker.submit(Operation(function, future, survives_outage, runs_alone))
        return cast("T", await future)

    def _record_results(self, results: Sequence[OperationResult]) -> None:
        """On the writer's thread, after each batch: record whether writing works, and count late and lost writes."""
        for result in results:
            operation, error = result.operation, result.error
            if error is None:
                self._write_error = ""
            elif isinstance(error, StoreError):
                self._write_error = self._latest_error = str(error)
                self._error_count += 1
            if operation.is_late != result.is_kept:
                self._count_late_write(error, 1 if result.is_kept else -1)
            if (
                error is not None and operation.survives_outage and not result.is_kept
            ):  # others are their caller's matter
                self._log_lost_write(error)
        if removal := self._removal_error():
            self._log_once(removal)

    def _log_damage(self, results: Sequence[OperationResult]) -> None:
        """On a reader's thread, after each batch: log that the file cannot be read, also where it can be written."""
        for result in results:
            if isinstance(result.error, StoreError) and result.error.kind in DAMAGE_KINDS:
                self._log_once(f"{result.error} Stop the server, and restore a backup if `doctor` says so too.")

    def _count_late_write(self, error: BaseException | None, change: int) -> None:
        if not self._late_writes:
            _log.warning("%s What running calls write is kept in memory until it can be written.", error)
        self._late_writes += change
        if not self._late_writes:
            _log.warning("The ledger can be written again, and has what was kept in memory.")

    def _log_lost_write(self, error: BaseException) -> None:
        self.lost_writes += 1
        self._log_once(f"A write was lost: {error}")

    def _log_once(self, message: str) -> None:
        if message not in self._logged_messages:
            self._logged_messages.add(message)
            _log.warning(message)


def _server_backend(database_url: str, max_connections: int) -> DatabaseBackend:
    try:
        # psycopg is an optional extra, and loaded only for a server.
        from mcp_server_claude.store.postgres_backend import postgres_backend
    except ImportError:
        return _missing_extra_backend()
    return postgres_backend(database_url, max_connections)


def _missing_extra_backend() -> DatabaseBackend:
    """Return a database of which every use fails. With memory instead, each server would spend the whole budget."""

    def connect() -> NoReturn:
        raise StoreError(
            "MCP_CLAUDE_DATABASE_URL needs an extra: pip install 'mcp-server-claude[postgres]'.", kind="schema"
        )

    return DatabaseBackend(
        location="unavailable",
        locks=ProcessLocks(),
        connect_writer=connect,
        connect_reader=None,
    )
