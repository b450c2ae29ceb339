"""Operations on a database, and how one or several of them run in a transaction."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mcp_server_claude.store.transaction import SharedTransactionError, StoreError, StoreErrorKind

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from mcp_server_claude.store.database_connection import DatabaseConnection
    from mcp_server_claude.store.transaction import Transaction

BACKLOG_KINDS: frozenset[StoreErrorKind] = frozenset({"unreachable", "locked", "full", "io", "read_only"})
"""Kinds of store errors after which an operation that survives them waits: it can succeed later as it is."""


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """A function to run in a transaction, and the future of its caller, if one waits.

    It runs again if the first run's transaction was lost, so it must change nothing but the database. One that
    `survives_outage` waits in the backlog while the database cannot be reached or written, and runs afterwards;
    `is_late` says that it has waited. One that `runs_alone` shares no transaction where rows are locked; others change
    rows that other servers change too by `Transaction.change_shared_rows` only.
    """

    function: Callable[[Transaction], object]
    future: asyncio.Future[object] | None = None
    survives_outage: bool = False
    runs_alone: bool = False
    is_late: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class OperationResult:
    """Result of an operation: the value of a committed one, or the error that rolled it back.

    `is_kept`: the operation waits in the backlog, and runs again once the database can be written.
    """

    operation: Operation
    value: object = None
    error: BaseException | None = None
    is_kept: bool = False


def run_together(connection: DatabaseConnection, operations: list[Operation]) -> list[OperationResult]:
    """Run operations that lock the rows of other servers at the end, in one order.

    Raises:
        Exception: One of the connection's errors.
        SharedTransactionError: One of the operations failed, or cannot share the transaction.
    """
    try:
        values = connection.transaction.run_together([operation.function for operation in operations])
    except connection.errors:
        raise
    except BaseException as error:
        raise SharedTransactionError from error
    return [OperationResult(operation, value) for operation, value in zip(operations, values, strict=True)]


def run_alone(connection: DatabaseConnection, operation: Operation) -> OperationResult:
    """Run the only operation of a transaction, and commit it, or roll it back if the operation fails.

    Raises:
        Exception: As `run_in_savepoint`.
    """
    try:
        result = OperationResult(operation, operation.function(connection.transaction))
    except BaseException as error:  # delivered to the caller; the thread must continue
        if isinstance(error, connection.errors) and (not connection.in_transaction() or connection.is_conflict(error)):
            raise
        connection.execute("rollback")
        return OperationResult(operation, error=_deliverable_error(connection, error))
    connection.commit()
    return result


def run_without_savepoints(connection: DatabaseConnection, operations: list[Operation]) -> list[OperationResult] | None:
    """Run operations in the transaction itself. Two statements less for each, and one rarely fails.

    Returns None if one has failed. Then a new transaction has begun, in which all of them have to run again.

    Raises:
        Exception: As `run_in_savepoint`.
    """
    try:
        return [OperationResult(operation, operation.function(connection.transaction)) for operation in operations]
    except BaseException as error:  # it will fail again in its savepoint, and is delivered to its caller then
        if _loses_transaction(connection, error):
            raise
    connection.execute("rollback")
    connection.execute(connection.begin)
    return None


def run_in_savepoint(connection: DatabaseConnection, operation: Operation) -> OperationResult:
    """Run an operation in a savepoint.

    Raises:
        Exception: One of the connection's errors. The surrounding transaction is lost
            (https://sqlite.org/lang_transaction.html §3), in conflict with that of another process, or the database
            cannot be written.
    """
    connection.execute("savepoint operation")
    try:
        result = OperationResult(operation, operation.function(connection.transaction))
    except BaseException as error:  # delivered to the caller; the thread must continue
        if _loses_transaction(connection, error):
            raise
        connection.execute("rollback to operation")
        result = OperationResult(operation, error=_deliverable_error(connection, error))
    connection.execute("release operation")
    return result


def _loses_transaction(connection: DatabaseConnection, error: BaseException) -> bool:
    return isinstance(error, connection.errors) and (
        not connection.in_transaction()
        or connection.is_conflict(error)
        or connection.to_store_error(error).kind in BACKLOG_KINDS
    )


def _deliverable_error(connection: DatabaseConnection, error: BaseException) -> BaseException:
    if isinstance(error, connection.errors):
        return connection.to_store_error(error)
    if isinstance(error, StopIteration):  # a future cannot carry it
        store_error = StoreError("The ledger could not be used: StopIteration left an operation.")
        store_error.__cause__ = error
        return store_error
    return error


def rollback(connection: DatabaseConnection) -> None:
    with suppress(*connection.errors):  # the cause of a failed commit can fail this too; the thread must go on
        if connection.in_transaction():
            connection.execute("rollback")
