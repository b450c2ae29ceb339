"""Erasure on demand: prompts and answers are removed, from the file's free pages too. Costs stay in the ledger."""

from __future__ import annotations

import math
import sqlite3
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from mcp_server_claude.frozen_dataclass import frozen_dataclass
from mcp_server_claude.store import call_journal, job_records, orphan_cleanup, sqlite_connection, thread_messages
from mcp_server_claude.store.file_locks import FileProcessLocks
from mcp_server_claude.store.sqlite_connection import SqliteTransaction
from mcp_server_claude.store.transaction import scalar

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from mcp_server_claude.store.database import Store
    from mcp_server_claude.store.process_locks import ProcessLocks
    from mcp_server_claude.store.transaction import Transaction

ERASED_NAME = "(forgotten)"
"""Name of a thread or file whose own name was erased."""


@frozen_dataclass(kw_only=True)
class ErasureFilter:
    """Selection of calls: those of one user or of all (None) that ended before a time in unix seconds."""

    user: str | None = None
    before: float = math.inf


@frozen_dataclass(kw_only=True)
class ErasureCounts:
    """Numbers of calls, threads (whole, or their older messages), file names and jobs that were erased.

    `running` calls keep their text.
    """

    calls: int
    threads: int
    files: int
    running: int
    jobs: int = 0

    @property
    def is_empty(self) -> bool:
        """True if nothing was erased."""
        return not (self.calls or self.threads or self.files or self.jobs)


_HAS_ANY_TEXT = f"({call_journal.HAS_TEXT} or exists (select 1 from chunk where chunk.call_id = call.id))"  # noqa: S608


def erase_text(tx: Transaction, selection: ErasureFilter, locks: ProcessLocks, now: float) -> ErasureCounts:
    """Delete text. The ledger, the usage of calls, and the thread ids in them are kept.

    A thread that was continued after `selection.before` loses only the messages of older calls.
    """
    orphan_cleanup.close_orphans(tx, locks, now)
    row = {
        "user": selection.user,
        "before": selection.before,
        "erased": ERASED_NAME,
        "deleted": call_journal.TEXT_DELETED,
    }
    row = {name: each for name, each in row.items() if each is not None}
    condition = "" if selection.user is None else ' and "user" = :user'
    return ErasureCounts(
        calls=_erase_calls(tx, condition, row),
        threads=_erase_threads(tx, condition, row),
        files=tx.execute(
            f"update produced set name = :erased where name <> :erased and created_at < :before{condition}",  # noqa: S608
            row,
        ),
        jobs=job_records.erase_jobs(tx, selection.before, selection.user),
        running=tx.fetch_one(scalar, f"select count(*) as n from call where state = 'open'{condition}", row) or 0,  # noqa: S608
    )


class _Preview(Exception):  # noqa: N818 - no error: it rolls an erasure back
    def __init__(self, counts: ErasureCounts) -> None:
        super().__init__()
        self.counts = counts


async def preview_erasure_in_store(store: Store, selection: ErasureFilter, now: float) -> ErasureCounts:
    """Return what `erase_text` would erase from an open store, also one on a server.

    Raises:
        StoreError: The database could not be read.
    """

    def erase_and_roll_back(tx: Transaction) -> None:
        raise _Preview(erase_text(tx, selection, store.locks, now))

    try:
        await store.write(erase_and_roll_back)
    except _Preview as preview:
        return preview.counts
    raise AssertionError


def preview_erasure(directory: Path, selection: ErasureFilter, now: float) -> ErasureCounts:
    """Return what `erase_from_file` would erase.

    Raises:
        OSError | StoreError: The file cannot be opened or read.
    """
    with _open_directory(directory) as connection:
        connection.execute("begin immediate")
        try:
            return erase_text(SqliteTransaction(connection), selection, FileProcessLocks(directory), now)
        finally:
            connection.execute("rollback")


def erase_from_file(
    directory: Path, selection: ErasureFilter, now: float, *, timeout_s: float = sqlite_connection.BUSY_TIMEOUT_S
) -> tuple[ErasureCounts, bool]:
    """Erase text, and overwrite deleted text in the file, that of earlier deletions too.

    Returns the counts, and False if another process kept reading for `timeout_s` seconds, so that the write-ahead log
    could not be emptied. Servers keep running, but their writes wait.

    Raises:
        OSError | StoreError: The file cannot be opened or written.
    """
    with _open_directory(directory) as connection:
        connection.execute(f"pragma busy_timeout={round(timeout_s * 1000)}")
        connection.execute("begin immediate")
        counts = erase_text(SqliteTransaction(connection), selection, FileProcessLocks(directory), now)
        connection.execute("commit")
        # Overwrites the deleted pages with zeros, before `vacuum` gives them back to the disk.
        _truncate_log(connection, timeout_s)
        connection.execute("vacuum")
        return counts, _truncate_log(connection, timeout_s)


def _erase_calls(tx: Transaction, condition: str, params: dict[str, str | float]) -> int:
    ended = f"state = 'closed' and ended_at < :before{condition}"
    erased = tx.fetch_one(scalar, f"select count(*) as n from call where {ended} and {_HAS_ANY_TEXT}", params) or 0  # noqa: S608
    tx.execute(f"delete from chunk where call_id in (select id from call where {ended})", params)  # noqa: S608
    tx.execute(f"update call set {call_journal.CLEAR_TEXT} where {ended}", params)  # noqa: S608
    return erased


def _erase_threads(tx: Transaction, condition: str, params: dict[str, str | float]) -> int:
    """Delete threads that were not continued since, and of others the messages of the older calls."""
    old = f"select id from thread where touched_at < :before and {thread_messages.UNLOCKED}{condition}"  # noqa: S608
    tx.execute(f"delete from turn where thread_id in ({old})", params)  # noqa: S608
    deleted = tx.execute(f"delete from thread where id in ({old})", params)  # noqa: S608
    tx.execute(
        f"delete from turn where thread_id in (select id from thread where started_at < :before{condition}) "  # noqa: S608
        "and call_id in (select id from call where state = 'closed' and started_at < :before)",
        params,
    )
    left = f"started_at < :before and {thread_messages.UNLOCKED}{condition}"
    empty = "not exists (select 1 from turn where thread_id = thread.id)"
    deleted += tx.execute(f"delete from thread where {empty} and {left}", params)  # noqa: S608
    shortened = f"started_at < :before and head <> :erased{condition}"
    return deleted + tx.execute(f"update thread set head = :erased where {shortened}", params)  # noqa: S608


@contextmanager
def _open_directory(directory: Path) -> Generator[sqlite3.Connection]:
    """Open the database of a directory, with SQLite's errors raised as store errors."""
    try:
        _, connection = sqlite_connection.open_database(directory)
        with closing(connection):
            yield connection
    except sqlite3.Error as error:
        raise sqlite_connection.to_store_error(error) from error


def _truncate_log(connection: sqlite3.Connection, timeout_s: float) -> bool:
    """Move the write-ahead log into the file and truncate it. Returns True on success.

    SQLite waits for readers by itself, but not for another process's checkpoint
    (https://sqlite.org/c3ref/wal_checkpoint_v2.html).
    """
    deadline = time.monotonic() + timeout_s
    while True:
        (busy, *_) = connection.execute("pragma wal_checkpoint(truncate)").fetchone()
        if not busy or time.monotonic() >= deadline:
            return not busy
        time.sleep(0.02)
