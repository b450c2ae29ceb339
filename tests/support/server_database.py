"""The database of a server under test: SQLite in its data directory, or a PostgreSQL database for that directory.

A test that uses the fixture `each_database` runs on both. The functions here find the database by the data directory,
so the test itself is the same.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcp_server_claude.store import Store

if TYPE_CHECKING:
    from collections.abc import Generator

    from support.postgres_server import PostgresServer

Row = dict[str, Any]


class MissingDatabaseError(Exception):
    """The server has not created the file or its tables yet."""


class _PostgresDatabases:
    """The databases of a test by data directory; created for those that are used while `server` is set."""

    def __init__(self) -> None:
        self.server: PostgresServer | None = None
        self.urls: dict[Path, str] = {}

    def url(self, data_dir: Path) -> str:
        if self.server is None:
            return ""
        if data_dir not in self.urls:
            self.urls[data_dir] = self.server.create_database()
        return self.urls[data_dir]


_databases = _PostgresDatabases()


@contextmanager
def postgres_for_each_directory(server: PostgresServer) -> Generator[None]:
    """Use PostgreSQL while the block runs. Fails if nothing in the block has used a database."""
    _databases.server = server
    try:
        yield
        assert _databases.urls, "this test uses no database by the functions of server_database"
        for data_dir in _databases.urls:
            assert not (data_dir / "store.db").exists(), "a server has used SQLite"
    finally:
        _databases.server = None
        for url in _databases.urls.values():
            server.drop_database(url)
        _databases.urls.clear()


def database_fields(data_dir: object) -> dict[str, object]:
    """The settings of the database of a server with this data directory; none for SQLite."""
    url = _databases.url(Path(str(data_dir)))
    return {"database_url": url} if url else {}


def open_store(data_dir: Path) -> Store:
    """The store of a server, opened by the test."""
    return Store.open(data_dir, _databases.url(data_dir))


def select_rows(data_dir: Path, sql: str, *values: object) -> list[Row]:
    """Rows of a server's database, as another program sees them. Parameters are `?`.

    Raises:
        MissingDatabaseError: The server has not created it yet.
    """
    if url := _databases.url(data_dir):
        return _select_from_postgres(url, sql, values)
    try:
        with closing(sqlite3.connect(data_dir / "store.db", timeout=30)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(sql, values)]
    except sqlite3.OperationalError as error:
        raise MissingDatabaseError from error


def change_rows(data_dir: Path, sql: str, *, postgres_sql: str = "") -> None:
    """Change a server's database, as another program can; by other statements on PostgreSQL where it needs others."""
    if url := _databases.url(data_dir):
        import psycopg

        with psycopg.connect(url) as server:
            server.execute((postgres_sql or sql).encode())
        return
    with closing(sqlite3.connect(data_dir / "store.db", timeout=30)) as connection:
        connection.executescript(sql)


def _select_from_postgres(url: str, sql: str, values: tuple[object, ...]) -> list[Row]:
    import psycopg
    from psycopg.rows import dict_row

    with psycopg.connect(url) as connection, connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(sql.replace("?", "%s").encode(), values or None).fetchall()
    # A sum of integers is a numeric there.
    return [{name: int(each) if isinstance(each, Decimal) else each for name, each in row.items()} for row in rows]
