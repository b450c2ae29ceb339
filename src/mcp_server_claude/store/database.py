"""The store on SQLite: one thread that writes, two that read, and memory if no file can be used."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from functools import partial
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar, cast

from mcp_server_claude.store import sqlite_connection
from mcp_server_claude.store.connection_worker import ConnectionWorker, Operation, OperationResult
from mcp_server_claude.store.process_locks import ProcessLocks
from mcp_server_claude.store.transaction import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from mcp_server_claude.store.transaction import Transaction

P = ParamSpec("P")
T = TypeVar("T")

CLOSE_TIMEOUT_S = 2.0
"""Seconds that closing waits at most. A healthy store closes in a few milliseconds."""

_log = logging.getLogger(__name__)


class Store:
    """The server's database, for callers on any event loop and thread. Opened once, closed once.

    An operation is a function of a transaction and changes nothing else: it runs on a thread of the store, and again
    if its transaction was lost. Writes happen in the order of the calls. An exception in an operation rolls it back
    and is raised by the caller's await; SQLite's own errors are raised as `StoreError`.
    """

    def __init__(self, connection: sqlite3.Connection, *, path: Path | None = None, memory_reason: str = "") -> None:
        """For `open` and tests: a store on a connection that has the schema, in memory without a path."""
        self.path = path
        self.locks = ProcessLocks(path.parent if path is not None else None)
        """The lock of this process, and checks of the other processes that use the file."""
        self.lost_writes = 0
        """Number of failed writes for which no caller waited."""
        self._file_identity = _identify_file(path)
        self._memory_reason = memory_reason
        self._write_error = ""
        self._latest_error, self._error_count = "", 0
        self._logged_errors: set[str] = set()
        self._writer = ConnectionWorker("store-writer", lambda: connection, "begin immediate", self._record_results)
        # A database in memory has only one connection, so its reads are queued with its writes.
        self._reader = self._reporter = self._writer
        if path is not None:
            self._reader = ConnectionWorker("store-reader", partial(_open_read_only, path), "begin")
            self._reporter = ConnectionWorker("store-reporter", partial(_open_read_only, path), "begin")

    @classmethod
    def open(cls, directory: Path) -> Store:
        """Open the store in a directory, creating both if missing. Falls back to memory if that fails.

        Blocks, so call it on a thread. Waits up to 30 s for other processes that migrate the same file.
        """
        try:
            path, connection = sqlite_connection.open_database(directory)
        except (OSError, sqlite3.Error, StoreError) as error:
            reason = f"The ledger is kept in memory: {sqlite_connection.explain_open_error(error, directory)}."
            _log.warning(reason)
            return cls(sqlite_connection.open_in_memory(), memory_reason=reason)
        return cls(connection, path=path)

    @property
    def durable(self) -> bool:
        """True if the content outlives the process."""
        return self.path is not None

    def file_is_current(self) -> bool:
        """Return True if the open file still has its name. Looks at the disk.

        Writes to a file that was removed or replaced are lost when the process ends.
        """
        return self._file_identity is not None and _identify_file(self.path) == self._file_identity

    @property
    def last_error(self) -> str:
        """Why the ledger is in memory, its file was removed, or the latest write failed. One sentence, or empty."""
        if self._memory_reason or self._write_error:
            return self._memory_reason or self._write_error
        if self.path is not None and not self.file_is_current():
            return f"The ledger is not being kept: {self.path} was removed or replaced. Restart the server."
        return ""

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
        """Write without waiting, from any thread. Failures are counted in `lost_writes`, and each kind logged once."""
        try:
            self._writer.submit(Operation(lambda tx: operation(tx, *args, **kwargs)))
        except StoreError as error:
            self._log_lost_write(error)

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
        workers = (self._writer, self._reader, self._reporter)
        if not all(worker.join(max(0, deadline - time.monotonic())) for worker in workers):
            _log.warning("The ledger was still locked by another process when the server closed.")
        self.locks.release()

    def _begin_shutdown(self) -> None:
        self._writer.begin_shutdown()
        self._reader.begin_shutdown()
        self._reporter.begin_shutdown()

    async def _submit(self, worker: ConnectionWorker, function: Callable[[Transaction], T]) -> T:
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        worker.submit(Operation(function, future))
        return cast("T", await future)

    def _record_results(self, results: Sequence[OperationResult]) -> None:
        """On the writer's thread, after each batch: record whether writing works, and count lost writes."""
        for operation, error in ((each.operation, each.error) for each in results):
            if error is None:
                self._write_error = ""
            elif isinstance(error, StoreError):
                self._write_error = self._latest_error = str(error)
                self._error_count += 1
            if error is not None and (operation.future is None or operation.future.cancelled()):
                self._log_lost_write(error)

    def _log_lost_write(self, error: BaseException) -> None:
        self.lost_writes += 1
        if str(error) not in self._logged_errors:
            self._logged_errors.add(str(error))
            _log.warning("A write was lost: %s", error)


def _identify_file(path: Path | None) -> tuple[int, int] | None:
    """Return device and inode of the file of that name, or None if there is none."""
    try:
        status = path.stat() if path is not None else None
    except OSError:
        return None
    return None if status is None else (status.st_dev, status.st_ino)


def _open_read_only(path: Path) -> sqlite3.Connection:
    connection = sqlite_connection.open_connection(path)
    connection.execute("pragma query_only=on")
    return connection
