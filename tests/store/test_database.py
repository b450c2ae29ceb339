"""Opening: the schema's steps, and memory with one plain sentence where there is no file to be had."""

from __future__ import annotations

import sqlite3
import stat
import sys
from contextlib import closing
from dataclasses import fields
from pathlib import Path

import pytest

from mcp_server_claude.store import Store, call_journal, process_leases, request_ledger
from mcp_server_claude.store.migrations import MIGRATIONS, NEWEST_VERSION
from mcp_server_claude.store.sqlite_connection import SqliteTransaction, open_connection
from mcp_server_claude.store.transaction import Transaction, scalar

pytestmark = pytest.mark.anyio


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


async def assert_it_works(store: Store) -> None:
    await store.write(process_leases.renew_lease, "w", 0.0)
    assert await store.read(process_leases.is_alive, "w", 1.0)


def columns(tx: Transaction, table: str) -> set[str]:
    return set(tx.fetch_all(scalar, "select name from pragma_table_info(:table)", {"table": table}))


async def test_what_was_written_is_there_after_a_restart(tmp_path: Path) -> None:
    for expected in ([False], [True]):
        store = Store.open(tmp_path / "deep" / "data")
        assert (store.durable, store.last_error, store.path) == (True, "", tmp_path / "deep" / "data" / "store.db")
        assert [await store.write(process_leases.renew_lease, "w", 0.0)] == expected
        await store.close()


async def test_the_file_is_as_durable_and_patient_as_was_measured(store: Store) -> None:
    def settings(tx: Transaction) -> list[object]:
        asked = ("journal_mode", "synchronous", "busy_timeout", "foreign_keys")
        return [tx.fetch_one(scalar, f"pragma {name}") for name in asked]

    found = await store.write(settings)
    assert found == ["wal", 1, 30000, 1]


def test_a_directory_that_was_there_keeps_its_permissions(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    Store.open(tmp_path).close_blocking()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "store.db").stat().st_mode) == 0o600


async def test_where_a_file_stands_in_place_of_the_directory_the_ledger_is_in_memory(tmp_path: Path) -> None:
    place = tmp_path / "data"
    place.write_text("mine")
    store = Store.open(place)
    assert (store.durable, store.path) == (False, None)
    assert store.last_error == f"The ledger is kept in memory: {place} is not a directory."
    await assert_it_works(store)
    await store.close()
    assert place.read_text() == "mine"


@pytest.mark.skipif(sys.platform != "linux", reason="/proc takes no files, not even from root")
async def test_where_the_directory_cannot_be_made_the_ledger_is_in_memory() -> None:
    store = Store.open(Path("/proc/mcp-server-claude"))
    assert not store.durable
    assert store.last_error.startswith("The ledger is kept in memory: /proc/mcp-server-claude ")
    await assert_it_works(store)
    await store.close()


@pytest.mark.parametrize("content", [b"not a database " * 500, b"SQLite format 3\x00" + b"\xff" * 9000])
async def test_a_file_that_is_no_database_is_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "store.db").write_bytes(content)
    store = Store.open(tmp_path)
    assert not store.durable
    assert store.last_error.startswith(
        f"The ledger is kept in memory: {tmp_path / 'store.db'} cannot be used, its file is"
    )
    assert store.last_error.count(".") == str(tmp_path).count(".") + 2
    await assert_it_works(store)
    await store.close()
    assert (tmp_path / "store.db").read_bytes() == content
    assert names(tmp_path) == ["store.db"]


async def test_a_newer_schema_is_refused_in_one_sentence_and_left_as_it_is(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    await store.write(lambda tx: tx.execute("insert into schema_version (version, why) values (99, 'the future')"))
    await store.close()
    before = (tmp_path / "store.db").read_bytes()
    store = Store.open(tmp_path)
    assert store.last_error == (
        f"The ledger is kept in memory: {tmp_path / 'store.db'} cannot be used, it was written by a newer version of "
        f"mcp-server-claude (schema 99, this one knows {NEWEST_VERSION})."
    )
    await assert_it_works(store)
    await store.close()
    assert (tmp_path / "store.db").read_bytes() == before


async def test_an_older_file_takes_the_missing_steps_and_keeps_its_rows(tmp_path: Path) -> None:
    with closing(open_connection(tmp_path / "store.db")) as connection:
        older = SqliteTransaction(connection)
        older.execute("create table schema_version (version bigint primary key, why text not null)")
        older.execute("insert into schema_version (version, why) values (1, 'first')")
        for statement in MIGRATIONS[0].statements:
            older.execute(statement)
        process_leases.renew_lease(older, "old", 0.0)
    store = Store.open(tmp_path)
    assert store.durable, store.last_error
    assert await store.read(process_leases.is_alive, "old", 1.0)
    versions = await store.read(lambda tx: tx.fetch_all(scalar, "select version from schema_version order by version"))
    assert versions == list(range(1, NEWEST_VERSION + 1))
    await store.close()


async def test_a_step_that_fails_leaves_the_older_schema_whole(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "store.db")) as connection:
        connection.execute("create table budget (somebody text)")  # in the way of the last step
    store = Store.open(tmp_path)
    assert "cannot be used, OperationalError: table budget already exists." in store.last_error
    await store.close()
    with closing(sqlite3.connect(tmp_path / "store.db")) as connection:
        assert connection.execute("select name from sqlite_master").fetchall() == [("budget",)]


def test_the_steps_are_numbered_without_a_gap_and_say_why() -> None:
    assert [step.number for step in MIGRATIONS] == list(range(1, NEWEST_VERSION + 1))
    assert all(step.reason for step in MIGRATIONS)


def test_the_tables_have_the_fields_of_what_is_kept_in_them(tx: Transaction) -> None:
    assert columns(tx, "entry") == {field.name for field in fields(request_ledger.LedgerEntry)} | {"day"}
    assert columns(tx, "call") == {field.name for field in fields(call_journal.JournaledCall)} | {"stop_requested"}
