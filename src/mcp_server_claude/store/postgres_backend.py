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
from mcp_server_claude.store.process_locks import WORKER_ID_PREFIX, ProcessLocks
from mcp_server_claude.store.transaction import scalar

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcp_server_claude.store.transaction import Transaction

BEGIN_WRITE, BEGIN_READ = "begin", "begin isolation level repeatable read read only"
MIGRATION_LOCK = 0x6D63_705F_636C_6175
"""Key of the advisory lock under which one server migrates and the others wait."""

_IS_RUNNING = """
select count(*) as sessions from pg_locks
where locktype = 'advisory' and granted and objsubid = 1
and database = (select oid from pg_database where datname = current_database())
and classid = cast(:high as oid) and objid = cast(:low as oid)
"""


class PostgresProcessLocks(ProcessLocks):
    """Advisory locks of sessions.

    The connection that writes holds a lock with the id of its process. The server releases it when the connection ends:
    at once when the process is killed, and within `DEAD_PEER_TIMEOUT_S` when its machine or network is gone. It keeps
    it while the process is stopped. The ids are random, and locks are shared, so a reconnection never waits.
    """

    def hold(self, tx: Transaction) -> None:
        """Hold the lock of this process in the session of a transaction, until the session ends."""
        high, low = _lock_key(self.worker)
        tx.fetch_one(scalar, "select pg_advisory_lock_shared(:key) as locked", {"key": _signed(high << 32 | low)})

    def is_running(self, tx: Transaction, worker: str) -> bool:
        if not worker.startswith(WORKER_ID_PREFIX):
            return False
        high, low = _lock_key(worker)
        return bool(tx.fetch_one(scalar, _IS_RUNNING, {"high": high, "low": low}))


def postgres_backend(url: str) -> DatabaseBackend:
    """Return a database on a server. Connects, and migrates, when the first operation needs it.

    `url` is `postgresql://user:password@host:port/database?sslmode=…`, or any other form that libpq takes.
    """
    locks = PostgresProcessLocks()
    return DatabaseBackend(
        location=describe_url(url),
        locks=locks,
        connect_writer=lambda: _connect(url, BEGIN_WRITE, migrate, locks.hold),
        connect_reader=lambda: _connect(url, BEGIN_READ, migrate),
        is_current=lambda: True,
    )


def _connect(url: str, begin: str, *preparations: Callable[[Transaction], None]) -> DatabaseConnection:
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
    return wrap_connection(connection, begin)


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


def _lock_key(worker: str) -> tuple[int, int]:
    """Return the two halves of a lock's key, 32 bits each, as `pg_locks` shows them."""
    key = int(worker.removeprefix(WORKER_ID_PREFIX), 16)
    return key >> 32, key & 0xFFFF_FFFF


def _signed(key: int) -> int:
    return key - (1 << 64) if key >= 1 << 63 else key
