"""Backups: a consistent copy of the database, made while servers keep writing."""

from __future__ import annotations

import errno
import os
import sqlite3
from contextlib import closing, suppress
from typing import TYPE_CHECKING

from mcp_server_claude.store import sqlite_connection
from mcp_server_claude.store.transaction import StoreError

if TYPE_CHECKING:
    from pathlib import Path


def copy_database(source: Path, target: Path) -> int:
    """Copy a database into a new file that only its owner can read, and check the copy. Returns its size in bytes.

    The copy gets its name once it is complete, and contains no deleted content.

    Raises:
        OSError: The source is missing or a link, or the target exists or cannot be written.
        StoreError: The database could not be read, or the copy is damaged.
    """
    source.stat()
    if target.exists() or target.is_symlink():
        raise _already_exists(target)
    part = target.with_name(f"{target.name}.part")
    os.close(os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        _vacuum_into(source, part)
        _check_integrity(part)
        _sync_file(part)
        _publish(part, target)
    finally:
        part.unlink(missing_ok=True)
    return target.stat().st_size


def _vacuum_into(source: Path, part: Path) -> None:
    """Copy one snapshot into an empty file, without blocking writers."""
    try:
        with closing(sqlite_connection.open_connection(source)) as connection:
            connection.execute("vacuum into :part", {"part": str(part)})
    except sqlite3.Error as error:
        raise sqlite_connection.to_store_error(error) from error


def _check_integrity(part: Path) -> None:
    try:
        with closing(sqlite3.connect(f"{part.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            result = [str(row[0]) for row in connection.execute("pragma integrity_check")]
    except sqlite3.Error as error:
        raise sqlite_connection.to_store_error(error) from error
    if result != ["ok"]:
        raise StoreError(f"The copy is damaged: {result[0]}.", kind="damaged")


def _sync_file(part: Path) -> None:
    handle = os.open(part, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _publish(part: Path, target: Path) -> None:
    """Give the copy its name. A link, unlike a rename, never replaces a file that was created meanwhile."""
    try:
        os.link(part, target)
    except FileExistsError:
        raise
    except OSError:  # the file system has no links
        if target.exists():
            raise _already_exists(target) from None
        part.rename(target)
    with suppress(OSError):  # Windows has no handle on a directory
        _sync_directory(target.parent)


def _already_exists(path: Path) -> FileExistsError:
    return FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
