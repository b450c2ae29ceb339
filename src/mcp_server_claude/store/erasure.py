"""Forgetting on demand: what was asked and answered goes, out of the file's bytes too; what it cost stays."""

from __future__ import annotations

import math
import sqlite3
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mcp_server_claude.store import call_journal, request_ledger, sqlite_connection
from mcp_server_claude.store.sqlite_connection import SqliteTx
from mcp_server_claude.store.transaction import value

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from mcp_server_claude.store.transaction import Tx

FORGOTTEN = "(forgotten)"
"""What a title or a file is called whose name was text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class What:
    """Whose text, None for everybody's, and how old: of calls that ended before then, in unix seconds."""

    user: str | None = None
    before: float = math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """How much text went: of calls, of threads (whole or their older turns), and names of files.

    `running` calls are still being answered, and keep theirs.
    """

    calls: int
    threads: int
    files: int
    running: int

    @property
    def nothing(self) -> bool:
        """Whether there was no text."""
        return not (self.calls or self.threads or self.files)


_FREE = "(holder is null or not exists (select 1 from worker w where w.id = thread.worker and w.lease_until > :now))"
_TEXT = f"({call_journal.HAS_WORDS} or exists (select 1 from chunk where chunk.call_id = call.id))"  # noqa: S608


def forget(tx: Tx, what: What, now: float) -> Forgotten:
    """Delete the text; the ledger, the calls' accounts and the threads' ids in them stay.

    Of a thread that was gone on with after `what.before`, the turns of older calls go.
    """
    request_ledger.interrupted(tx, now)
    call_journal.interrupted(tx, now)
    row = {"user": what.user, "before": what.before, "now": now, "forgotten": FORGOTTEN, "gone": call_journal.GONE}
    row = {name: each for name, each in row.items() if each is not None}
    whose = "" if what.user is None else ' and "user" = :user'
    return Forgotten(
        calls=_calls(tx, whose, row),
        threads=_threads(tx, whose, row),
        files=tx.run(
            f"update produced set name = :forgotten where name <> :forgotten and created_at < :before{whose}",  # noqa: S608
            row,
        ),
        running=tx.one(value, f"select count(*) as n from call where state = 'open'{whose}", row) or 0,  # noqa: S608
    )


def preview(directory: Path, what: What, now: float) -> Forgotten:
    """What `erase` would forget.

    Raises:
        OSError | StoreError: The file cannot be opened or read.
    """
    with _opened(directory) as connection:
        connection.execute("begin immediate")
        try:
            return forget(SqliteTx(connection), what, now)
        finally:
            connection.execute("rollback")


def erase(
    directory: Path, what: What, now: float, *, patience_s: float = sqlite_connection.BUSY_S
) -> tuple[Forgotten, bool]:
    """Forget, and overwrite what the file still holds of deleted text, of earlier deletions too.

    False beside it where another process kept reading for `patience_s`, so that the write-ahead log could not be
    emptied. Servers go on meanwhile, but their writes wait.

    Raises:
        OSError | StoreError: The file cannot be opened or written.
    """
    with _opened(directory) as connection:
        connection.execute(f"pragma busy_timeout={round(patience_s * 1000)}")
        connection.execute("begin immediate")
        forgotten = forget(SqliteTx(connection), what, now)
        connection.execute("commit")
        _empty_log(connection, patience_s)  # zeros over the deleted pages, before `vacuum` gives them back to the disk
        connection.execute("vacuum")
        return forgotten, _empty_log(connection, patience_s)


def _calls(tx: Tx, whose: str, row: dict[str, str | float]) -> int:
    ended = f"state = 'closed' and ended_at < :before{whose}"
    forgotten = tx.one(value, f"select count(*) as n from call where {ended} and {_TEXT}", row) or 0  # noqa: S608
    tx.run(f"delete from chunk where call_id in (select id from call where {ended})", row)  # noqa: S608
    tx.run(f"update call set {call_journal.WITHOUT_WORDS} where {ended}", row)  # noqa: S608
    return forgotten


def _threads(tx: Tx, whose: str, row: dict[str, str | float]) -> int:
    """Whole threads where nobody has gone on since; else all turns of the older calls, question and answer."""
    old = f"select id from thread where touched_at < :before and {_FREE}{whose}"  # noqa: S608
    tx.run(f"delete from turn where thread_id in ({old})", row)  # noqa: S608
    deleted = tx.run(f"delete from thread where id in ({old})", row)  # noqa: S608
    tx.run(
        f"delete from turn where thread_id in (select id from thread where started_at < :before{whose}) "  # noqa: S608
        "and call_id in (select id from call where state = 'closed' and started_at < :before)",
        row,
    )
    left = f"started_at < :before and {_FREE}{whose}"
    empty = "not exists (select 1 from turn where thread_id = thread.id)"
    deleted += tx.run(f"delete from thread where {empty} and {left}", row)  # noqa: S608
    shortened = f"started_at < :before and head <> :forgotten{whose}"
    return deleted + tx.run(f"update thread set head = :forgotten where {shortened}", row)  # noqa: S608


@contextmanager
def _opened(directory: Path) -> Generator[sqlite3.Connection]:
    """The database of a directory, with SQLite's errors as sentences."""
    try:
        _, connection = sqlite_connection.open_file(directory)
        with closing(connection):
            yield connection
    except sqlite3.Error as error:
        raise sqlite_connection.store_error(error) from error


def _empty_log(connection: sqlite3.Connection, patience_s: float) -> bool:
    """Bring the write-ahead log into the file and cut it to nothing; whether that could be done.

    SQLite waits for readers by itself, but not for another process's checkpoint
    (https://sqlite.org/c3ref/wal_checkpoint_v2.html).
    """
    deadline = time.monotonic() + patience_s
    while True:
        (busy, *_) = connection.execute("pragma wal_checkpoint(truncate)").fetchone()
        if not busy or time.monotonic() >= deadline:
            return not busy
        time.sleep(0.02)
