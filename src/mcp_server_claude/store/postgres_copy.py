"""Copying an SQLite store into an empty PostgreSQL database, compared row by row before it is committed."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING, cast

import psycopg
from psycopg import sql

from mcp_server_claude.store import sqlite_connection
from mcp_server_claude.store.file_locks import FileProcessLocks
from mcp_server_claude.store.postgres_backend import migrate
from mcp_server_claude.store.postgres_connection import connect, to_store_error
from mcp_server_claude.store.postgres_transaction import storable_value, transaction
from mcp_server_claude.store.sqlite_connection import DATABASE_FILE, SqliteTransaction
from mcp_server_claude.store.transaction import StoreError, scalar

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mcp_server_claude.store.transaction import SqlValue

BATCH_ROWS = 1000
SKIPPED_TABLES = frozenset(
    {"schema_version", "process", "worker", "user_call", "cooldown", "shared_key", "spending_question", "periodic_run"}
)
"""Tables that describe the file and its processes, not its content."""

Row = tuple["SqlValue", ...]


def copy_to_postgres(directory: Path, database_url: str) -> dict[str, int]:
    """Copy the store in a directory into an empty database. Returns the number of rows by table.

    Nothing is committed unless every row was read back as it was written, so a failure leaves the database empty. The
    file is not changed. NUL characters, which PostgreSQL cannot store, become U+FFFD.

    Raises:
        OSError: There is no store in the directory, or it cannot be read.
        StoreError: A server is using the file, the target has rows already, or one of the databases failed.
    """
    path = directory / DATABASE_FILE
    path.stat()
    try:
        _, source = sqlite_connection.open_database(directory)  # with the newest schema, as the target's
    except sqlite3.Error as error:
        raise sqlite_connection.to_store_error(error) from error
    with closing(source):
        _check_unused(source, directory)
        target = connect(database_url)
        with closing(target):
            try:
                with transaction(target) as tx:
                    migrate(tx)
                    return _copy_tables(source, target)
            except psycopg.Error as error:
                raise to_store_error(error) from error


def _check_unused(source: sqlite3.Connection, directory: Path) -> None:
    locks, tx = FileProcessLocks(directory), SqliteTransaction(source)
    if locks.running_among(tx, tx.fetch_all(scalar, "select id from process")):
        raise StoreError("A server is using this store. Stop it first.", kind="locked")


def _copy_tables(source: sqlite3.Connection, target: psycopg.Connection) -> dict[str, int]:
    source.execute("begin immediate")  # nothing may change while it is copied
    try:
        tables = list(_tables_in_order(source))
        for table in tables:
            _check_empty(target, table)
        return {table: _copy_table(source, target, table) for table in tables}
    finally:
        source.execute("rollback")


def _tables_in_order(source: sqlite3.Connection) -> Iterator[str]:
    """The tables with content, each after those that it refers to."""
    names = [
        str(name) for (name,) in source.execute("select name from sqlite_master where type = 'table' order by name")
    ]
    waiting = {
        name: {str(key[2]) for key in source.execute(f"pragma foreign_key_list({name})")} - {name}
        for name in names
        if name not in SKIPPED_TABLES and not name.startswith("sqlite_")
    }
    while waiting:
        ready = [name for name, needs in waiting.items() if not needs & waiting.keys()]
        yield from ready
        for name in ready:
            del waiting[name]


def _check_empty(target: psycopg.Connection, table: str) -> None:
    statement = sql.SQL("select 1 from {} limit 1").format(sql.Identifier(table))
    if target.execute(statement).fetchone():
        raise StoreError(f"The target database already has rows in {table!r}. Choose an empty one.", kind="bug")


def _copy_table(source: sqlite3.Connection, target: psycopg.Connection, table: str) -> int:
    """Copy a table, and compare what was written with what was read."""
    info = source.execute(f"pragma table_info({table})").fetchall()
    columns = [str(column[1]) for column in info]
    key = [str(column[1]) for column in sorted(info, key=lambda column: column[5]) if column[5]]
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    copy = sql.SQL("copy {} ({}) from stdin").format(sql.Identifier(table), names)
    order = ", ".join(f'"{name}"' for name in key)
    read = f'select {", ".join(f"{chr(34)}{name}{chr(34)}" for name in columns)} from "{table}" order by {order}'  # noqa: S608
    with target.cursor().copy(copy) as rows:
        for row in source.execute(read):
            rows.write_row(_storable_row(row))
    # Compared in the order of the source's bytes, whatever the target's collation.
    by_bytes = sql.SQL(", ").join(
        sql.SQL('{} collate "C"' if _is_text(info, name) else "{}").format(sql.Identifier(name)) for name in key
    )
    stored = sql.SQL("select {} from {} order by {}").format(names, sql.Identifier(table), by_bytes)
    with target.cursor(name="verification") as written:
        written.itersize = BATCH_ROWS
        written.execute(stored)
        return _compare(table, map(_storable_row, source.execute(read)), iter(cast("Iterator[Row]", written)))


def _compare(table: str, expected: Iterator[Row], written: Iterator[Row]) -> int:
    count = 0
    while True:
        batch = list(islice(expected, BATCH_ROWS))
        if batch != [tuple(row) for row in islice(written, len(batch) or 1)]:
            raise StoreError(f"The copy of {table!r} differs from the original. Nothing was moved.", kind="damaged")
        if not batch:
            return count
        count += len(batch)


def _is_text(info: list[tuple[object, ...]], name: str) -> bool:
    return any(column[1] == name and column[2] == "text" for column in info)


def _storable_row(row: Row) -> Row:
    return tuple(map(storable_value, row))
