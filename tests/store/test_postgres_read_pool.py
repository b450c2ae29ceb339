"""The pool of connections that read: their number, idle and lost ones, and reads during an outage."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import anyio.to_thread
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import ConnectionPool

from mcp_server_claude.settings import Settings
from mcp_server_claude.store import Store, StoreError, postgres_read_pool, process_locks
from mcp_server_claude.store.postgres_connection import connect, set_timeouts
from mcp_server_claude.store.transaction import scalar
from support.chaos.call_results import poll_until
from support.cuttable_socket import CuttableSocket

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mcp_server_claude.store import Transaction

pytestmark = pytest.mark.anyio

TIMEOUT_S = 120
MAX_CONNECTIONS = 6
READERS = MAX_CONNECTIONS - 2  # one connection writes, and one is for slow reads
SESSIONS = """
select pid from pg_stat_activity
where datname = current_database() and application_name = 'mcp-server-claude' and pid <> pg_backend_pid()
"""


@pytest.fixture
def watcher(postgres_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        yield connection


def session_ids(watcher: psycopg.Connection) -> set[int]:
    return {row[0] for row in watcher.execute(SESSIONS).fetchall()}


def own_session(tx: Transaction) -> int:
    pid = tx.fetch_one(scalar, "select pg_backend_pid() as pid")
    assert pid is not None
    return pid


async def read_at_once(store: Store, count: int) -> list[int]:
    """Run so many reads that each waits for all others. Returns the sessions they had."""
    all_run, sessions = threading.Barrier(count), list[int]()

    def wait_for_others(tx: Transaction) -> int:
        session = own_session(tx)
        all_run.wait(TIMEOUT_S)
        return session

    async def read() -> None:
        sessions.append(await store.read(wait_for_others))

    async with anyio.create_task_group() as tasks:
        for _ in range(count):
            tasks.start_soon(read)
    return sessions


async def test_reads_run_at_the_same_time_on_a_connection_each(postgres_url: str, tmp_path: Path) -> None:
    store = Store.open(tmp_path, postgres_url, MAX_CONNECTIONS)
    assert len(set(await read_at_once(store, READERS))) == READERS
    await store.close()


async def test_a_server_has_no_more_connections_than_it_may(
    postgres_url: str, tmp_path: Path, watcher: psycopg.Connection
) -> None:
    store = Store.open(tmp_path, postgres_url, MAX_CONNECTIONS)
    counts: list[int] = []
    gate = threading.Event()

    def wait_for_gate(tx: Transaction) -> None:
        own_session(tx)
        gate.wait(TIMEOUT_S)

    async def read_and_count() -> None:
        await store.read(own_session)
        counts.append(len(session_ids(watcher)))

    await store.write(process_locks.register_process, "w_1")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(store.read_slow, wait_for_gate)
        await read_at_once(store, READERS)
        assert len(session_ids(watcher)) == MAX_CONNECTIONS
        for _ in range(40):
            tasks.start_soon(read_and_count)
        with anyio.fail_after(TIMEOUT_S):
            await poll_until(lambda: len(counts) == 40)
        gate.set()
    assert max(counts) == MAX_CONNECTIONS
    await store.close()


async def test_a_server_that_was_never_read_from_has_one_connection_and_no_thread_of_the_pool(
    postgres_url: str, tmp_path: Path, watcher: psycopg.Connection
) -> None:
    before = threading.active_count()
    store = Store.open(tmp_path, postgres_url, MAX_CONNECTIONS)
    await store.write(process_locks.register_process, "w_1")
    assert len(session_ids(watcher)) == 1
    assert threading.active_count() == before + MAX_CONNECTIONS
    await store.close()


async def test_connections_that_are_not_needed_any_more_are_closed(
    postgres_url: str, tmp_path: Path, watcher: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_read_pool, "MAX_IDLE_S", 0.05)
    store = Store.open(tmp_path, postgres_url, MAX_CONNECTIONS)
    await store.write(process_locks.register_process, "w_1")
    await read_at_once(store, READERS)
    with anyio.fail_after(TIMEOUT_S):
        await poll_until(lambda: len(session_ids(watcher)) == 1)
    assert await store.read(own_session)
    await store.close()


async def test_closing_a_store_ends_all_its_connections(
    postgres_url: str, tmp_path: Path, watcher: psycopg.Connection
) -> None:
    store = Store.open(tmp_path, postgres_url, MAX_CONNECTIONS)
    await read_at_once(store, READERS)
    await store.close()
    with anyio.fail_after(TIMEOUT_S):
        await poll_until(lambda: not session_ids(watcher))


async def test_more_lost_connections_than_there_are_attempts_fail_no_read(
    postgres_url: str, tmp_path: Path, watcher: psycopg.Connection
) -> None:
    store = Store.open(tmp_path, postgres_url, 12)
    before = set(await read_at_once(store, 10))
    for session in session_ids(watcher):
        watcher.execute("select pg_terminate_backend(%s)", [session])
    after = {await store.read(own_session) for _ in range(10)}
    assert not before & after
    await store.close()


async def test_reads_during_an_outage_give_the_reason_and_ask_the_pool_for_nothing(
    postgres_url: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = CuttableSocket(tmp_path_factory.mktemp("s"), str(conninfo_to_dict(postgres_url)["host"]))
    url = make_conninfo(postgres_url, host=str(network.directory))
    pool = postgres_read_pool.PostgresReadPool(url, 2, partial(connect, url), set_timeouts)
    connection = pool.take_connection()
    network.cut()
    with pytest.raises(psycopg.Error):
        connection.execute("select 1")
    connection.close()
    with monkeypatch.context() as patch:
        patch.delattr(ConnectionPool, "getconn")
        for _ in range(5):
            with pytest.raises(StoreError, match="no connection to it can be made") as caught:
                pool.take_connection()
            assert caught.value.kind == "unreachable"
    network.restore()
    connection = pool.take_connection()
    connection.execute("select 1")
    connection.close()
    pool.close()
    network.cut()


async def test_a_read_waits_for_another_one_where_the_database_allows_no_more_connections(
    postgres_url: str, tmp_path: Path, watcher: psycopg.Connection
) -> None:
    watcher.execute("create role few_connections login password 'fake-password' connection limit 2")
    watcher.execute("grant all on all tables in schema public to few_connections")
    url = make_conninfo(postgres_url, user="few_connections", password="fake-password")
    store = Store.open(tmp_path, url, MAX_CONNECTIONS)
    gate, both_run = threading.Event(), threading.Barrier(3)

    def occupy(tx: Transaction) -> None:
        own_session(tx)
        both_run.wait(TIMEOUT_S)
        gate.wait(TIMEOUT_S)

    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(store.read, occupy)
        await anyio.to_thread.run_sync(both_run.wait, TIMEOUT_S)
        tasks.start_soon(store.read, own_session)
        await anyio.lowlevel.checkpoint()
        gate.set()
    await store.close()
    watcher.execute("drop owned by few_connections")
    watcher.execute("drop role few_connections")


@pytest.mark.parametrize(("number", "is_allowed"), [("2", False), ("3", True), ("100", True), ("101", False)])
def test_a_server_needs_three_connections(number: str, monkeypatch: pytest.MonkeyPatch, *, is_allowed: bool) -> None:
    monkeypatch.setenv("MCP_CLAUDE_DATABASE_CONNECTIONS", number)
    assert (not Settings.load().problems) == is_allowed
