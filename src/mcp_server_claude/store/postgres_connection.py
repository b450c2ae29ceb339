"""PostgreSQL connections: their settings, the time in which the server must answer, and its errors as sentences."""

from __future__ import annotations

import logging
import re
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, cast

import psycopg
from psycopg import conninfo
from psycopg.waiting import Ready

from mcp_server_claude.store.transaction import StoreError, StoreErrorKind

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from psycopg.abc import PQGen

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
"""The same until the first byte, where the first statement waits for no lock, such as `begin`: so a new operation finds
a cut soon."""

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

_CONNECT_REASONS = (
    ("authentication failed", "it refuses the user or the password"),
    ("no password supplied", "it asks for a password"),
    ("pg_hba.conf", "it refuses the user, the address or the encryption"),
    ("permission denied for database", "its role lacks a permission"),
    ("too many clients", "it has none free"),
    ("too many connections", "it has none free"),
    ("connection slots are reserved", "it has none free"),
    ("the database system is", "it is shutting down or starting"),
    ("resolve host", "the name of its host is unknown"),
    ("translate host name", "the name of its host is unknown"),
    ("Connection refused", "nothing listens at its address"),
    ("timeout expired", "it does not answer"),
    ("does not support SSL", "it does not support TLS"),
    ("certificate", "a certificate was not accepted"),
)
"""Reasons by what the text of a failed connection contains, the first that fits: neither libpq nor psycopg gives
a SQLSTATE for it. There is none where the server's messages are in another language than English."""
_MISSING_NAME = re.compile(r'(role|database) "[^"]*" does not exist')


class NoAnswerError(psycopg.OperationalError):
    """The server has not answered in time, and the connection was closed."""


class TimedConnection(psycopg.Connection[Any]):
    """A connection that is closed if the server is silent for `ANSWER_TIMEOUT_S` while it owes an answer."""

    _first_answer_timeout_s: float | None = None

    @contextmanager
    def expecting_answer_soon(self) -> Generator[None]:
        """In the block, allow `CONTROL_TIMEOUT_S` until the first byte of an answer."""
        self._first_answer_timeout_s = CONTROL_TIMEOUT_S
        try:
            yield
        finally:
            self._first_answer_timeout_s = None

    def wait(self, gen: PQGen[T], *args: Any, **kwargs: Any) -> T:
        """Wait for the end of `gen`, which psycopg resumes at each byte and ten times a second.

        Raises:
            NoAnswerError: The server was silent for too long.
        """
        return super().wait(self._close_if_silent(gen), *args, **kwargs)

    def _close_if_silent(self, gen: PQGen[T]) -> PQGen[T]:
        try:
            awaited = next(gen)
            deadline = time.monotonic() + (self._first_answer_timeout_s or ANSWER_TIMEOUT_S)
            while True:
                ready = yield awaited
                if ready & Ready.R:
                    self._first_answer_timeout_s = None
                if ready:
                    deadline = time.monotonic() + (self._first_answer_timeout_s or ANSWER_TIMEOUT_S)
                elif time.monotonic() > deadline:
                    self.close()
                    raise NoAnswerError
                awaited = gen.send(ready)
        except StopIteration as end:
            return cast("T", end.value)


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
            return "unreachable", _connect_reason(str(error))
        return "bug", type(error).__name__
    for beginning, kind, reason in _ERROR_KINDS:
        if error.sqlstate.startswith(beginning):
            return kind, f"{reason} ({error.diag.message_primary})" if kind == "schema" else reason
    return "bug", f"{type(error).__name__} ({error.sqlstate})"


def _connect_reason(text: str) -> str:
    """Half a sentence on a failed connection, without the names in its text."""
    reason = next((reason for part, reason in _CONNECT_REASONS if part in text), "")
    if (missing := _MISSING_NAME.search(text)) is not None:
        reason = f"there is no {missing[1]} of that name"
    return f"no connection to it can be made{reason and ': '}{reason}"


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
