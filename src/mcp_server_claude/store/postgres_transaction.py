"""PostgreSQL transactions, whose statements are sent together where nothing depends on their results.

A round trip to another machine takes longer than most statements. Two things save some: `begin` is sent with the first
statement, and what `Transaction.execute_all` gets is sent with the next statement that has a result, or with `commit`.
All of them go through libpq's pipeline mode (https://www.postgresql.org/docs/current/libpq-pipeline-mode.html). The
server executes them one after the other, and none after one that failed.
"""

from __future__ import annotations

from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, LiteralString, cast

import psycopg
from psycopg.pq import TransactionStatus

from mcp_server_claude.store.database_connection import DatabaseConnection
from mcp_server_claude.store.postgres_connection import to_store_error
from mcp_server_claude.store.sql_parameters import to_psycopg_sql
from mcp_server_claude.store.transaction import NO_PARAMS, Transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from mcp_server_claude.store.postgres_connection import TimedConnection
    from mcp_server_claude.store.transaction import SqlParams, SqlValue, Statement

MAX_INTEGER = 2**63 - 1
NUL_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

_OPEN_TRANSACTION = (TransactionStatus.ACTIVE, TransactionStatus.INTRANS, TransactionStatus.INERROR)
_CONFLICTS = ("40001", "40P01")  # serialization_failure, deadlock_detected
_COMMIT: Statement = ("commit", NO_PARAMS)


class PostgresTransaction(Transaction):
    """An open transaction on a connection. `begin` is the statement that begins one."""

    def __init__(self, connection: TimedConnection, begin: str = "begin") -> None:
        super().__init__(self._run_now)
        self._connection = connection
        self._begin: Statement = (begin, NO_PARAMS)
        self._unsent: list[Statement] = []
        self.has_begun = True
        """False from `begin` until the server has answered."""

    def begin(self) -> None:
        """Begin a transaction with the next statement that is sent."""
        self._unsent, self.has_begun = [self._begin], False

    def commit(self) -> None:
        """Commit the transaction.

        Raises:
            psycopg.Error: It was lost. The server would take `commit` nevertheless, and roll back what is left of it.
        """
        if len(self._unsent) > 1 and not self.has_begun:
            self._send_all([])  # a transaction whose `commit` was sent cannot be repeated when the connection is lost
        if self.has_begun and self._connection.info.transaction_status is not TransactionStatus.INTRANS:
            self._connection.execute("savepoint operation")  # raises the server's own error
        self._send_all([_COMMIT])

    def rollback(self) -> None:
        """Roll the transaction back.

        Raises:
            psycopg.Error: The server failed.
        """
        self._unsent = []
        if self.has_begun:
            with self._connection.expecting_answer_soon():
                self._connection.execute("rollback")

    def execute_all(self, statements: Sequence[Statement], /) -> None:
        """`Transaction.execute_all` with the next statement that is sent."""
        self._unsent.extend(statements)

    def _run_now(self, sql: str, params: SqlParams) -> psycopg.Cursor:
        return self._send_all([(sql, params)])[0]

    def _run_each(self, statements: Sequence[Statement]) -> Sequence[psycopg.Cursor]:
        return self._send_all(statements) if statements else []

    def _send_all(self, statements: Sequence[Statement]) -> list[psycopg.Cursor]:
        """Send what is unsent, and then statements, in one round trip. Returns the cursors of the latter.

        Raises:
            psycopg.Error: One failed, or the connection was lost.
        """
        unsent, self._unsent = self._unsent, []
        soon = self._connection.expecting_answer_soon() if not self.has_begun else nullcontext()
        try:
            with soon:
                return self._execute_each([*unsent, *statements])[len(unsent) :]
        finally:
            self.has_begun = self.has_begun or not self._connection.closed

    def _execute_each(self, statements: Sequence[Statement]) -> list[psycopg.Cursor]:
        connection = self._connection
        if len(statements) == 1 or not psycopg.Pipeline.is_supported():
            return [_execute_statement(connection, *statement) for statement in statements]
        cursors: list[psycopg.Cursor] = []
        with connection.pipeline():  # waits for the results at its end
            for statement in statements:
                cursors.append(_execute_statement(connection, *statement))
                if statement is self._begin:
                    connection.pgconn.send_flush_request()  # its answer comes before that of a statement that waits
        return cursors


def _execute_statement(connection: psycopg.Connection, sql: str, params: SqlParams) -> psycopg.Cursor:
    values = {name: storable_value(value) for name, value in params.items()}
    # Statements are written in this package; every value is bound.
    return connection.execute(cast("LiteralString", to_psycopg_sql(sql)), values)


@contextmanager
def transaction(connection: TimedConnection) -> Generator[PostgresTransaction]:
    """Run the block in a transaction that is committed if the block succeeds.

    Raises:
        psycopg.Error: The server failed. Nothing was changed.
    """
    tx = PostgresTransaction(connection)
    connection.execute("begin")
    try:
        yield tx
        tx.commit()
    except BaseException:
        with suppress(psycopg.Error):
            tx.rollback()
        raise


def wrap_connection(
    connection: TimedConnection,
    begin: str,
    *,
    heartbeat_interval_s: float | None = None,
    give_back: Callable[[], None] | None = None,
) -> DatabaseConnection:
    """Return a connection as stores use it. `begin` is the statement that begins a transaction.

    `give_back` returns the connection to its pool, which is called after each transaction instead of closing it.
    """
    tx = PostgresTransaction(connection, begin)
    controls: dict[str, Callable[[], None]] = {begin: tx.begin, "rollback": tx.rollback}
    return DatabaseConnection(
        transaction=tx,
        begin=begin,
        execute=lambda statement: controls.get(statement, lambda: _execute_control(connection, statement))(),
        commit=tx.commit,
        has_begun=lambda: tx.has_begun,
        in_transaction=lambda: connection.info.transaction_status in _OPEN_TRANSACTION,
        is_lost=lambda: connection.closed,
        is_conflict=lambda error: isinstance(error, psycopg.Error) and error.sqlstate in _CONFLICTS,
        to_store_error=to_store_error,
        errors=(psycopg.Error,),
        close=give_back or connection.close,
        is_pooled=give_back is not None,
        heartbeat_interval_s=heartbeat_interval_s,
    )


def _execute_control(connection: TimedConnection, statement: str) -> None:
    """Execute a statement that waits for no lock.

    Raises:
        psycopg.Error: The server failed, or does not answer.
    """
    with connection.expecting_answer_soon():
        connection.execute(cast("LiteralString", statement))


def storable_value(value: SqlValue) -> SqlValue:
    """Replace what the server cannot store, one character for one so that offsets stay: lone surrogates, and NUL.

    Huge integers become the largest, and truth values 0 and 1.
    """
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode().replace("\0", NUL_REPLACEMENT)
    if isinstance(value, int):
        return max(-MAX_INTEGER, min(MAX_INTEGER, int(value)))
    return value
