"""The store on SQLite: one thread that writes, one that reads, and memory where no file can be had."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from functools import partial
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar, cast

from mcp_server_claude.store import sqlite_connection
from mcp_server_claude.store.connection_worker import ConnectionWorker, Operation, OperationResult
from mcp_server_claude.store.transaction import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from mcp_server_claude.store.transaction import Transaction

P = ParamSpec("P")
T = TypeVar("T")

CLOSE_TIMEOUT_S = 2.0
"""Seconds that closing waits at most; a healthy drain takes a few milliseconds."""

_log = logging.getLogger(__name__)


class Store:
    """What the server remembers, for callers on any event loop and thread. Opened once, closed once.

    A job is a function of a transaction and changes nothing else: it runs on the store's thread, and again if its
    transaction was lost. Writes happen in the order in which they were asked for. What a job raises undoes it and
    comes to its caller; SQLite's own errors come as `StoreError`.
    """

    def __init__(self, connection: sqlite3.Connection, *, path: Path | None = None, memory_reason: str = "") -> None:
        """For `open` and tests: a store on a connection that has the schema; without a path it is in memory."""
        self.path = path
        self._file_identity = _identify_file(path)
        self.lost_writes = 0
        self._memory_reason = memory_reason
        self._write_error = ""
        self._latest_error, self._error_count = "", 0
        self._logged_errors: set[str] = set()
        self._writer = ConnectionWorker("store-writer", lambda: connection, "begin immediate", self._record_results)
        # A database in memory has but one connection, so its reads queue up with its writes.
        self._reader = (
            self._writer if path is None else ConnectionWorker("store-reader", partial(_open_read_only, path), "begin")
        )
        self._reporter = (
            self._reader
            if path is None
            else ConnectionWorker("store-reporter", partial(_open_read_only, path), "begin")
        )

    @classmethod
    def open(cls, directory: Path) -> Store:
        """Open the store in a directory, making both where they are missing; in memory where that cannot be done.

        Blocks, so call it on a thread. Waits up to 30 s for other processes that migrate the same file.
        """
        try:
            path, connection = sqlite_connection.open_database(directory)
        except (OSError, sqlite3.Error, StoreError) as error:
            why = f"The ledger is kept in memory: {sqlite_connection.explain_open_error(error, directory)}."
            _log.warning(why)
            return cls(sqlite_connection.open_in_memory(), memory_reason=why)
        return cls(connection, path=path)

    @property
    def durable(self) -> bool:
        """Whether what is written outlives the process."""
        return self.path is not None

    def file_is_current(self) -> bool:
        """Whether the file of that name is still the one that is written: it may have been removed or replaced, and
        what is written then goes with the process. Looks at the disk.
        """
        return self._file_identity is not None and _identify_file(self.path) == self._file_identity

    @property
    def last_error(self) -> str:
        """One sentence: why it is all in memory, or why the latest write failed; empty when all is well."""
        return self._memory_reason or self._write_error

    @property
    def error_count(self) -> int:
        """How many writes have failed so far."""
        return self._error_count

    def error_since(self, error_count: int) -> str:
        """`trouble`, or why a write failed since there were so many `troubles`, even if the latest one succeeded.

        On a full disk some still do: those that change nothing, and small ones where the file has room inside.
        """
        return self.last_error or (self._latest_error if self._error_count > error_count else "")

    async def write(
        self, operation: Callable[Concatenate[Transaction, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a job in a transaction for writing; returns once it is committed.

        A caller that is cancelled stops waiting, but the job runs and is committed all the same.

        Raises:
            StoreError: The database could not do it (disk full, locked for 30 s, damaged), or the store is closed.
        """
        return await self._submit(self._writer, lambda tx: operation(tx, *args, **kwargs))

    async def read(
        self, operation: Callable[Concatenate[Transaction, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a job that only reads, on one snapshot; it sees every write that was awaited before.

        Raises:
            StoreError: The database could not be read, the job tried to write, or the store is closed.
        """
        return await self._submit(self._reader, lambda tx: operation(tx, *args, **kwargs))

    async def read_slow(
        self, operation: Callable[Concatenate[Transaction, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """`read` for a job that may take a second: on a connection of its own, so that no other read waits for it.

        Raises:
            StoreError: As of `read`.
        """
        return await self._submit(self._reporter, lambda tx: operation(tx, *args, **kwargs))

    def write_nowait(
        self, operation: Callable[Concatenate[Transaction, P], object], /, *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """Write without waiting, from any thread. A failure is counted in `failures`, and each kind logged once."""
        try:
            self._writer.submit(Operation(lambda tx: operation(tx, *args, **kwargs)))
        except StoreError as error:
            self._log_lost_write(error)

    async def close(self) -> None:
        """Finish what is queued and close the files; a few milliseconds, 2 s at most. Later writes are refused.

        The end is asked for at once, so the queue is finished even if the caller is cancelled.
        """
        self._begin_shutdown()
        await asyncio.to_thread(self.close_blocking)

    def close_blocking(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """`close` for callers without an event loop; gives up after `wait_s` seconds."""
        self._begin_shutdown()
        deadline = time.monotonic() + timeout_s
        lanes = (self._writer, self._reader, self._reporter)
        if not all(lane.join(max(0, deadline - time.monotonic())) for lane in lanes):
            _log.warning("The ledger was still locked by another process when the server closed.")

    def _begin_shutdown(self) -> None:
        self._writer.begin_shutdown()
        self._reader.begin_shutdown()
        self._reporter.begin_shutdown()

    async def _submit(self, worker: ConnectionWorker, function: Callable[[Transaction], T]) -> T:
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        worker.submit(Operation(function, future))
        return cast("T", await future)

    def _record_results(self, results: Sequence[OperationResult]) -> None:
        """On the writer's thread, after each batch: know how writing goes, and count what nobody waits for."""
        for job, error in ((each.operation, each.error) for each in results):
            if error is None:
                self._write_error = ""
            elif isinstance(error, StoreError) and error.kind != "bug":
                self._write_error = self._latest_error = str(error)
                self._error_count += 1
            if error is not None and (job.future is None or job.future.cancelled()):
                self._log_lost_write(error)

    def _log_lost_write(self, error: BaseException) -> None:
        self.lost_writes += 1
        if str(error) not in self._logged_errors:
            self._logged_errors.add(str(error))
            _log.warning("A write was lost: %s", error)


def _identify_file(path: Path | None) -> tuple[int, int] | None:
    """Which file has that name, None where there is none."""
    try:
        found = path.stat() if path is not None else None
    except OSError:
        return None
    return None if found is None else (found.st_dev, found.st_ino)


def _open_read_only(path: Path) -> sqlite3.Connection:
    connection = sqlite_connection.open_connection(path)
    connection.execute("pragma query_only=on")
    return connection
