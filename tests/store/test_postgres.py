"""PostgreSQL as the database of a store: outages, conflicts, the schema, and what its errors say."""

from __future__ import annotations

import math
import re
import sqlite3
import threading
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import SecretStr

from mcp_server_claude.cli.doctor import check_ledger
from mcp_server_claude.settings import Settings
from mcp_server_claude.store import (
    Store,
    StoreError,
    budget_reservations,
    call_journal,
    connection_worker,
    erasure,
    orphan_cleanup,
    postgres_connection,
    process_locks,
    request_ledger,
    thread_messages,
    user_rows,
)
from mcp_server_claude.store.migrations import MIGRATIONS, NEWEST_VERSION
from mcp_server_claude.store.postgres_connection import connect, describe_url
from mcp_server_claude.store.postgres_copy import copy_to_postgres
from mcp_server_claude.store.postgres_transaction import PostgresTransaction
from mcp_server_claude.store.sql_parameters import to_psycopg_sql
from mcp_server_claude.store.transaction import scalar
from mcp_server_claude.store.usage import daily_rollups
from support.cuttable_socket import CuttableSocket
from support.mcp_session import server_environment
from support.quick_run import slow_beyond
from support.server_command import server_command

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from mcp_server_claude.store import Transaction
    from support.postgres_server import PostgresServer
    from support.spawned_python import SpawnPython

pytestmark = pytest.mark.anyio

TIMEOUT_S = 120
LATEST_REBUILD = max(migration.number for migration in MIGRATIONS if migration.rebuilds_rollups)
EARLIER_VERSIONS = {*range(1, NEWEST_VERSION)}
QUICK_VERSIONS = EARLIER_VERSIONS & {1, LATEST_REBUILD - 1, LATEST_REBUILD, NEWEST_VERSION - 1}
OLD_ENTRY = """
insert into entry (id, call_id, attempt, worker, "user", client, source, tool, model, host, day, started_at, ended_at,
    state, "end", status, failure, input_tokens, cache_read_input_tokens, cache_creation_input_tokens, output_tokens,
    thinking_tokens, web_searches, cost_micros, estimated, trace_id, held_micros)
values ('r_1', 'c_1', 1, 'w_1', 'ada', '', '', 'claude_ask', 'claude-haiku-4-5', '', '2026-11-20', 1795000000.0,
    1795000001.0, 'closed', 'failed', 200, 'stall', 10, 0, 0, 5, 0, 0, 70, 0, '', 0)
"""
LATER_SESSIONS = """
create function later() returns trigger language plpgsql as 'begin new.expires_at = 9; return new; end'
"""
LATER_SESSIONS_TRIGGER = "create trigger later before insert on session for each row execute function later()"
MIGRATE = """
import asyncio, os, sys
from mcp_server_claude.store import Store, process_locks
print("ready", flush=True)
sys.stdin.readline()
store = Store.open(None, sys.argv[1])
asyncio.run(store.write(process_locks.register_process, sys.argv[2]))
print(store.last_error or "durable", flush=True)
"""


@pytest.fixture
def network(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CuttableSocket]:
    server_directory = str(conninfo_to_dict(postgres_url)["host"])
    between = CuttableSocket(tmp_path_factory.mktemp("s"), server_directory)
    yield between
    between.cut()


@pytest.fixture
def remote_store(postgres_url: str, network: CuttableSocket) -> Iterator[Store]:
    """A store whose connections can be cut."""
    store = Store.open(network.directory, make_conninfo(postgres_url, host=str(network.directory)))
    yield store
    store.close_blocking()


def open_request(tx: Transaction, entry_id: str, worker: str) -> None:
    process_locks.register_process(tx, worker)
    entry = request_ledger.LedgerEntry(id=entry_id, call_id="c_1", worker=worker, started_at=time.time())
    budget_reservations.reserve_up_to(tx, [("total", 1000)], "2026-11-20", 100, 100, entry_id)
    request_ledger.open_entry(tx, entry)


def complete() -> request_ledger.EntryResult:
    return request_ledger.EntryResult(end="complete", ended_at=time.time(), cost_micros=30)


async def test_a_store_opens_during_an_outage_of_the_server_and_reports_why_it_cannot_write(
    remote_store: Store, network: CuttableSocket
) -> None:
    network.cut()
    with pytest.raises(StoreError) as caught:
        await remote_store.write(process_locks.register_process, "w_1")
    assert caught.value.kind == "unreachable"
    assert remote_store.last_error.startswith("The ledger's database could not be used: no connection to it can be")
    assert remote_store.durable
    network.restore()
    with anyio.fail_after(TIMEOUT_S):
        while True:
            try:
                await remote_store.write(process_locks.register_process, "w_1")
            except StoreError:
                await anyio.lowlevel.checkpoint()
            else:
                break
    assert remote_store.last_error == ""


async def test_a_database_that_is_back_is_used_before_the_longest_pause_between_attempts_has_passed(
    remote_store: Store, network: CuttableSocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_worker, "RECONNECT_INTERVAL_S", 10 * TIMEOUT_S)
    network.cut()
    with pytest.raises(StoreError):
        await remote_store.write(process_locks.register_process, "w_1")
    network.restore()
    with anyio.fail_after(TIMEOUT_S):
        while True:
            with suppress(StoreError):
                await remote_store.write(process_locks.register_process, "w_1")
                break
            await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"dbname": "no_such_database"}, "there is no database of that name"),
        ({"user": "no_such_role"}, "there is no role of that name"),
        ({"host": "no-such-host.invalid"}, "the name of its host is unknown"),
        ({"host": "127.0.0.1", "port": "1"}, "nothing listens at its address"),
        ({"user": "without_rights"}, "its role lacks a permission"),
        ({"user": "without_connections"}, "it has none free"),
    ],
)
async def test_the_reason_why_no_connection_can_be_made_is_named_without_user_and_database(
    postgres_url: str, tmp_path: Path, change: dict[str, str], reason: str
) -> None:
    with closing(connect(postgres_url)) as admin:
        admin.execute("drop role if exists without_rights")
        admin.execute("drop role if exists without_connections")
        admin.execute("create role without_rights login")
        admin.execute("create role without_connections login connection limit 0")
        database = sql.Identifier(str(conninfo_to_dict(postgres_url)["dbname"]))
        admin.execute(sql.SQL("revoke connect on database {} from public").format(database))
    store = Store.open(tmp_path, make_conninfo(postgres_url, **change))
    with pytest.raises(StoreError) as caught:
        await store.write(process_locks.register_process, "w_1")
    assert (caught.value.kind, str(caught.value)) == (
        "unreachable",
        f"The ledger's database could not be used: no connection to it can be made: {reason}.",
    )
    await store.close()


async def test_requests_that_end_during_an_outage_are_recorded_afterwards_in_order(
    remote_store: Store, network: CuttableSocket
) -> None:
    worker = remote_store.locks.worker
    await remote_store.write(open_request, "r_1", worker)
    await remote_store.write(
        call_journal.open_call, call_journal.JournaledCall(id="c_1", worker=worker, started_at=time.time())
    )
    network.cut()
    for place in range(300):
        remote_store.write_nowait(call_journal.append_text, [("c_1", place, "x")])
    with pytest.raises(StoreError) as caught:
        await remote_store.write_surely(request_ledger.close_entry, "r_1", complete(), 30)
    assert caught.value.kind == "unreachable"
    remote_store.write_nowait(call_journal.close_call, "c_1", end="complete", ended_at=time.time())
    with pytest.raises(StoreError):  # a new request with a budget is refused
        await remote_store.write(open_request, "r_2", worker)
    network.restore()
    with anyio.fail_after(TIMEOUT_S):
        while not (await _entries(remote_store))[0].end:
            await anyio.lowlevel.checkpoint()
    assert [(entry.id, entry.end, entry.cost_micros) for entry in await _entries(remote_store)] == [
        ("r_1", "complete", 30)
    ]
    assert await remote_store.read(call_journal.answer_text, "c_1") == "x" * 300
    assert await remote_store.read(budget_reservations.remaining_micros, "total", "2026-11-20", 1000) == 970
    assert remote_store.lost_writes == 0
    assert remote_store.last_error == ""


async def test_a_server_whose_answers_are_held_back_counts_as_unreachable_and_gets_what_was_kept(
    remote_store: Store, network: CuttableSocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    await remote_store.write(open_request, "r_1", remote_store.locks.worker)
    monkeypatch.setattr(postgres_connection, "CONTROL_TIMEOUT_S", 0.5)
    monkeypatch.setattr(postgres_connection, "ANSWER_TIMEOUT_S", 0.5)
    attempts: list[Transaction] = []

    def hold_and_close(tx: Transaction) -> bool:
        attempts.append(tx)
        tx.fetch_one(scalar, "select 1 as one")  # the transaction has begun
        if len(attempts) == 1:
            network.hold()
        return request_ledger.close_entry(tx, "r_1", complete(), 30)

    with anyio.fail_after(TIMEOUT_S):
        with pytest.raises(StoreError) as caught:
            await remote_store.write_surely(hold_and_close)
        assert (caught.value.kind, str(caught.value)) == (
            "unreachable",
            "The ledger's database could not be used: it does not answer.",
        )
        with pytest.raises(StoreError) as caught:
            await remote_store.read(request_ledger.entries_of_call, "c_1")
        assert caught.value.kind == "unreachable"
        network.release()
        while [entry.state for entry in await _entries(remote_store)] != ["closed"]:
            await anyio.lowlevel.checkpoint()


async def test_an_idle_connection_whose_answers_are_held_back_refuses_the_next_operation(
    remote_store: Store, network: CuttableSocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_connection, "CONTROL_TIMEOUT_S", 0.5)
    await remote_store.write(process_locks.register_process, "w_1")
    network.hold()
    with anyio.fail_after(TIMEOUT_S), pytest.raises(StoreError) as caught:
        await remote_store.write(process_locks.register_process, "w_2")
    assert caught.value.kind == "unreachable"


async def test_a_reconnected_process_still_counts_as_running(
    remote_store: Store, network: CuttableSocket, postgres_url: str, tmp_path: Path
) -> None:
    await remote_store.write(open_request, "r_1", remote_store.locks.worker)
    network.cut()
    network.restore()
    await remote_store.write(process_locks.register_process, remote_store.locks.worker)  # connects again at once
    other = Store.open(tmp_path, postgres_url)
    await other.write(orphan_cleanup.close_orphans, other.locks, time.time())
    assert [entry.state for entry in await other.read(request_ledger.entries_of_call, "c_1")] == ["open"]
    await other.close()


async def test_transactions_that_lock_the_same_rows_in_another_order_both_succeed(
    postgres_url: str, tmp_path: Path
) -> None:
    one, two = Store.open(tmp_path, postgres_url), Store.open(tmp_path, postgres_url)
    for name in ("a", "b"):
        await one.write(budget_reservations.reserve_up_to, [(name, None)], "2026-11-20", 0, 0, "r_0")
    both_hold_a_row = threading.Barrier(2)
    waited: set[str] = set()

    def spend(tx: Transaction, store: str, first: str, second: str) -> None:
        add = "update budget set spent = spent + 1 where scope = :scope"
        tx.execute(add, {"scope": first})
        if store not in waited:  # only the first run, since the other one must be able to continue
            waited.add(store)
            both_hold_a_row.wait(TIMEOUT_S)
        tx.execute(add, {"scope": second})

    async def write(store: Store, name: str, first: str, second: str) -> None:
        await store.write(spend, name, first, second)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write, one, "one", "a", "b")
        tasks.start_soon(write, two, "two", "b", "a")
    assert await one.read(lambda tx: tx.fetch_all(scalar, "select spent from budget order by scope")) == [2, 2]
    assert waited == {"one", "two"}
    await one.close()
    await two.close()


async def test_four_processes_create_the_schema_of_one_database_at_the_same_moment(
    postgres_server: PostgresServer, spawn: SpawnPython, tmp_path: Path
) -> None:
    url = postgres_server.create_database(with_schema=False)
    four = [spawn(MIGRATE, url, f"w_{n}") for n in range(4)]
    for process in four:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    for process in four:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.stdout.read() for process in four if process.stdout] == ["durable\n"] * 4
    store = Store.open(tmp_path, url)
    assert await store.read(lambda tx: tx.fetch_one(scalar, "select count(*) as n from process")) == 4
    assert (
        await store.read(lambda tx: tx.fetch_one(scalar, "select count(*) as n from schema_version")) == NEWEST_VERSION
    )
    await store.close()
    postgres_server.drop_database(url)


@pytest.mark.parametrize(
    "version",
    slow_beyond(len(QUICK_VERSIONS), [*sorted(QUICK_VERSIONS), *sorted(EARLIER_VERSIONS - QUICK_VERSIONS)]),
)
async def test_every_earlier_schema_is_migrated_with_its_rows(
    postgres_server: PostgresServer, tmp_path: Path, version: int
) -> None:
    url = postgres_server.create_database(with_schema=False)
    older = connect(url)
    older.execute("begin")
    tx = PostgresTransaction(older)
    tx.execute("create table schema_version (version bigint primary key, why text not null)")
    for migration in MIGRATIONS[:version]:
        for statement in migration.statements:
            tx.execute(statement)
        tx.execute("insert into schema_version (version, why) values (:number, 'old')", {"number": migration.number})
    tx.execute(OLD_ENTRY)
    if version >= LATEST_REBUILD:  # else the sums are rebuilt by a migration
        daily_rollups.rebuild_rollups(tx)
    older.execute("commit")
    older.close()
    store = Store.open(tmp_path, url)
    await store.write(process_locks.register_process, "w_1")
    (entry,) = await store.read(request_ledger.entries_of_call, "c_1")
    assert (entry.id, entry.cost_micros) == ("r_1", 70)
    assert entry.failure == ("stream_timeout" if version < 12 else "stall")
    assert await store.read(daily_rollups.days_that_differ) == []
    await store.close()
    postgres_server.drop_database(url)


async def test_a_statement_that_fails_among_others_is_raised_and_not_logged_a_second_time(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    connection = connect(postgres_url)
    unusable: Any = object()
    with closing(connection), pytest.raises(psycopg.ProgrammingError):
        PostgresTransaction(connection).count_changes(
            [("delete from no_table", {}), ("select :value", {"value": unusable})]
        )
    assert caplog.records == []


async def test_a_newer_schema_is_rejected_in_one_sentence(postgres_url: str, tmp_path: Path) -> None:
    first = Store.open(tmp_path, postgres_url)
    await first.write(lambda tx: tx.execute("insert into schema_version (version, why) values (99, 'the future')"))
    await first.close()
    second = Store.open(tmp_path, postgres_url)
    with pytest.raises(StoreError, match="written by a newer version of mcp-server-claude"):
        await second.write(process_locks.register_process, "w_1")
    await second.close()


async def test_no_error_or_location_shows_the_password(tmp_path: Path) -> None:
    url = "postgresql://ada:fake-password@127.0.0.1:1/ledger?sslmode=disable"
    store = Store.open(tmp_path, url)
    assert store.location == "postgresql://127.0.0.1:1/ledger"
    with pytest.raises(StoreError) as caught:
        await store.read(process_locks.register_process, "w_1")
    assert "fake-password" not in f"{caught.value}{caught.value.__cause__!r}{store.location}{store.last_error}"
    assert describe_url("not a url %%%") == "postgresql://"
    await store.close()


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("select :a, :long_name", "select %(a)s, %(long_name)s"),
        ("select 'it''s :a', \"x:b\", :c", "select 'it''s :a', \"x:b\", %(c)s"),
        ("select cast(:a as text)::text", "select cast(%(a)s as text)::text"),
        ("select 'a%' like :a % 2", "select 'a%%' like %(a)s %% 2"),
    ],
)
def test_parameters_are_written_in_the_style_of_psycopg(sql: str, expected: str) -> None:
    assert to_psycopg_sql(sql) == expected


async def test_a_file_is_moved_with_every_row_and_stays_usable(postgres_url: str, tmp_path: Path) -> None:
    old = Store.open(tmp_path)
    worker = old.locks.worker
    for number in range(40):
        await old.write(open_request, f"r_{number}", worker)
        await old.write(request_ledger.close_entry, f"r_{number}", complete(), 30)
    call = call_journal.JournaledCall(id="c_1", worker=worker, started_at=1.0, thread="t_1", usage={"cost_usd": 1})
    await old.write(call_journal.open_call, call)
    await old.write(call_journal.append_text, [("c_1", 0, "nul \x00"), ("c_1", 5, "é \N{GRINNING FACE} \\ \t\n")])
    thread = thread_messages.Thread(id="t_1", user="ada", head="", system="", model="", started_at=1.0, touched_at=1.0)
    await old.write(thread_messages.create_thread, thread)
    message = thread_messages.ThreadMessage(role="user", content=[{"type": "text"}], model="", call_id="c_1")
    await old.write(thread_messages.append_message, "t_1", message)
    await old.write(user_rows.insert_user, user_rows.UserRow(name="ada", created_at=1.0, usd_per_day=math.inf))
    await old.write(process_locks.register_process, worker)
    with pytest.raises(StoreError, match=r"A server is using this store\. Stop it first\."):
        copy_to_postgres(tmp_path, postgres_url)
    remaining = await old.read(budget_reservations.remaining_micros, "total", "2026-11-20", 2000)
    await old.close()
    rows = copy_to_postgres(tmp_path, postgres_url)
    assert {name: count for name, count in rows.items() if count} == {
        "budget": 1,
        "call": 1,
        "chunk": 2,
        "entry": 40,
        "member": 1,
        "thread": 1,
        "turn": 1,
        "usage_cell": 1,
        "usage_project_cell": 1,
        "usage_project_total": 1,
        "usage_total": 1,
        "usage_user_total": 1,
    }
    new = Store.open(tmp_path, postgres_url)
    assert len(await new.read(request_ledger.entries_of_call, "c_1")) == 40
    assert await new.read(call_journal.answer_text, "c_1") == "nul \N{REPLACEMENT CHARACTER}é \N{GRINNING FACE} \\ \t\n"
    assert await new.read(daily_rollups.days_that_differ) == []
    assert await new.read(budget_reservations.remaining_micros, "total", "2026-11-20", 2000) == remaining
    await new.close()
    with pytest.raises(StoreError, match="already has rows"):
        copy_to_postgres(tmp_path, postgres_url)


async def test_a_copy_that_fails_leaves_the_target_empty(postgres_url: str, tmp_path: Path) -> None:
    old = Store.open(tmp_path)
    await old.write(user_rows.insert_user, user_rows.UserRow(name="ada", created_at=1.0))
    await old.close()
    target = Store.open(tmp_path, postgres_url)
    await target.write(lambda tx: tx.execute(LATER_SESSIONS))
    await target.write(lambda tx: tx.execute(LATER_SESSIONS_TRIGGER))
    await target.close()
    with closing(sqlite3.connect(tmp_path / "store.db")) as connection:
        connection.execute("insert into session (hash, member, created_at, expires_at) values ('h', 'ada', 1, 2)")
        connection.commit()
    with pytest.raises(StoreError, match=r"The copy of 'session' differs from the original\. Nothing was moved\."):
        copy_to_postgres(tmp_path, postgres_url)
    target = Store.open(tmp_path, postgres_url)
    assert await target.read(lambda tx: tx.fetch_one(scalar, "select count(*) as n from member")) == 0
    await target.close()


async def test_doctor_names_the_server_and_what_is_wrong_with_the_role(postgres_url: str, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, database_url=SecretStr(postgres_url))
    finding = await check_ledger(settings)
    facts = (
        r"PostgreSQL \d+\.\d+.*, \d+\.\d ms a round trip, \d+ connections to this database, \d+ allowed on the server"
    )
    assert re.search(facts, finding.text)
    assert finding.ok is None
    assert "the role is a superuser" in finding.text
    unreachable = Settings(data_dir=tmp_path, database_url=SecretStr("postgresql://ada:fake-password@127.0.0.1:1/x"))
    finding = await check_ledger(unreachable)
    assert finding.ok is False
    assert (finding.text, finding.hint) == (
        "The ledger's database could not be used: no connection to it can be made: nothing listens at its address.",
        "Check MCP_CLAUDE_DATABASE_URL and the server.",
    )


def test_the_url_is_a_secret_and_must_be_one_of_postgresql(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "postgresql://ada:fake-password@db.example/ledger"
    monkeypatch.setenv("MCP_CLAUDE_DATABASE_URL", url)
    settings = Settings.load()
    assert settings.store_url == url
    assert "fake-password" not in f"{settings!r}{settings.model_dump_json()}"
    monkeypatch.setenv("MCP_CLAUDE_DATABASE_URL", "mysql://ada:fake-password@db.example/ledger")
    settings = Settings.load()
    (problem,) = settings.problems
    assert "it must begin with postgresql://" in problem
    assert "fake-password" not in problem


async def test_an_erasure_works_on_a_server(postgres_url: str, tmp_path: Path) -> None:
    store = Store.open(tmp_path, postgres_url)
    call = call_journal.JournaledCall(id="c_1", worker="w_1", started_at=1.0, user="ada", prompt_head="secret")
    await store.write(call_journal.open_call, call)
    await store.write(call_journal.close_call, "c_1", end="complete", ended_at=2.0)
    selection = erasure.ErasureFilter(user="ada")
    assert (await erasure.preview_erasure_in_store(store, selection, 3.0)).calls == 1
    assert (await store.write(erasure.erase_text, selection, store.locks, 3.0)).calls == 1
    assert (await erasure.preview_erasure_in_store(store, selection, 3.0)).is_empty
    await store.close()


async def _entries(store: Store) -> list[request_ledger.LedgerEntry]:
    """The requests of the call, or none while the server is away."""
    try:
        return await store.read(request_ledger.entries_of_call, "c_1")
    except StoreError:
        return [request_ledger.LedgerEntry(id="", call_id="", worker="", started_at=0.0)]


async def test_the_commands_forget_and_backup_detect_that_the_store_is_on_a_server(
    postgres_url: str, tmp_path: Path
) -> None:
    store = Store.open(tmp_path / "data", postgres_url)
    await store.write(
        call_journal.open_call,
        call_journal.JournaledCall(id="c", worker="gone", started_at=1.0, user="local", prompt_head="secret"),
    )
    await store.close()

    async def run(*arguments: str) -> subprocess.CompletedProcess[bytes]:
        environment = server_environment(data_dir=tmp_path / "data", database_url=postgres_url)
        return await anyio.run_process(server_command(*arguments), check=False, env=environment)

    forgotten = await run("forget", "--user", "local", "--yes")
    assert (forgotten.returncode, forgotten.stderr) == (0, b"")
    assert forgotten.stdout.startswith(b"Deleted: the text of 1 call and 0 threads")
    copied = await run("backup", str(tmp_path / "copy.db"))
    assert copied.returncode == 2
    assert b"pg_dump" in copied.stderr
    assert not (tmp_path / "copy.db").exists()
    with closing(connect(postgres_url)) as connection:
        assert "secret" not in str(connection.execute("select * from call").fetchall())
