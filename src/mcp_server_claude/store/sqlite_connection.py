"""SQLite connections: the database file and its permissions, pragmas, and SQLite's errors as plain sentences."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import sys
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from mcp_server_claude.store import migrations
from mcp_server_claude.store.database_connection import DatabaseConnection
from mcp_server_claude.store.owner_rights import owner_rights
from mcp_server_claude.store.transaction import StoreError, StoreErrorKind, Transaction

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mcp_server_claude.store.transaction import SqlParams, SqlValue

T = TypeVar("T")

DATABASE_FILE = "store.db"
SIBLING_SUFFIXES = ("-wal", "-shm", "-journal")
BUSY_TIMEOUT_S = 30.0
"""Seconds that a statement waits for another process's lock."""
BUSY_TIMEOUT_AFTER_FAILURE_S = 0.5
"""The same after a statement has waited in vain, until one succeeds: a call has several, and each would wait."""
MAX_INTEGER = 2**63 - 1
"""Largest integer that both databases store."""
PRAGMAS = ("journal_mode=wal", "synchronous=normal", "foreign_keys=on", "secure_delete=on")
"""WAL with NORMAL loses no acknowledged commit to `kill -9`; a power cut may take the last ones, never the file.

Deleted content is overwritten, which only some builds of SQLite (Debian's for one) do by default.
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


class UnsafeFileError(OSError):
    """The database file, or one of its siblings, is a link, no regular file, or another user's."""


class SqliteTransaction(Transaction):
    """An open transaction on a connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__(partial(_run_statement, connection))
        self._connection = connection
        self._has_large_text = False

    def note_large_text(self) -> None:
        """Release the page cache (up to 2 MB, https://sqlite.org/pragma.html#pragma_cache_size) after the commit."""
        self._has_large_text = True

    def commit(self) -> None:
        """Commit. Nothing reads a long answer again soon, and an idle server would keep its pages for good."""
        self._connection.execute("commit")
        if self._has_large_text:
            self._has_large_text = False
            self._connection.execute("pragma shrink_memory")


def _run_statement(connection: sqlite3.Connection, sql: str, params: SqlParams) -> sqlite3.Cursor:
    try:
        return connection.execute(sql, dict(params))
    except (UnicodeEncodeError, OverflowError):
        return connection.execute(sql, {name: _storable(value) for name, value in params.items()})


def wrap_connection(connection: sqlite3.Connection, begin: str) -> DatabaseConnection:
    """Return a connection as stores use it. `begin` is `begin immediate` for one that writes."""
    transaction = SqliteTransaction(connection)
    return DatabaseConnection(
        transaction=transaction,
        begin=begin,
        execute=_BoundedWaits(connection).execute,
        commit=transaction.commit,
        has_begun=lambda: True,
        in_transaction=lambda: connection.in_transaction,
        is_lost=lambda: False,
        is_conflict=lambda _: False,  # a process waits for the lock of the whole file
        to_store_error=to_store_error,
        errors=(sqlite3.Error,),
        close=connection.close,
    )


class _BoundedWaits:
    """Statements on a connection that wait for the lock of another process, the first in full, later ones briefly."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._has_failed = False

    def execute(self, sql: str) -> sqlite3.Cursor:
        """Execute a statement that controls the transaction."""
        try:
            cursor = self._connection.execute(sql)
        except sqlite3.Error as error:
            if classify_error(error)[0] == "locked":
                self._set_has_failed(value=True)
            raise
        self._set_has_failed(value=False)
        return cursor

    def _set_has_failed(self, *, value: bool) -> None:
        if self._has_failed != value:
            self._has_failed = value
            seconds = BUSY_TIMEOUT_AFTER_FAILURE_S if value else BUSY_TIMEOUT_S
            self._connection.execute(f"pragma busy_timeout={round(seconds * 1000)}")


def _storable(value: SqlValue) -> SqlValue:
    """Replace what SQLite cannot store: lone surrogates, one for one so that offsets stay, and huge integers."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, int):
        return max(-MAX_INTEGER, min(MAX_INTEGER, value))
    return value


def classify_error(error: sqlite3.Error) -> tuple[StoreErrorKind, str]:
    """Return the kind of an SQLite error and half a sentence about it."""
    code: int | None = getattr(error, "sqlite_errorcode", None)  # errors of the `sqlite3` module itself have none
    unknown: tuple[StoreErrorKind, str] = ("bug", f"{type(error).__name__}: {error}")
    if code == sqlite3.SQLITE_ERROR:  # its text names the table or column, no values
        return "schema", f"its tables do not fit this version ({error})"
    return unknown if code is None else _ERROR_KINDS.get(code & 0xFF, unknown)  # the low byte is the primary code


def to_store_error(error: Exception) -> StoreError:
    """Return the store error for an error of SQLite or the file system, which is chained."""
    match error:
        case sqlite3.Error():
            kind, reason = classify_error(error)
        case UnsafeFileError():
            kind, reason = "io", f"{error.filename} {error.strerror}"
        case OSError():
            kind, reason = "io", f"its file cannot be opened ({error.strerror or type(error).__name__})"
        case _:
            kind, reason = "bug", f"{type(error).__name__}: {error}"
    store_error = StoreError(f"The ledger could not be used: {reason}.", kind=kind)
    store_error.__cause__ = error
    return store_error


def open_connection(path: Path) -> sqlite3.Connection:
    """Open an existing database file with the usual pragmas. Any thread may use the connection.

    Raises:
        OSError: The file is missing, or not safe to open.
        sqlite3.Error: It is not a database.
    """
    with owner_rights(path.parent):
        _check_file(path)
        connection = _raw_connection(str(path))
        try:
            for pragma in PRAGMAS:
                connection.execute(f"pragma {pragma}")
        except BaseException:
            connection.close()
            raise
        return connection


def open_in_memory() -> sqlite3.Connection:
    """Open a database in memory with the whole schema. It ends with its only connection."""
    connection = _raw_connection(":memory:")
    connection.execute("pragma foreign_keys=on")
    _migrate_connection(connection)
    return connection


def open_database(directory: Path) -> tuple[Path, sqlite3.Connection]:
    """Open the database in a directory with the newest schema. Creates both if missing, with modes 0700 and 0600.

    Raises:
        OSError: The directory or file cannot be created or written, or the file is not safe to open.
        sqlite3.Error: The file is not a database, or cannot be used as one.
        StoreError: The schema is newer than this code.
    """
    path = directory / DATABASE_FILE
    with owner_rights(directory):
        _make_private_directory(directory)
        _create_file(path)
        return path, _retry_while_locked(lambda: _open_and_migrate(path))


def explain_open_error(error: OSError | sqlite3.Error | StoreError, directory: Path) -> str:
    """Return why no file can be written: the end of a sentence that begins `The ledger is kept in memory:`."""
    match error:
        case UnsafeFileError():
            return f"{error.filename} {error.strerror}"
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
    """Create a directory that only its owner can enter. An existing one keeps its mode, since others may use it.

    Raises:
        OSError: It cannot be created; FileExistsError if a file of that name is in its place.
    """
    try:
        directory.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        if not directory.is_dir():  # a file below it is missing on Windows, where POSIX says ENOTDIR
            raise
    else:
        directory.chmod(0o700)  # the umask can have removed bits that we need


def _create_file(path: Path) -> None:
    """Create the database file if it is missing, and make it private. SQLite copies its mode to its siblings.

    An existing private file is not opened: closing it again would release the POSIX locks of all other connections in
    this process (https://sqlite.org/howtocorrupt.html §2.2).

    Raises:
        OSError: It cannot be written.
        UnsafeFileError: See `_check_file`.
    """
    _check_file(path)
    with suppress(FileNotFoundError):
        if stat.S_IMODE(path.lstat().st_mode) == 0o600 and os.access(path, os.R_OK | os.W_OK):
            return
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
    try:
        if sys.platform != "win32":
            _check_status(path, os.fstat(descriptor))
            with suppress(PermissionError):  # another user's file that we may write
                os.fchmod(descriptor, 0o600)  # whatever the umask, or an older version, has made of it
    finally:
        os.close(descriptor)


def _check_file(path: Path) -> None:
    """Check the database file and its siblings, as far as they exist.

    SQLite opens them without following links itself (`O_NOFOLLOW` in its os_unix.c); this check says so in a sentence,
    and finds hard links and files of other users too.

    Raises:
        UnsafeFileError: One is a link, no regular file, or belongs to neither this user nor the directory's owner.
    """
    if sys.platform == "win32":
        return
    for each in (path, *(path.with_name(path.name + suffix) for suffix in SIBLING_SUFFIXES)):
        with suppress(FileNotFoundError):
            _check_status(each, each.lstat())


def _check_status(path: Path, status: os.stat_result) -> None:
    if sys.platform == "win32":
        return
    if stat.S_ISLNK(status.st_mode) or status.st_nlink > 1:
        raise UnsafeFileError(errno.ELOOP, "is a link, and is not followed", str(path))
    if not stat.S_ISREG(status.st_mode):
        raise UnsafeFileError(errno.EINVAL, "is not a regular file", str(path))
    if status.st_uid not in {os.geteuid(), path.parent.stat().st_uid}:
        raise UnsafeFileError(errno.EPERM, "belongs to another user", str(path))


def _open_and_migrate(path: Path) -> sqlite3.Connection:
    """Open and migrate a file. One that is no database, or has a newer schema, stays as it is, byte for byte."""
    connection = _raw_connection(str(path))
    try:
        version = _schema_version(connection)
        migrations.check_version(version)
        for pragma in PRAGMAS:
            connection.execute(f"pragma {pragma}")
        if version < migrations.NEWEST_VERSION:  # only a migration needs the lock
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
    """Retry a step for as long as SQLite's own timeout, which does not cover every lock.

    Changing a new file's journal mode is such a case (https://sqlite.org/wal.html, "Sometimes Queries Return
    SQLITE_BUSY").
    """
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            return step()
        except sqlite3.OperationalError as error:
            if classify_error(error)[0] != "locked" or time.monotonic() > deadline:
                raise
        time.sleep(0.005)
