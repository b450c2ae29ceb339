"""Locks that distinguish running processes from dead ones, so that only the work of dead processes is closed by others.

`FileProcessLocks` serves processes that share an SQLite file, `PostgresProcessLocks` those that share a database
server.
"""

from __future__ import annotations

import time
from secrets import token_hex
from typing import TYPE_CHECKING

from mcp_server_claude.store.transaction import scalar

if TYPE_CHECKING:
    from collections.abc import Collection

    from mcp_server_claude.store.transaction import Statement, Transaction

WORKER_ID_PREFIX = "w_"


class ProcessLocks:
    """The lock of this process, and checks of the locks of others. No clock of a process decides who is alive.

    Alone it serves a store that no other process can see.
    """

    release_proves_death = True
    """True if a lock is released only when its process has ended; False if it may also have lost its connection."""

    def __init__(self) -> None:
        self._worker = ""

    @property
    def worker(self) -> str:
        """Id of this process in the store, `w_` and 16 hexadecimal digits. The first access acquires its lock."""
        if not self._worker:
            self._worker = f"{WORKER_ID_PREFIX}{token_hex(8)}"
            self._acquire()
        return self._worker

    def is_running(self, tx: Transaction, worker: str) -> bool:
        """Return True if the process of that id holds its lock."""
        del tx
        return worker == self._worker

    def running_among(self, tx: Transaction, workers: Collection[str]) -> set[str]:
        """Return the ids of those processes that are running, as `is_running` tells them."""
        return {worker for worker in workers if self.is_running(tx, worker)}

    def database_time(self, tx: Transaction) -> float:
        """Return the time in unix seconds by the clock that all processes of the database share."""
        del tx
        return time.time()

    def forget(self, worker: str) -> None:
        """Remove the traces of a process that has ended."""

    def release(self) -> None:
        """Release the lock of this process. A later access to `worker` begins a new id."""
        self._worker = ""

    def _acquire(self) -> None:
        """Acquire the lock of this process."""


def register_process(tx: Transaction, worker: str) -> None:
    """Record that a process has open work. Belongs in the transaction that opens the work."""
    tx.execute_all([registration(worker)])


def registration(worker: str) -> Statement:
    """Return the statement of `register_process`."""
    return "insert into process (id) values (:worker) on conflict do nothing", {"worker": worker}


def unregister_process(tx: Transaction, worker: str) -> None:
    """Remove a process. What it left open counts as orphaned from then on."""
    tx.execute("delete from process where id = :worker", {"worker": worker})


def remove_dead_processes(tx: Transaction, locks: ProcessLocks) -> list[str]:
    """Remove processes that have ended, and return their ids. What they left open counts as orphaned from then on."""
    registered: list[str] = tx.fetch_all(scalar, "select id from process")
    running = locks.running_among(tx, registered)
    dead = [worker for worker in registered if worker not in running]
    for worker in dead:
        unregister_process(tx, worker)
        locks.forget(worker)
    return dead
