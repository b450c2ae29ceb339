from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from mcp_server_claude.store import Store
from mcp_server_claude.store.sqlite_connection import SqliteTransaction, open_in_memory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mcp_server_claude.store import Transaction
    from support.spawned_python import SpawnPython


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path / "data")
    assert store.durable, store.last_error
    yield store
    store.close_blocking()


@pytest.fixture
def tx() -> Iterator[Transaction]:
    connection = open_in_memory()
    yield SqliteTransaction(connection)
    connection.close()


@pytest.fixture
def spawn() -> Iterator[SpawnPython]:
    started: list[subprocess.Popen[str]] = []

    def start(program: str, *args: object, umask: int = 0o022) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", program, *map(str, args)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            umask=umask,
            # Its umask must not decide who may read our byte code.
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
