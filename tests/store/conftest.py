from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from mcp_server_claude.store import Store
from mcp_server_claude.store.postgres_connection import connect
from mcp_server_claude.store.postgres_transaction import PostgresTransaction
from mcp_server_claude.store.sqlite_connection import SqliteTransaction, open_in_memory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mcp_server_claude.store import Transaction
    from support.postgres_server import PostgresServer
    from support.spawned_python import SpawnPython


DATABASES = ("sqlite", "postgres")


@pytest.fixture(params=DATABASES)
def database_url(request: pytest.FixtureRequest) -> str:
    """Where a store is opened: empty for SQLite, or the URL of an empty database on PostgreSQL."""
    return "" if request.param == "sqlite" else request.getfixturevalue("postgres_url")


@pytest.fixture
def store(database_url: str, tmp_path: Path) -> Iterator[Store]:
    """An empty store on each of the databases."""
    store = Store.open(tmp_path / "data", database_url)
    assert store.durable, store.last_error
    yield store
    store.close_blocking()


@pytest.fixture
def sqlite_store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path / "data")
    assert store.durable, store.last_error
    yield store
    store.close_blocking()


@pytest.fixture(scope="session")
def postgres_scratch_url(postgres_server: PostgresServer) -> str:
    return postgres_server.create_database()


@pytest.fixture(params=DATABASES)
def tx(request: pytest.FixtureRequest) -> Iterator[Transaction]:
    """A transaction on each of the databases. What it wrote is not kept."""
    if request.param == "sqlite":
        connection = open_in_memory()
        yield SqliteTransaction(connection)
        connection.close()
        return
    server = connect(request.getfixturevalue("postgres_scratch_url"))
    server.execute("begin")
    yield PostgresTransaction(server)
    server.execute("rollback")
    server.close()


@pytest.fixture
def spawn(request: pytest.FixtureRequest) -> Iterator[SpawnPython]:
    """Start Python programs, which find the database of the test in `TEST_DATABASE_URL`."""
    database_url = request.getfixturevalue("database_url") if "database_url" in request.fixturenames else ""
    started: list[subprocess.Popen[str]] = []

    def start(program: str, *args: object, umask: int = 0o022) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", program, *map(str, args)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            umask=umask,
            # Its umask must not decide who may read our byte code.
            env=os.environ
            | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"}
            | {"TEST_DATABASE_URL": database_url},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
