"""Databases of a store, and connections to them, as records of functions that SQLite and PostgreSQL fill in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcp_server_claude.frozen_dataclass import frozen_dataclass

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mcp_server_claude.store.process_locks import ProcessLocks
    from mcp_server_claude.store.transaction import StoreError, Transaction


@frozen_dataclass(kw_only=True)
class DatabaseConnection:
    """An open connection: one transaction at a time, with a savepoint around each operation in it.

    `errors` are those of the database's client library, which `execute` and the transaction can raise.
    `to_store_error` makes a store error of one of them, which is chained. `is_conflict` is true for one by which a
    transaction was given up in favour of another, so that it can run again. `is_lost` is true once the connection can
    never be used again. `has_begun` is false while nothing of a transaction has reached the database as far as is
    known: it can run again on another connection. `close` never fails, and returns a pooled connection to its pool.
    """

    transaction: Transaction
    begin: str
    """The statement that begins a transaction."""
    execute: Callable[[str], object]
    """Executes a statement that controls the transaction. `begin` may be sent with the first statement after it."""
    commit: Callable[[], object]
    """Commits the transaction; fails if an operation has lost it."""
    has_begun: Callable[[], bool]
    in_transaction: Callable[[], bool]
    is_lost: Callable[[], bool]
    is_conflict: Callable[[Exception], bool]
    to_store_error: Callable[[Exception], StoreError]
    errors: tuple[type[Exception], ...]
    close: Callable[[], None]
    is_pooled: bool = False
    """True if the connection is closed after each transaction, for other threads to use."""
    heartbeat_interval_s: float | None = None
    """Seconds without a statement after which one is sent, so that other processes see that this one runs."""


@frozen_dataclass(kw_only=True)
class DatabaseBackend:
    """A database that a store uses: where it is, how it is opened, and how its processes see each other.

    `connect_writer` opens the connection that writes, on the thread that will use it; `connect_reader` one that only
    reads, each transaction from one snapshot. Both raise `StoreError`. Without `connect_reader`, all operations use the
    connection that writes. `replaced_file` returns a file of the database that was removed or replaced since it was
    opened, so that the next process does not find what is written; it looks at the disk. `close_idle` closes a pool,
    and what was opened for `connect_writer`, which may never have been called. The store calls it when nothing uses the
    database any more.
    """

    location: str
    """The place of the database for people to read, without secrets."""
    locks: ProcessLocks
    connect_writer: Callable[[], DatabaseConnection]
    connect_reader: Callable[[], DatabaseConnection] | None
    replaced_file: Callable[[], Path | None] = lambda: None
    close_idle: Callable[[], None] = lambda: None
    max_readers: int = 1
    """Number of connections on which reads run at the same time, besides the one of `Store.read_slow`."""
    path: Path | None = None
    """The file, if it has one."""
    is_shared: bool = False
    """True if servers on several machines use it."""
    durable: bool = True
    """True if the content outlives the process."""
    memory_reason: str = ""
    """Why the content is kept in memory: one sentence, or empty."""
