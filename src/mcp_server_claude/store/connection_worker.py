"""A thread that owns one connection and runs operations in batches: one transaction a batch.

Where one of them fails, they run again with a savepoint each. One that is alone in its transaction needs none.

One commit for all operations in the queue makes many callers cheap (measured: 153,000 operations a second instead of
21,800), and a single caller waits no longer for it.
"""

from __future__ import annotations

import time
from collections import deque
from contextlib import suppress
from dataclasses import replace
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import TYPE_CHECKING

from mcp_server_claude.store.operations import (
    BACKLOG_KINDS,
    Operation,
    OperationResult,
    rollback,
    run_alone,
    run_in_savepoint,
    run_together,
    run_without_savepoints,
)
from mcp_server_claude.store.transaction import SharedTransactionError, StoreError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from mcp_server_claude.store.database_connection import DatabaseConnection

MAX_BATCH_OPERATIONS = 64
"""Operations in one transaction at most, so that other processes wait only briefly for the lock."""

MAX_ATTEMPTS = 5
"""Runs of an operation at most, if its transaction conflicts with those of other processes."""
MAX_BACKLOG_OPERATIONS = 50_000
"""Operations that wait at most while the database cannot be reached or written. Later ones are lost."""
RECONNECT_INTERVAL_S = 1.0
"""Seconds after a failed attempt to connect until the next one at most, and until what waits is tried again."""
MIN_RECONNECT_INTERVAL_S = 0.05
"""Seconds after a failed attempt to connect until the next one at least, so that servers on many machines do not hinder
a database that starts. Operations fail at once meanwhile."""
RECONNECT_SHARE = 0.1
"""Share of the time that attempts to connect take at most, as long as they fail within a tenth of a second: one that is
refused at once is soon made again, one that times out after the longest pause."""


class ConnectionWorker:
    """A thread with a connection and a queue. Operations run in the order of submission."""

    def __init__(
        self,
        name: str,
        connect: Callable[[], DatabaseConnection],
        on_batch: Callable[[Sequence[OperationResult]], None] | None = None,
        *,
        locks_rows: bool = False,
        queue: SimpleQueue[Operation | None] | None = None,
        max_batch_operations: int = MAX_BATCH_OPERATIONS,
    ) -> None:
        """`connect` is called for the first operation, and again after a loss; `on_batch` after each batch.

        Both are called on the thread. `locks_rows` is true for databases that lock rows, not all of the database. An
        operation that `runs_alone` then has a transaction of its own: a batch would lock the rows of its operations in
        any order, and meet those of other servers in a deadlock, which is noticed after a second. Workers with the same
        `queue` share its operations; each of them must be closed.
        """
        self._connect, self._on_batch, self._locks_rows = connect, on_batch, locks_rows
        self._connection: DatabaseConnection | None = None
        self._connect_error: StoreError | None = None
        self._next_connect_at = 0.0
        self._heartbeat_interval_s: float | None = None
        self._queue: SimpleQueue[Operation | None] = SimpleQueue() if queue is None else queue
        self._max_batch_operations = max_batch_operations
        self._backlog: deque[Operation] = deque()
        self._backlog_error = StoreError("The ledger's database cannot be reached.", kind="unreachable")
        self._next_backlog_run_at = 0.0
        self._lock, self._closed = Lock(), False
        # A daemon, so that a locked database never delays the exit of the process.
        self._thread = Thread(target=self._run_until_closed, name=name, daemon=True)
        self._thread.start()

    def submit(self, operation: Operation) -> None:
        """Queue an operation.

        Raises:
            StoreError: The worker is closed.
        """
        with self._lock:
            if self._closed:
                raise StoreError("The ledger is closed.", kind="closed")
            self._queue.put(operation)

    def begin_shutdown(self) -> None:
        """Accept no more operations. The thread finishes those in the queue and closes the connection later."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._queue.put(None)

    def join(self, timeout_s: float) -> bool:
        """Wait at most `timeout_s` seconds for the thread to end. Returns True if it has."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run_until_closed(self) -> None:
        while self._run_next_batch():
            pass
        while self._backlog and self._run_backlog():
            time.sleep(RECONNECT_INTERVAL_S)  # the caller of `join` decides how long
        if self._connection is not None:
            self._connection.close()

    def _run_next_batch(self) -> bool:
        """Run one batch. A method of its own, so that nothing of the batch stays in memory while the thread waits."""
        batch = self._take_batch()
        if not batch:
            self._run_backlog()
            self._send_heartbeat()
            return True
        for operations in self._split_batch([operation for operation in batch if operation is not None]):
            results = self._run_after_backlog(operations)
            self._return_to_pool()
            self._report(results)
        return batch[-1] is not None

    def _run_after_backlog(self, operations: list[Operation]) -> list[OperationResult]:
        """Run operations, or let those wait that may come only after what waits already.

        Where the database can be reached, others run at once: some writes succeed on a full disk.
        """
        is_out = bool(self._backlog) and self._run_backlog()
        is_unreachable = is_out and self._backlog_error.kind == "unreachable"
        waiting = [each for each in operations if is_unreachable or (is_out and each.survives_outage)]
        results = [self._fail(operation, self._backlog_error) for operation in waiting]
        return results + self._run_transaction([each for each in operations if each not in waiting])

    def _split_batch(self, batch: list[Operation]) -> list[list[Operation]]:
        """Return a batch as the transactions in which its operations run, in their order."""
        if not self._locks_rows:
            return [batch]
        groups: list[list[Operation]] = []
        for operation in batch:
            if groups and not operation.runs_alone and not groups[-1][-1].runs_alone:
                groups[-1].append(operation)
            else:
                groups.append([operation])
        return groups

    def _run_backlog(self) -> bool:
        """Run what waits since a failure, in order. Returns True if the failure continues.

        Attempts that take long, for a lock, are made half of the time at most.
        """
        started_at = time.monotonic()
        if started_at < self._next_backlog_run_at:
            return bool(self._backlog)
        while self._backlog:
            batch = [self._backlog.popleft() for _ in range(min(len(self._backlog), MAX_BATCH_OPERATIONS))]
            later, self._backlog = self._backlog, deque()
            for operations in self._split_batch(batch):
                if self._backlog:
                    self._backlog.extend(operations)
                else:
                    self._report(self._run_transaction(operations))
            is_out = bool(self._backlog)
            self._backlog.extend(later)
            if is_out:
                self._next_backlog_run_at = 2 * time.monotonic() - started_at
                return True
        return False

    def _report(self, results: list[OperationResult]) -> None:
        if self._on_batch is not None and results:
            self._on_batch(results)
        _resolve_futures(results)

    def _take_batch(self) -> list[Operation | None]:
        """Wait for operations. Returns none when it is time for a heartbeat, or to try again those that are kept."""
        try:
            batch = [self._queue.get(timeout=RECONNECT_INTERVAL_S if self._backlog else self._heartbeat_interval_s)]
        except Empty:
            return []
        with suppress(Empty):
            while batch[-1] is not None and len(batch) < self._max_batch_operations:
                batch.append(self._queue.get_nowait())
        return batch

    def _run_transaction(self, operations: list[Operation], attempt: int = 1) -> list[OperationResult]:
        if not operations:
            return []
        try:
            connection = self._open_connection()
        except StoreError as error:
            return [self._fail(operation, error) for operation in operations]
        try:
            connection.execute(connection.begin)
        except connection.errors as error:
            store_error = connection.to_store_error(error)
            return [self._fail(operation, store_error) for operation in operations]
        try:
            results = self._run_operations(connection, operations)
        except connection.errors as error:  # the whole transaction is lost, for one on a full disk
            rollback(connection)
            if connection.is_lost():
                if attempt < MAX_ATTEMPTS and not connection.has_begun():  # it was lost while it was idle
                    return self._run_transaction(operations, attempt + 1)
                store_error = connection.to_store_error(error)
                return [self._fail(operation, store_error) for operation in operations]
            if len(operations) == 1:
                if attempt < MAX_ATTEMPTS and connection.is_conflict(error):
                    return self._run_transaction(operations, attempt + 1)
                return [self._fail(operations[0], connection.to_store_error(error))]
            return self._run_one_by_one(operations)
        except SharedTransactionError:
            rollback(connection)
            return self._run_one_by_one(operations)
        return [self._let_wait(result) for result in results]

    def _run_one_by_one(self, operations: list[Operation]) -> list[OperationResult]:
        """Run each operation in a transaction of its own, to isolate the one that failed.

        Those that can wait stay behind one that does.
        """
        has_waited, results = len(self._backlog), list[OperationResult]()
        for operation in operations:
            if operation.survives_outage and len(self._backlog) > has_waited:
                results.append(self._fail(operation, self._backlog_error))
            else:
                results += self._run_transaction([operation])
        return results

    def _run_operations(self, connection: DatabaseConnection, operations: list[Operation]) -> list[OperationResult]:
        """Run operations, and commit.

        Raises:
            Exception: One of the connection's errors. The transaction is lost, or in conflict with that of another
                process.
            SharedTransactionError: They cannot share the transaction.
        """
        if len(operations) == 1:
            return [run_alone(connection, operations[0])]
        if self._locks_rows:
            results = run_together(connection, operations)
        elif (completed := run_without_savepoints(connection, operations)) is not None:
            results = completed
        else:
            results = [run_in_savepoint(connection, operation) for operation in operations]
        connection.commit()
        return results

    def _send_heartbeat(self) -> None:
        """Execute a statement on the connection if it needs that. A connection that was lost is replaced."""
        if self._heartbeat_interval_s is None:
            return
        if self._connection is not None:
            with suppress(*self._connection.errors):
                self._connection.execute("select 1")
        with suppress(StoreError):  # the next operation says why
            self._open_connection()

    def _open_connection(self) -> DatabaseConnection:
        """Return the connection, opening it if there is none.

        Raises:
            StoreError: The database cannot be opened.
        """
        if self._connection is not None and self._connection.is_lost():
            self._connection.close()
            self._connection = None
        if self._connection is None:
            if time.monotonic() < self._next_connect_at:
                raise self._outage()
            started_at = time.monotonic()
            try:
                self._connection = self._connect()
            except StoreError as error:
                self._connect_error = error
                if error.kind == "unreachable":
                    failed_at = time.monotonic()
                    self._next_connect_at = failed_at + _reconnect_pause_s(failed_at - started_at)
                raise
            self._heartbeat_interval_s = self._connection.heartbeat_interval_s
        return self._connection

    def _return_to_pool(self) -> None:
        if self._connection is not None and self._connection.is_pooled:
            self._connection.close()
            self._connection = None

    def _outage(self) -> StoreError:
        return self._connect_error or self._backlog_error

    def _fail(self, operation: Operation, error: StoreError) -> OperationResult:
        """Return the result of an operation that failed or did not run."""
        return self._let_wait(OperationResult(operation, error=error))

    def _let_wait(self, result: OperationResult) -> OperationResult:
        """Put an operation that survives its error into the backlog, without its caller."""
        operation, error = result.operation, result.error
        if (
            not operation.survives_outage
            or not isinstance(error, StoreError)
            or error.kind not in BACKLOG_KINDS
            or len(self._backlog) >= MAX_BACKLOG_OPERATIONS
        ):
            return result
        self._backlog.append(replace(operation, future=None, is_late=True))
        self._backlog_error = error
        return replace(result, is_kept=True)


def _reconnect_pause_s(attempt_s: float) -> float:
    """Seconds until the next attempt to connect, after one that failed in `attempt_s` seconds."""
    return min(RECONNECT_INTERVAL_S, max(MIN_RECONNECT_INTERVAL_S, attempt_s / RECONNECT_SHARE))


def _resolve_futures(results: list[OperationResult]) -> None:
    """Wake the callers: one call for each event loop, for all futures that belong to it."""
    by_loop: dict[asyncio.AbstractEventLoop, list[OperationResult]] = {}
    for result in results:
        if result.operation.future is not None:
            by_loop.setdefault(result.operation.future.get_loop(), []).append(result)
    for loop, group in by_loop.items():
        try:
            loop.call_soon_threadsafe(_set_results, group)
        except RuntimeError:  # the loop is closed, so no caller waits there
            continue


def _set_results(results: list[OperationResult]) -> None:
    for result in results:
        future = result.operation.future
        if future is None or future.done():  # done: the caller was cancelled
            continue
        if result.error is None:
            future.set_result(result.value)
        else:
            future.set_exception(result.error)
