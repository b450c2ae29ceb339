"""PostgreSQL as the database of a store, for servers that share their state. Needs the extra `postgres`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import psycopg

from mcp_server_claude.store import migrations
from mcp_server_claude.store.database_connection import DatabaseBackend, DatabaseConnection
from mcp_server_claude.store.postgres_connection import (
    TimedConnection,
    connect,
    describe_url,
    set_timeouts,
    to_store_error,
)
from mcp_server_claude.store.postgres_process_locks import HEARTBEAT_INTERVAL_S, PostgresProcessLocks
from mcp_server_claude.store.postgres_read_pool import PostgresReadPool
from mcp_server_claude.store.postgres_transaction import transaction, wrap_connection
from mcp_server_claude.store.transaction import scalar

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcp_server_claude.store.transaction import Transaction

BEGIN_WRITE = "begin"
MIGRATION_LOCK = 0x6D63_705F_636C_6175
"""Key of the advisory lock under which one server migrates and the others wait."""


def postgres_backend(url: str, max_connections: int) -> DatabaseBackend:
    """Return a database on a server. Connects, and migrates, when the first operation needs it.

    `url` is `postgresql://user:password@host:port/database?sslmode=…`, or any other form that libpq takes. Of the
    connections one writes, and the others read.
    """
    locks = PostgresProcessLocks()

    def connect_writer() -> DatabaseConnection:
        connection = _connect(url, migrate, locks.hold)
        return wrap_connection(connection, BEGIN_WRITE, heartbeat_interval_s=HEARTBEAT_INTERVAL_S)

    pool = PostgresReadPool(url, max_connections - 1, partial(_connect, url, migrate), _configure)
    return DatabaseBackend(
        location=describe_url(url),
        locks=locks,
        connect_writer=connect_writer,
        connect_reader=pool.take_connection,
        max_readers=max_connections - 2,
        close_idle=pool.close,
        is_shared=True,
    )


def _connect(url: str, *preparations: Callable[[Transaction], None]) -> TimedConnection:
    """Connect, and prepare the connection.

    Raises:
        StoreError: The server failed, or its schema is newer than this code.
    """
    connection = connect(url)
    try:
        _prepare(connection, *preparations)
    except psycopg.Error as error:
        raise to_store_error(error) from error
    return connection


def _configure(connection: TimedConnection) -> None:
    """Prepare a connection that a pool has made.

    Raises:
        psycopg.Error: The server failed.
        StoreError: Its schema is newer than this code.
    """
    set_timeouts(connection)
    _prepare(connection, migrate)


def _prepare(connection: TimedConnection, *preparations: Callable[[Transaction], None]) -> None:
    try:
        for prepare in preparations:
            with transaction(connection) as tx:
                prepare(tx)
    except BaseException:
        connection.close()
        raise


def migrate(tx: Transaction) -> None:
    """Bring the schema to the newest version. One of any number of servers does it, the others wait."""
    if _schema_version(tx) == migrations.NEWEST_VERSION:
        return
    tx.fetch_one(scalar, "select pg_advisory_xact_lock(:key) as locked", {"key": MIGRATION_LOCK})
    migrations.apply_migrations(tx)


def _schema_version(tx: Transaction) -> int:
    exists = tx.fetch_one(
        scalar,
        "select count(*) as n from pg_tables where tablename = 'schema_version' "
        "and schemaname = any (current_schemas(false))",
    )
    if not exists:
        return 0
    return tx.fetch_one(scalar, "select coalesce(max(version), 0) as version from schema_version") or 0
