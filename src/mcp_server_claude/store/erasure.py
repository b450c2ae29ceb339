"""Forgetting on demand: what was asked and answered goes, out of the file's bytes too; what it cost stays."""

from __future__ import annotations

import math
import sqlite3
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mcp_server_claude.store import call_journal, request_ledger, sqlite_connection
from mcp_server_claude.store.sqlite_connection import SqliteTransaction
from mcp_server_claude.store.transaction import scalar

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from mcp_server_claude.store.transaction import Transaction

ERASED_NAME = "(forgotten)"
"""What a title or a file is called whose name was text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasureFilter:
    """Whose text, None for everybody's, and how old: of calls that ended before then, in unix seconds."""

    user: str | None = None
    before: float = math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasureCounts:
    """How much text went: of calls, of threads (whole or their older turns), and names of files.

    `running` calls are still being answered, and keep theirs.
    """

    calls: int
    threads: int
    files: int
    running: int

    @property
    def is_empty(self) -> bool:
        """Whether there was no text."""
        return not (self.calls or self.threads or self.files)


_UNLOCKED = (
    "(holder is null or not exists (select 1 from worker w where w.id = thread.worker and w.lease_until > :now))"
)
_HAS_ANY_TEXT = f"({call_journal.HAS_TEXT} or exists (select 1 from chunk where chunk.call_id = call.id))"  # noqa: S608


def erase_text(tx: Transaction, selection: ErasureFilter, now: float) -> ErasureCounts:
    """Delete the text; the ledger, the calls' accounts and the threads' ids in them stay.

    Of a thread that was gone on with after `what.before`, the turns of older calls go.
    """
    request_ledger.close_orphaned_entries(tx, now)
    call_journal.close_orphaned_calls(tx, now)
    row = {
        "user": selection.user,
        "before": selection.before,
        "now": now,
        "forgotten": ERASED_NAME,
        "gone": call_journal.TEXT_DELETED,
    }
    row = {name: each for name, each in row.items() if each is not None}
    whose = "" if selection.user is None else ' and "user" = :user'
    return ErasureCounts(
        calls=_erase_calls(tx, whose, row),
        threads=_erase_threads(tx, whose, row),
        files=tx.execute(
            f"update produced set name = :forgotten where name <> :forgotten and created_at < :before{whose}",  # noqa: S608
            row,
        ),
        running=tx.fetch_one(scalar, f"select count(*) as n from call where state = 'open'{whose}", row) or 0,  # noqa: S608
    )


def preview_erasure(directory: Path, selection: ErasureFilter, now: float) -> ErasureCounts:
    """What `erase_from_file` would forget.

    Raises:
        OSError | StoreError: The file cannot be opened or read.
    """
    with _open_directory(directory) as connection:
        connection.execute("begin immediate")
        try:
            return erase_text(SqliteTransaction(connection), selection, now)
        finally:
            connection.execute("rollback")


def erase_from_file(
    directory: Path, selection: ErasureFilter, now: float, *, timeout_s: float = sqlite_connection.BUSY_TIMEOUT_S
) -> tuple[ErasureCounts, bool]:
    """Forget, and overwrite what the file still holds of deleted text, of earlier deletions too.

    False beside it where another process kept reading for `patience_s`, so that the write-ahead log could not be
    emptied. Servers go on meanwhile, but their writes wait.

    Raises:
        OSError | StoreError: The file cannot be opened or written.
    """
    with _open_directory(directory) as connection:
        connection.execute(f"pragma busy_timeout={round(timeout_s * 1000)}")
        connection.execute("begin immediate")
        forgotten = erase_text(SqliteTransaction(connection), selection, now)
        connection.execute("commit")
        _truncate_log(
            connection, timeout_s
        )  # zeros over the deleted pages, before `vacuum` gives them back to the disk
        connection.execute("vacuum")
        return forgotten, _truncate_log(connection, timeout_s)


def _erase_calls(tx: Transaction, user_condition: str, params: dict[str, str | float]) -> int:
    ended = f"state = 'closed' and ended_at < :before{user_condition}"
    forgotten = tx.fetch_one(scalar, f"select count(*) as n from call where {ended} and {_HAS_ANY_TEXT}", params) or 0  # noqa: S608
    tx.execute(f"delete from chunk where call_id in (select id from call where {ended})", params)  # noqa: S608
    tx.execute(f"update call set {call_journal.CLEAR_TEXT} where {ended}", params)  # noqa: S608
    return forgotten


def _erase_threads(tx: Transaction, user_condition: str, params: dict[str, str | float]) -> int:
    """Whole threads where nobody has gone on since; else all turns of the older calls, question and answer."""
    old = f"select id from thread where touched_at < :before and {_UNLOCKED}{user_condition}"  # noqa: S608
    tx.execute(f"delete from turn where thread_id in ({old})", params)  # noqa: S608
    deleted = tx.execute(f"delete from thread where id in ({old})", params)  # noqa: S608
    tx.execute(
        f"delete from turn where thread_id in (select id from thread where started_at < :before{user_condition}) "  # noqa: S608
        "and call_id in (select id from call where state = 'closed' and started_at < :before)",
        params,
    )
    left = f"started_at < :before and {_UNLOCKED}{user_condition}"
    empty = "not exists (select 1 from turn where thread_id = thread.id)"
    deleted += tx.execute(f"delete from thread where {empty} and {left}", params)  # noqa: S608
    shortened = f"started_at < :before and head <> :forgotten{user_condition}"
    return deleted + tx.execute(f"update thread set head = :forgotten where {shortened}", params)  # noqa: S608


@contextmanager
def _open_directory(directory: Path) -> Generator[sqlite3.Connection]:
    """The database of a directory, with SQLite's errors as sentences."""
    try:
        _, connection = sqlite_connection.open_database(directory)
        with closing(connection):
            yield connection
    except sqlite3.Error as error:
        raise sqlite_connection.to_store_error(error) from error


def _truncate_log(connection: sqlite3.Connection, timeout_s: float) -> bool:
    """Bring the write-ahead log into the file and cut it to nothing; whether that could be done.

    SQLite waits for readers by itself, but not for another process's checkpoint
    (https://sqlite.org/c3ref/wal_checkpoint_v2.html).
    """
    deadline = time.monotonic() + timeout_s
    while True:
        (busy, *_) = connection.execute("pragma wal_checkpoint(truncate)").fetchone()
        if not busy or time.monotonic() >= deadline:
            return not busy
        time.sleep(0.02)
