"""Opening: the schema's steps, and memory with one plain sentence where there is no file to be had."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import sys
from contextlib import closing
from dataclasses import fields
from pathlib import Path

import pytest

from mcp_server_claude.store import (
    Store,
    StoreError,
    call_journal,
    job_items,
    job_records,
    message_batches,
    process_locks,
    request_ledger,
)
from mcp_server_claude.store.migrations import MIGRATIONS, NEWEST_VERSION
from mcp_server_claude.store.sqlite_connection import SqliteTransaction, open_connection
from mcp_server_claude.store.transaction import Transaction, scalar
from mcp_server_claude.store.usage import daily_rollups

pytestmark = pytest.mark.anyio

OLD_ENTRY = """
insert into entry (id, call_id, attempt, worker, "user", client, source, tool, model, host, day, started_at, ended_at,
    state, "end", input_tokens, cache_read_input_tokens, cache_creation_input_tokens, output_tokens, thinking_tokens,
    web_searches, cost_micros, estimated, ttft_ms, trace_id, held_micros, failure)
values ('r_1', 'c_1', 1, 'w', 'ada', '', '', 'chat', 'm', '', '2026-11-20', 1.0, 2.0,
    'closed', 'complete', 1, 2, 3, 4, 0, 0, 70, 0, 812.5, '', 0, 'stall')
"""


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


async def assert_it_works(store: Store) -> None:
    await store.write(process_locks.register_process, "w")
    assert "w" in await store.read(processes)


def processes(tx: Transaction) -> list[str]:
    return tx.fetch_all(scalar, "select id from process order by id")


def columns(tx: Transaction, table: str) -> set[str]:
    rows = tx.fetch_all(dict[str, object], f"select {table}.* from (select 1 as one) as one left join {table} on false")  # noqa: S608
    return set(rows[0])


async def test_written_rows_are_there_after_a_restart(tmp_path: Path) -> None:
    for worker in ("first", "second"):
        store = Store.open(tmp_path / "deep" / "data")
        assert (store.durable, store.last_error, store.path) == (True, "", tmp_path / "deep" / "data" / "store.db")
        await store.write(process_locks.register_process, worker)
        assert await store.read(processes) == ["first", "second"][: 1 if worker == "first" else 2]
        await store.close()


async def test_the_file_has_the_measured_durability_and_busy_timeout(sqlite_store: Store) -> None:

    def settings(tx: Transaction) -> list[object]:
        pragmas = ("journal_mode", "synchronous", "busy_timeout", "foreign_keys")
        return [tx.fetch_one(scalar, f"pragma {name}") for name in pragmas]

    found = await sqlite_store.write(settings)
    assert found == ["wal", 1, 30000, 1]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no modes of files")
def test_an_existing_directory_keeps_its_permissions(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    Store.open(tmp_path).close_blocking()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "store.db").stat().st_mode) == 0o600


async def test_with_a_file_in_place_of_the_directory_the_ledger_is_in_memory(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    directory.write_text("mine")
    store = Store.open(directory)
    assert (store.durable, store.path) == (False, None)
    assert store.last_error == f"The ledger is kept in memory: {directory} is not a directory."
    await assert_it_works(store)
    await store.close()
    assert directory.read_text() == "mine"


@pytest.mark.skipif(sys.platform != "linux", reason="/proc takes no files, not even from root")
async def test_with_a_directory_that_cannot_be_created_the_ledger_is_in_memory() -> None:
    store = Store.open(Path("/proc/mcp-server-claude"))
    assert not store.durable
    assert store.last_error.startswith("The ledger is kept in memory: /proc/mcp-server-claude ")
    await assert_it_works(store)
    await store.close()


@pytest.mark.parametrize("content", [b"not a database " * 500, b"SQLite format 3\x00" + b"\xff" * 9000])
async def test_a_file_that_is_not_a_database_is_unchanged(tmp_path: Path, content: bytes) -> None:
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


async def test_a_newer_schema_is_rejected_in_one_sentence_and_unchanged(tmp_path: Path) -> None:
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


async def test_an_older_file_gets_the_missing_migrations_and_keeps_its_rows(tmp_path: Path) -> None:
    with closing(open_connection(tmp_path / "store.db")) as connection:
        older = SqliteTransaction(connection)
        older.execute("create table schema_version (version bigint primary key, why text not null)")
        older.execute("insert into schema_version (version, why) values (1, 'first')")
        for statement in MIGRATIONS[0].statements:
            older.execute(statement)
        older.execute(OLD_ENTRY)
    store = Store.open(tmp_path)
    assert store.durable, store.last_error
    (entry,) = await store.read(request_ledger.entries_of_call, "c_1")
    assert (entry.id, entry.cost_micros, entry.failure) == ("r_1", 70, "stream_timeout")
    assert await store.read(daily_rollups.days_that_differ) == []
    assert await store.read(lambda tx: tx.fetch_one(scalar, "select cost_micros from usage_total")) == 70
    versions = await store.read(lambda tx: tx.fetch_all(scalar, "select version from schema_version order by version"))
    assert versions == list(range(1, NEWEST_VERSION + 1))
    await store.close()


async def test_a_failed_migration_leaves_the_older_schema_intact(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "store.db")) as connection:
        connection.execute("create table budget (somebody text)")  # in the way of the last step
    store = Store.open(tmp_path)
    assert "its tables do not fit this version (table budget already exists)." in store.last_error
    await store.close()
    with closing(sqlite3.connect(tmp_path / "store.db")) as connection:
        assert connection.execute("select name from sqlite_master").fetchall() == [("budget",)]


def test_the_migrations_are_numbered_without_a_gap_and_explain_themselves() -> None:
    assert [step.number for step in MIGRATIONS] == list(range(1, NEWEST_VERSION + 1))
    assert all(step.reason for step in MIGRATIONS)


def test_the_tables_have_the_fields_of_their_row_classes(tx: Transaction) -> None:
    assert columns(tx, "entry") == {field.name for field in fields(request_ledger.LedgerEntry)} | {"day"}
    for table in ("usage_total", "usage_user_total", "usage_cell", "usage_project_cell", "usage_project_total"):
        assert set(daily_rollups.ENTRY_VALUES) < columns(tx, table)
    assert columns(tx, "call") == {field.name for field in fields(call_journal.JournaledCall)} | {"stop_requested"}
    assert columns(tx, "job") == {field.name for field in fields(job_records.JobRecord)}
    claimed, stored = fields(job_items.ClaimedItem), fields(job_items.ItemRecord)
    assert columns(tx, "job_item") == {field.name for field in (*claimed, *stored)} | {
        "owner",
        "interruptions",
        "batch_id",
    }
    assert columns(tx, "message_batch") == {field.name for field in fields(message_batches.BatchRecord)}


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
@pytest.mark.parametrize("name", ["store.db", "store.db-wal", "store.db-shm"])
@pytest.mark.parametrize("kind", ["symbolic", "dangling", "hard", "directory"])
async def test_a_link_or_directory_in_place_of_a_file_is_not_opened(tmp_path: Path, name: str, kind: str) -> None:
    victim, data = tmp_path / "victim", tmp_path / "data"
    data.mkdir()
    if kind != "dangling":
        victim.write_text("content")
        victim.chmod(0o644)
    match kind:
        case "hard":
            (data / name).hardlink_to(victim)
        case "directory":
            (data / name).mkdir()
        case _:
            (data / name).symlink_to(victim)
    store = Store.open(data)
    assert not store.durable
    assert store.last_error.startswith(f"The ledger is kept in memory: {data / name} is ")
    await store.close()
    assert victim.exists() == (kind != "dangling")
    if victim.exists():
        assert (victim.read_text(), stat.S_IMODE(victim.stat().st_mode)) == ("content", 0o644)
    assert names(data) == [name]


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="only root can give files away")
async def test_a_file_of_another_user_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "store.db").write_bytes(b"")
    os.chown(tmp_path / "store.db", 12345, 12345)
    store = Store.open(tmp_path)
    assert store.last_error == f"The ledger is kept in memory: {tmp_path / 'store.db'} belongs to another user."
    await store.close()


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="only root can give files away")
async def test_root_opens_a_store_of_a_user_with_the_rights_of_that_user(tmp_path: Path) -> None:
    for directory in (tmp_path, *tmp_path.parents[:3]):
        directory.chmod(0o755)
    home, secret = tmp_path / "home", tmp_path / "secret"
    home.mkdir()
    secret.mkdir(mode=0o700)
    os.chown(home, 12345, 12345)
    store = Store.open(home / "data")
    await store.write(process_locks.register_process, store.locks.worker)
    created = [home / "data", *(home / "data").iterdir(), *(home / "data" / "locks").iterdir()]
    assert {(path.stat().st_uid, path.stat().st_gid) for path in created} == {(12345, 12345)}
    assert len(created) == 6
    await store.close()
    (home / "elsewhere").symlink_to(secret)
    os.chown(home / "elsewhere", 12345, 12345, follow_symlinks=False)
    store = Store.open(home / "elsewhere")
    assert not store.durable
    await store.close()
    assert names(secret) == []
    assert (os.geteuid(), os.getegid()) == (0, os.getgid())


async def test_a_missing_table_or_column_is_an_error_that_is_reported(store: Store) -> None:
    await store.write(lambda tx: tx.execute("alter table entry drop column trace_id"))
    count = store.error_count
    with pytest.raises(StoreError, match="its tables do not fit this version") as caught:
        await store.write(
            request_ledger.open_entry, request_ledger.LedgerEntry(id="r", call_id="c", worker="w", started_at=1.0)
        )
    assert caught.value.kind == "schema"
    await assert_it_works(store)
    assert "its tables do not fit this version" in store.error_since(count)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows removes no file that is open")
async def test_a_removed_or_replaced_file_is_an_error_that_is_reported_and_logged_once(
    sqlite_store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    assert sqlite_store.path is not None
    assert sqlite_store.last_error == ""
    sqlite_store.path.unlink()
    error = (
        f"The ledger is not being kept: {sqlite_store.path} was removed or replaced. "
        "Stop the server, delete store.db-wal and store.db-shm, restore the file, and start the server."
    )
    assert sqlite_store.last_error == error
    for worker in ("w_1", "w_2"):
        await sqlite_store.write(process_locks.register_process, worker)
    assert [record.getMessage() for record in caplog.records] == [error]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows removes no file that is open")
@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
async def test_a_removed_log_is_an_error_until_the_server_was_restarted(sqlite_store: Store, suffix: str) -> None:
    """The next process makes a new one, and neither sees what the other writes."""
    path = sqlite_store.path
    assert path is not None
    await sqlite_store.write(process_locks.register_process, "before")
    assert (sqlite_store.last_error, sqlite_store.is_current()) == ("", True)
    removed = path.with_name(path.name + suffix)
    removed.unlink()
    removed.touch()
    assert not sqlite_store.is_current()
    error = f"The ledger is not being kept: {removed} was removed or replaced. Restart the server."
    assert sqlite_store.last_error == error
    await sqlite_store.close()
    store = Store.open(path.parent)
    assert (store.last_error, await store.read(processes)) == ("", ["before"])
    await store.close()


@pytest.mark.skipif(sys.platform == "win32", reason="a file in use cannot be replaced there")
async def test_a_file_that_replaced_the_one_in_use_is_whole_after_what_the_error_says(
    sqlite_store: Store, tmp_path: Path
) -> None:
    path = sqlite_store.path
    assert path is not None
    await sqlite_store.write(process_locks.register_process, "before")
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(tmp_path / "backup.db")) as backup:
        source.backup(backup)
    for number in range(2_000):  # other pages than those of the backup
        sqlite_store.write_nowait(process_locks.register_process, f"later_{number}")
    await sqlite_store.write(process_locks.register_process, "last")
    shutil.copy(tmp_path / "backup.db", tmp_path / "again.db")
    (tmp_path / "backup.db").replace(path)
    assert "Stop the server, delete store.db-wal and store.db-shm" in sqlite_store.last_error
    await sqlite_store.close()
    for name in ("store.db-wal", "store.db-shm"):  # SQLite leaves them beside a file that is not its own
        path.with_name(name).unlink()
    (tmp_path / "again.db").replace(path)
    store = Store.open(path.parent)
    assert (store.last_error, await store.read(processes)) == ("", ["before"])
    assert await store.read(lambda tx: tx.fetch_one(scalar, "pragma integrity_check")) == "ok"
    await store.close()


def test_renamed_error_kinds_are_renamed_in_what_is_stored(tx: Transaction) -> None:
    failure = {
        "class": "unavailable",
        "kind": "busy",
        "retryable": True,
        "retry_after_s": None,
        "request_id": "refused",
    }
    call_journal.open_call(tx, call_journal.JournaledCall(id="c", worker="w", started_at=1.0))
    call_journal.close_call(tx, "c", end="failed", ended_at=2.0, failure=failure)
    for statement in MIGRATIONS[11].statements:
        tx.execute(statement)
    call = call_journal.find_call(tx, "c", "local")
    assert call is not None
    assert call.failure == failure | {"class": "temporary_error", "kind": "capacity"}
