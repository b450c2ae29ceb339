"""SQLite's side of the house: the file and its permissions, its settings, its errors in plain sentences."""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from mcp_server_claude.store import migrations
from mcp_server_claude.store.transaction import NO_PARAMS, SqlParams, StoreError, StoreErrorKind

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

T = TypeVar("T")

DATABASE_FILE = "store.db"
BUSY_TIMEOUT_S = 30.0
"""Seconds that a statement waits for another process's lock."""
PRAGMAS = ("journal_mode=wal", "synchronous=normal", "foreign_keys=on", "secure_delete=on")
"""WAL with NORMAL loses no acknowledged commit to `kill -9`; a power cut may take the last ones, never the file.

What is deleted is overwritten, as Debian's SQLite does by itself and that of other Pythons does not.
"""

_ERROR_KINDS: dict[int, tuple[StoreErrorKind, str]] = {
    sqlite3.SQLITE_FULL: ("full", "its disk is full"),
    sqlite3.SQLITE_BUSY: ("locked", f"another process has kept it locked for {BUSY_TIMEOUT_S:.0f} s"),
    sqlite3.SQLITE_LOCKED: ("locked", "another connection keeps it locked"),
    sqlite3.SQLITE_PROTOCOL: ("locked", "too many processes are opening it at once"),
    sqlite3.SQLITE_IOERR: ("io", "its disk reports an error"),
    sqlite3.SQLITE_CANTOPEN: ("io", "its file cannot be opened or created"),
    sqlite3.SQLITE_PERM: ("read_only", "its file is not writable"),
    sqlite3.SQLITE_READONLY: ("read_only", "its file is not writable"),
    sqlite3.SQLITE_CORRUPT: ("damaged", "its file is damaged"),
    sqlite3.SQLITE_NOTADB: ("damaged", "its file is not a database"),
}


class SqliteTransaction:
    """An open transaction on a connection; see `Transaction`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def execute(self, sql: str, params: SqlParams = NO_PARAMS, /) -> int:
        return self._execute(sql, params).rowcount

    def fetch_all(self, row_factory: Callable[..., T], sql: str, params: SqlParams = NO_PARAMS, /) -> list[T]:
        cursor = self._execute(sql, params)
        names = [column[0] for column in cursor.description]
        return [row_factory(**dict(zip(names, row, strict=True))) for row in cursor.fetchall()]

    def fetch_one(self, row_factory: Callable[..., T], sql: str, params: SqlParams = NO_PARAMS, /) -> T | None:
        return next(iter(self.fetch_all(row_factory, sql, params)), None)

    def _execute(self, sql: str, params: SqlParams) -> sqlite3.Cursor:
        try:
            return self._connection.execute(sql, dict(params))
        except UnicodeEncodeError:  # a lone surrogate, which UTF-8 cannot hold: `?`, one for one, so that offsets stay
            return self._connection.execute(sql, {name: _encodable(each) for name, each in params.items()})


def _encodable(value: T) -> T | str:
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def classify_error(error: sqlite3.Error) -> tuple[StoreErrorKind, str]:
    """What an error of SQLite's is, and half a sentence about it."""
    code: int | None = getattr(error, "sqlite_errorcode", None)  # the module's own complaints have none
    unknown: tuple[StoreErrorKind, str] = ("bug", f"{type(error).__name__}: {error}")
    return unknown if code is None else _ERROR_KINDS.get(code & 0xFF, unknown)  # the low byte is the primary code


def to_store_error(error: sqlite3.Error) -> StoreError:
    """The same trouble as a sentence for the reader, with SQLite's error chained."""
    kind, why = classify_error(error)
    told = StoreError(f"The ledger could not be used: {why}.", kind=kind)
    told.__cause__ = error
    return told


def open_connection(path: Path) -> sqlite3.Connection:
    """A connection to a file that exists, as every thread needs it; not bound to the thread that opened it."""
    connection = _raw_connection(str(path))
    for setting in PRAGMAS:
        connection.execute(f"pragma {setting}")
    return connection


def open_in_memory() -> sqlite3.Connection:
    """A database in memory with the whole schema, gone when its one connection is closed."""
    connection = _raw_connection(":memory:")
    connection.execute("pragma foreign_keys=on")
    _migrate_connection(connection)
    return connection


def open_database(directory: Path) -> tuple[Path, sqlite3.Connection]:
    """The database in a directory, both made where they are missing (0700 and 0600), with the newest schema.

    Raises:
        OSError: The directory or file cannot be made or written.
        sqlite3.Error: It is not a database, or cannot be used as one.
        StoreError: Its schema is newer than this code.
    """
    _make_private_directory(directory)
    path = directory / DATABASE_FILE
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    with suppress(PermissionError):  # somebody else's file that we may write all the same
        path.chmod(0o600)  # whatever the umask, or an older version, made of it; -wal and -shm copy it
    return path, _retry_while_locked(lambda: _open_and_migrate(path))


def explain_open_error(error: OSError | sqlite3.Error | StoreError, directory: Path) -> str:
    """Why there is no file to write to: the end of a sentence that begins `The ledger is kept in memory:`."""
    match error:
        case PermissionError() | OSError(errno=errno.EROFS):
            return f"{error.filename or directory} is not writable"
        case FileExistsError() | NotADirectoryError():
            return f"{directory} is not a directory"
        case OSError():
            return f"{directory} cannot be used ({error.strerror or type(error).__name__})"
        case sqlite3.Error():
            return f"{directory / DATABASE_FILE} cannot be used, {classify_error(error)[1]}"
        case StoreError():
            return f"{directory / DATABASE_FILE} cannot be used, {error}"


def _raw_connection(database: str) -> sqlite3.Connection:
    return sqlite3.connect(
        database, timeout=BUSY_TIMEOUT_S, isolation_level=None, cached_statements=256, check_same_thread=False
    )


def _make_private_directory(directory: Path) -> None:
    """Only what we made is made private: an existing directory may be one that others use."""
    with suppress(FileExistsError):
        directory.mkdir(mode=0o700, parents=True)
        directory.chmod(0o700)  # the umask can have taken bits that we need


def _open_and_migrate(path: Path) -> sqlite3.Connection:
    """Look before touching: a file that is no database, or a newer one, stays as it is, byte for byte."""
    connection = _raw_connection(str(path))
    try:
        version = _schema_version(connection)
        migrations.check_version(version)
        for setting in PRAGMAS:
            connection.execute(f"pragma {setting}")
        if version < migrations.NEWEST_VERSION:  # only then is the lock worth waiting for
            _migrate_connection(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _schema_version(connection: sqlite3.Connection) -> int:
    if not connection.execute("select 1 from sqlite_master where name = 'schema_version'").fetchone():
        return 0
    return int(connection.execute("select coalesce(max(version), 0) from schema_version").fetchone()[0])


def _migrate_connection(connection: sqlite3.Connection) -> None:
    connection.execute("begin immediate")
    try:
        migrations.apply_migrations(SqliteTransaction(connection))
        connection.execute("commit")
    except BaseException:
        if connection.in_transaction:
            connection.execute("rollback")
        raise


def _retry_while_locked(step: Callable[[], T]) -> T:
    """Processes that make the file at the same moment meet locks that SQLite's own timeout does not wait for.

    Changing a new file's journal mode is one (https://sqlite.org/wal.html, "Sometimes Queries Return SQLITE_BUSY").
    """
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            return step()
        except sqlite3.OperationalError as error:
            if classify_error(error)[0] != "locked" or time.monotonic() > deadline:
                raise
        time.sleep(0.005)
