"""PostgreSQL as the database of a store, for servers that share their state. Needs the extra `postgres`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

from mcp_server_claude.store import migrations
from mcp_server_claude.store.database_connection import DatabaseBackend, DatabaseConnection
from mcp_server_claude.store.postgres_connection import (
    connect,
    describe_url,
    to_store_error,
    transaction,
    wrap_connection,
)
from mcp_server_claude.store.postgres_process_locks import HEARTBEAT_INTERVAL_S, PostgresProcessLocks
from mcp_server_claude.store.transaction import scalar

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcp_server_claude.store.transaction import Transaction

BEGIN_WRITE, BEGIN_READ = "begin", "begin isolation level repeatable read read only"
MIGRATION_LOCK = 0x6D63_705F_636C_6175
"""Key of the advisory lock under which one server migrates and the others wait."""


def postgres_backend(url: str) -> DatabaseBackend:
    """Return a database on a server. Connects, and migrates, when the first operation needs it.

    `url` is `postgresql://user:password@host:port/database?sslmode=…`, or any other form that libpq takes.
    """
    locks = PostgresProcessLocks()
    return DatabaseBackend(
        location=describe_url(url),
        locks=locks,
        connect_writer=lambda: _connect(url, BEGIN_WRITE, HEARTBEAT_INTERVAL_S, migrate, locks.hold),
        connect_reader=lambda: _connect(url, BEGIN_READ, None, migrate),
        is_current=lambda: True,
        is_shared=True,
    )


def _connect(
    url: str, begin: str, heartbeat_interval_s: float | None, *preparations: Callable[[Transaction], None]
) -> DatabaseConnection:
    """Connect, and prepare the connection.

    Raises:
        StoreError: The server failed, or its schema is newer than this code.
    """
    connection = connect(url)
    try:
        for prepare in preparations:
            with transaction(connection) as tx:
                prepare(tx)
    except psycopg.Error as error:
        connection.close()
        raise to_store_error(error) from error
    except BaseException:
        connection.close()
        raise
    return wrap_connection(connection, begin, heartbeat_interval_s)


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
