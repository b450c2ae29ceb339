"""The connection to the database file."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest

from mcp_server_claude.store import sqlite_connection

if TYPE_CHECKING:
    from pathlib import Path


def test_after_a_wait_in_vain_for_a_lock_further_statements_wait_briefly_until_one_succeeds(tmp_path: Path) -> None:
    """A call has several writes, and would wait half a minute for each while another process keeps the lock."""
    path, connection = sqlite_connection.open_database(tmp_path)
    database = sqlite_connection.wrap_connection(connection, "begin immediate")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("begin exclusive")

    def timeout_s() -> float:
        return connection.execute("pragma busy_timeout").fetchone()[0] / 1000

    connection.execute("pragma busy_timeout=10")
    for _ in range(2):
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            database.execute(database.begin)
        assert timeout_s() == sqlite_connection.BUSY_TIMEOUT_AFTER_FAILURE_S
    other.execute("rollback")
    database.execute(database.begin)
    assert timeout_s() == sqlite_connection.BUSY_TIMEOUT_S
    database.commit()
    other.close()
    database.close()


def test_the_cache_is_released_once_after_a_commit_with_a_large_text(tmp_path: Path) -> None:
    _, connection = sqlite_connection.open_database(tmp_path)
    database = sqlite_connection.wrap_connection(connection, "begin immediate")
    executed: list[str] = []
    connection.set_trace_callback(executed.append)
    for notes_text in (True, False):
        database.execute(database.begin)
        if notes_text:
            database.transaction.note_large_text()
        database.commit()
    assert [sql.lower() for sql in executed] == [
        "begin immediate",
        "commit",
        "pragma shrink_memory",
        "begin immediate",
        "commit",
    ]
    database.close()
