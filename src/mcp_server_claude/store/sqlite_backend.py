"""SQLite as the database of a store: a file in the data directory, or memory if no file can be used."""

from __future__ import annotations

import logging
import os
import sqlite3
from functools import partial
from typing import TYPE_CHECKING

from mcp_server_claude.store import sqlite_connection
from mcp_server_claude.store.database_connection import DatabaseBackend, DatabaseConnection
from mcp_server_claude.store.file_locks import FileProcessLocks
from mcp_server_claude.store.process_locks import ProcessLocks
from mcp_server_claude.store.sqlite_connection import wrap_connection
from mcp_server_claude.store.transaction import StoreError

if TYPE_CHECKING:
    from pathlib import Path

WAL_SUFFIXES = ("-wal", "-shm")
BEGIN_WRITE, BEGIN_READ = "begin immediate", "begin"

_log = logging.getLogger(__name__)


def open_sqlite(directory: Path) -> DatabaseBackend:
    """Open the database in a directory, creating both if missing. Falls back to memory if that fails."""
    try:
        path, connection = sqlite_connection.open_database(directory)
    except (OSError, sqlite3.Error, StoreError) as error:
        reason = f"The ledger is kept in memory: {sqlite_connection.explain_open_error(error, directory)}."
        _log.warning(reason)
        return _memory_backend(reason)
    files = _FilesInUse(path)

    def close() -> None:
        connection.close()
        files.forget_siblings()

    return DatabaseBackend(
        location=str(path),
        path=path,
        locks=FileProcessLocks(directory),
        connect_writer=partial(wrap_connection, connection, BEGIN_WRITE),
        connect_reader=partial(_open_read_only, path),
        replaced_file=files.find_replaced,
        close_idle=close,
    )


def _memory_backend(reason: str) -> DatabaseBackend:
    """A database that no other process can see, and that has only one connection."""
    connection = sqlite_connection.open_in_memory()
    return DatabaseBackend(
        location="memory",
        locks=ProcessLocks(),
        connect_writer=partial(wrap_connection, connection, BEGIN_WRITE),
        connect_reader=None,
        close_idle=connection.close,
        durable=False,
        memory_reason=reason,
    )


def _open_read_only(path: Path) -> DatabaseConnection:
    try:
        connection = sqlite_connection.open_connection(path)
        connection.execute("pragma query_only=on")
    except (sqlite3.Error, OSError) as error:
        raise sqlite_connection.to_store_error(error) from error
    return wrap_connection(connection, BEGIN_READ)


class _FilesInUse:
    """The database file, and the two that SQLite keeps beside it for as long as anyone has it open.

    A process that opens the database without them makes new ones, and neither sees what the other writes
    (https://sqlite.org/howtocorrupt.html, "Unlinking or renaming a database file while in use").
    """

    def __init__(self, path: Path) -> None:
        """To be made while a connection is open."""
        siblings = [path.with_name(path.name + suffix) for suffix in WAL_SUFFIXES]
        self._path = path
        self._identities = {each: identity for each in (path, *siblings) if (identity := _identify_file(each))}

    def find_replaced(self) -> Path | None:
        """Return a file that was removed or replaced since, or None."""
        return next((each for each, known in list(self._identities.items()) if _identify_file(each) != known), None)

    def forget_siblings(self) -> None:
        """The connection is closed: the last process that closes the database removes the files beside it."""
        self._identities = {each: known for each, known in self._identities.items() if each == self._path}


def _identify_file(path: Path) -> tuple[int, int] | None:
    """Return device and inode of the file of that name, or None if there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116 - twice as fast, and asked after each transaction
    except OSError:
        return None
    return status.st_dev, status.st_ino
