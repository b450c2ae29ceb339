"""Connections that were opened and never used are closed too."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

from mcp_server_claude.store import sqlite_connection
from mcp_server_claude.store.database import Store

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[sqlite3.Connection]:
    """The connections that are opened during a test."""
    connections: list[sqlite3.Connection] = []
    connect: Any = sqlite3.connect

    def record(*args: object, **kwargs: object) -> sqlite3.Connection:
        connections.append(connect(*args, **kwargs))
        return connections[-1]

    monkeypatch.setattr(sqlite3, "connect", record)
    return connections


def is_closed(connection: sqlite3.Connection) -> bool:
    try:
        connection.execute("select 1")
    except sqlite3.ProgrammingError:
        return True
    return False


@pytest.mark.parametrize("in_memory", [False, True])
async def test_closing_a_store_that_was_never_used_closes_its_connection(
    opened: list[sqlite3.Connection], tmp_path: Path, *, in_memory: bool
) -> None:
    directory = tmp_path / "data"
    if in_memory:
        directory.write_text("not a directory")
    store = Store.open(directory)
    assert store.durable != in_memory
    assert len(opened) == 1
    assert not is_closed(opened[0])
    await store.close()
    assert is_closed(opened[0])


def test_a_file_that_is_no_database_leaves_no_connection_open(opened: list[sqlite3.Connection], tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(b"This is no database. " * 100)
    path.chmod(0o600)
    with pytest.raises(sqlite3.DatabaseError):
        sqlite_connection.open_connection(path)
    assert [is_closed(each) for each in opened] == [True]
