"""PostgreSQL connections: their settings, transactions, and the server's errors as plain sentences."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, LiteralString, TypeVar, cast

import psycopg
from psycopg import conninfo
from psycopg.pq import TransactionStatus

from mcp_server_claude.store.database_connection import DatabaseConnection
from mcp_server_claude.store.sql_parameters import to_psycopg_sql
from mcp_server_claude.store.transaction import StoreError, StoreErrorKind, Transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from psycopg.abc import PQGen

    from mcp_server_claude.store.transaction import SqlParams, SqlValue, Statement

T = TypeVar("T")

CONNECT_TIMEOUT_S = 5
STATEMENT_TIMEOUT_S = 30
"""Seconds that a statement may take, waiting for locks included."""
IDLE_IN_TRANSACTION_TIMEOUT_S = 10
"""Seconds after which the server ends the transaction of a process that was stopped in it, and its locks with it."""
KEEPALIVE_IDLE_S, KEEPALIVE_INTERVAL_S, KEEPALIVE_COUNT = 10, 5, 3
DEAD_PEER_TIMEOUT_S = KEEPALIVE_IDLE_S + KEEPALIVE_INTERVAL_S * KEEPALIVE_COUNT
"""Seconds after which either side notices that the other one's machine or network is gone."""
ANSWER_TIMEOUT_S = STATEMENT_TIMEOUT_S + 5
"""Seconds without a byte of the answer to a statement after which the connection counts as lost.

The server ends a statement earlier than that. Its silence means that the way to it is cut where no packet shows it: a
proxy, a load balancer or a pooler takes what is sent, and the timeouts of TCP see its acknowledgements.
"""
CONTROL_TIMEOUT_S = CONNECT_TIMEOUT_S
"""The same for statements that wait for no lock, such as `begin`: with these a new operation finds a cut soon."""
MIN_PIPELINE_STATEMENTS = 2
MAX_INTEGER = 2**63 - 1
NUL_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

logging.getLogger("psycopg").setLevel(logging.ERROR)  # its warnings repeat errors that it raises, with the user's name

_SESSION_SETTINGS = {
    "statement_timeout": f"{STATEMENT_TIMEOUT_S}s",
    "idle_in_transaction_session_timeout": f"{IDLE_IN_TRANSACTION_TIMEOUT_S}s",
    "tcp_keepalives_idle": str(KEEPALIVE_IDLE_S),
    "tcp_keepalives_interval": str(KEEPALIVE_INTERVAL_S),
    "tcp_keepalives_count": str(KEEPALIVE_COUNT),
    "tcp_user_timeout": f"{DEAD_PEER_TIMEOUT_S}s",
    "client_min_messages": "warning",
}
CONNECT_PARAMETERS: Mapping[str, Any] = {
    "autocommit": True,  # transactions begin and end by statements
    "connect_timeout": CONNECT_TIMEOUT_S,
    "keepalives_idle": KEEPALIVE_IDLE_S,
    "keepalives_interval": KEEPALIVE_INTERVAL_S,
    "keepalives_count": KEEPALIVE_COUNT,
    "tcp_user_timeout": DEAD_PEER_TIMEOUT_S * 1000,
    "application_name": "mcp-server-claude",
    "client_encoding": "utf8",
}
"""Parameters of a new connection besides its URL, for `psycopg.connect`."""
_OPEN_TRANSACTION = (TransactionStatus.ACTIVE, TransactionStatus.INTRANS, TransactionStatus.INERROR)
_CONFLICTS = ("40001", "40P01")  # serialization_failure, deadlock_detected
_ERROR_KINDS: tuple[tuple[str, StoreErrorKind, str], ...] = (
    ("53100", "full", "its disk is full"),
    ("53200", "full", "it is out of memory"),
    ("53300", "unreachable", "it has no connection free"),
    ("57014", "locked", f"a statement took longer than {STATEMENT_TIMEOUT_S} s"),
    ("55P03", "locked", "another connection keeps a row locked"),
    ("40", "locked", "other servers change the same rows all the time"),
    ("25006", "read_only", "it accepts no writes"),
    ("25P03", "unreachable", "it ended the connection of a stopped process"),
    ("42501", "read_only", "its role lacks a permission"),
    ("28", "unreachable", "it refused the user or the password"),
    ("3D", "unreachable", "there is no database of that name"),
    ("57", "unreachable", "it is shutting down or starting"),
    ("08", "unreachable", "the connection was lost"),
    ("42", "schema", "its tables do not fit this version"),
    ("XX", "damaged", "it reports an internal error"),
)
"""Kinds and half sentences by the beginning of the SQLSTATE, the first that fits
(https://www.postgresql.org/docs/current/errcodes-appendix.html)."""


class NoAnswerError(psycopg.OperationalError):
    """The server has not answered in time, and the connection was closed."""


class TimedConnection(psycopg.Connection[Any]):
    """A connection that is closed if the server is silent for `answer_timeout_s` while it owes an answer."""

    answer_timeout_s: float = ANSWER_TIMEOUT_S

    def wait(self, gen: PQGen[T], *args: Any, **kwargs: Any) -> T:
        """Wait for the end of `gen`, which psycopg resumes at each byte and ten times a second.

        Raises:
            NoAnswerError: The server was silent for too long.
        """
        return super().wait(self._close_if_silent(gen), *args, **kwargs)

    def _close_if_silent(self, gen: PQGen[T]) -> PQGen[T]:
        try:
            awaited = next(gen)
            deadline = time.monotonic() + self.answer_timeout_s
            while True:
                ready = yield awaited
                if ready:
                    deadline = time.monotonic() + self.answer_timeout_s
                elif time.monotonic() > deadline:
                    self.close()
                    raise NoAnswerError
                awaited = gen.send(ready)
        except StopIteration as end:
            return cast("T", end.value)


class PostgresTransaction(Transaction):
    """An open transaction on a connection."""

    def __init__(self, connection: psycopg.Connection) -> None:
        super().__init__(partial(_run_statement, connection))
        self._connection = connection

    def execute_all(self, statements: Sequence[Statement], /) -> list[int]:
        """`Transaction.execute_all` in libpq's pipeline mode, where its version has that."""
        if len(statements) < MIN_PIPELINE_STATEMENTS or not psycopg.Pipeline.is_supported():
            return super().execute_all(statements)
        with self._connection.pipeline():  # waits for the results at its end
            cursors = [_run_statement(self._connection, sql, params) for sql, params in statements]
        return [cursor.rowcount for cursor in cursors]


def _run_statement(connection: psycopg.Connection, sql: str, params: SqlParams) -> psycopg.Cursor:
    values = {name: storable_value(value) for name, value in params.items()}
    # Statements are written in this package; every value is bound.
    return connection.execute(cast("LiteralString", to_psycopg_sql(sql)), values)


@contextmanager
def transaction(connection: psycopg.Connection) -> Generator[PostgresTransaction]:
    """Run the block in a transaction that is committed if the block succeeds.

    Raises:
        psycopg.Error: The server failed. Nothing was changed.
    """
    connection.execute("begin")
    try:
        yield PostgresTransaction(connection)
        connection.execute("commit")
    except BaseException:
        with suppress(psycopg.Error):
            connection.execute("rollback")
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
    return DatabaseConnection(
        transaction=PostgresTransaction(connection),
        begin=begin,
        execute=partial(_execute_control, connection),
        commit=partial(_commit, connection),
        in_transaction=lambda: connection.info.transaction_status in _OPEN_TRANSACTION,
        is_lost=lambda: connection.closed,
        is_conflict=lambda error: isinstance(error, psycopg.Error) and error.sqlstate in _CONFLICTS,
        to_store_error=to_store_error,
        errors=(psycopg.Error,),
        close=give_back or connection.close,
        is_pooled=give_back is not None,
        heartbeat_interval_s=heartbeat_interval_s,
    )


def _execute_control(connection: TimedConnection, statement: str) -> object:
    """Execute a statement that waits for no lock.

    Raises:
        psycopg.Error: The server failed, or does not answer.
    """
    connection.answer_timeout_s = CONTROL_TIMEOUT_S
    try:
        return connection.execute(cast("LiteralString", statement))
    finally:
        connection.answer_timeout_s = ANSWER_TIMEOUT_S


def _commit(connection: psycopg.Connection) -> None:
    """Commit the transaction.

    Raises:
        psycopg.Error: It was lost. The server would take `commit` nevertheless, and roll back what is left of it.
    """
    if connection.info.transaction_status is not TransactionStatus.INTRANS:
        connection.execute("savepoint operation")  # raises the server's own error
    connection.execute("commit")


def connect(url: str) -> TimedConnection:
    """Connect to a server, with the timeouts of this module.

    Raises:
        StoreError: The server cannot be reached, or refuses the connection.
    """
    try:
        connection = TimedConnection.connect(url, **CONNECT_PARAMETERS)
        set_timeouts(connection)
    except psycopg.Error as error:
        raise to_store_error(error) from None  # its text can quote the URL
    return connection


def set_timeouts(connection: psycopg.Connection) -> None:
    """Set the timeouts of this module in the session of a new connection, in one round trip.

    Parameters of the connection would need no round trip, but poolers such as PgBouncer refuse those they do not know.

    Raises:
        psycopg.Error: The server failed.
    """
    calls = ", ".join("set_config(%s, %s, false)" for _ in _SESSION_SETTINGS)
    names_and_values = [each for setting in _SESSION_SETTINGS.items() for each in setting]
    try:
        connection.execute(f"select {calls}", names_and_values)
    except BaseException:
        connection.close()
        raise


def _classify_error(error: psycopg.Error) -> tuple[StoreErrorKind, str]:
    """Return the kind of a server's error and half a sentence about it."""
    if isinstance(error, NoAnswerError):
        return "unreachable", "it does not answer"
    if error.sqlstate is None:
        if isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):
            return "unreachable", "no connection to it can be made"
        return "bug", type(error).__name__
    for beginning, kind, reason in _ERROR_KINDS:
        if error.sqlstate.startswith(beginning):
            return kind, f"{reason} ({error.diag.message_primary})" if kind == "schema" else reason
    return "bug", f"{type(error).__name__} ({error.sqlstate})"


def to_store_error(error: Exception) -> StoreError:
    """Return the store error for an error of the server or of the network, which is chained."""
    kind: StoreErrorKind
    if isinstance(error, psycopg.Error):
        kind, reason = _classify_error(error)
    else:
        kind, reason = "bug", type(error).__name__
    store_error = StoreError(f"The ledger's database could not be used: {reason}.", kind=kind)
    store_error.__cause__ = error
    return store_error


def describe_url(url: str) -> str:
    """Return host, port and database of a URL, without user, password and options."""
    try:
        parts = conninfo.conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        return "postgresql://"
    port = f":{parts['port']}" if parts.get("port") else ""
    return f"postgresql://{parts.get('host') or parts.get('hostaddr') or ''}{port}/{parts.get('dbname') or ''}"


def storable_value(value: SqlValue) -> SqlValue:
    """Replace what the server cannot store, one character for one so that offsets stay: lone surrogates, and NUL.

    Huge integers become the largest, and truth values 0 and 1.
    """
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode().replace("\0", NUL_REPLACEMENT)
    if isinstance(value, int):
        return max(-MAX_INTEGER, min(MAX_INTEGER, int(value)))
    return value
