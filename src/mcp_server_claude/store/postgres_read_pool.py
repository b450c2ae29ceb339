"""The connections that read from a PostgreSQL server: psycopg's pool, which opens them on demand and closes idle ones.

The connection that writes is not one of them. It holds the advisory lock by which other servers know that this one runs
(`postgres_process_locks`), sends heartbeats, and its writes have an order. A pool may replace a connection at any time:
after `max_lifetime` it did, and the lock was gone.

While the server is away, the pool is not asked. Its `getconn` then waits for the whole timeout where a connection is
refused at once, raises `PoolTimeout` without the reason, and keeps about 4 kB for each call until a connection succeeds
(psycopg_pool 3.3.3). So after a failure one connection is made beside the pool, whose error is the reason.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg_pool import ConnectionPool, PoolTimeout

from mcp_server_claude.store.postgres_connection import CONNECT_PARAMETERS, CONNECT_TIMEOUT_S, TimedConnection
from mcp_server_claude.store.postgres_transaction import wrap_connection
from mcp_server_claude.store.transaction import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcp_server_claude.store.database_connection import DatabaseConnection

BEGIN_READ = "begin isolation level repeatable read read only"
MAX_IDLE_S = 60.0
"""Seconds after which the pool closes one of the connections that were not needed meanwhile."""
FIRST_WAIT_S = 1.0
"""Seconds that a new connection may take before the reason is sought."""


class PostgresReadPool:
    """A pool of connections that only read, each transaction from one snapshot."""

    def __init__(
        self, url: str, size: int, connect: Callable[[], TimedConnection], prepare: Callable[[TimedConnection], None]
    ) -> None:
        """`connect` makes a connection beside the pool and prepares it, `prepare` prepares one of the pool's.

        Nothing is opened before the first connection is needed.
        """
        self._connect = connect
        self._is_away = True  # until the first connection shows the contrary
        self._pool = ConnectionPool(
            url,
            connection_class=TimedConnection,
            kwargs=dict(CONNECT_PARAMETERS),
            configure=prepare,
            min_size=0,
            max_size=size,
            max_idle=MAX_IDLE_S,
            reconnect_timeout=0,  # the next operation tries again
            num_workers=1,
            open=False,
        )

    def take_connection(self) -> DatabaseConnection:
        """Take a connection from the pool. Its `close` returns it.

        Raises:
            StoreError: The server cannot be reached, or refuses the connection.
        """
        if self._is_away:
            self._check_server()
        self._pool.open()
        try:
            connection = self._pool.getconn(FIRST_WAIT_S)
        except PoolTimeout:
            if not self._pool.get_stats()["pool_size"]:  # no other thread will return one
                self._check_server()
            connection = self._wait_longer()
        return wrap_connection(connection, BEGIN_READ, give_back=lambda: self._give_back(connection))

    def close(self) -> None:
        """Close the idle connections now, and the others when they are returned."""
        self._pool.close(timeout=0)

    def _check_server(self) -> None:
        """Connect beside the pool.

        Raises:
            StoreError: Why that is not possible.
        """
        self._is_away = True
        self._connect().close()
        self._is_away = False

    def _wait_longer(self) -> TimedConnection:
        try:
            return self._pool.getconn(CONNECT_TIMEOUT_S)
        except PoolTimeout as error:
            self._check_server()
            message = "The ledger's database could not be used: all connections of this server are in use."
            raise StoreError(message, kind="unreachable") from error

    def _give_back(self, connection: TimedConnection) -> None:
        if connection.closed:  # then the idle ones are probably lost too, each a failure to be found
            self._is_away = True
            self._pool.drain()
        self._pool.putconn(connection)
