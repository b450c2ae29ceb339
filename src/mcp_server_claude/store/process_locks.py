"""Locks that tell running processes from dead ones, so that only the work of dead processes is closed by others.

Each process holds a lock on a file of its own. The kernel releases it when the process ends, however that happens, and
keeps it while the process is stopped or the machine sleeps. No clock is compared, so clock steps, suspended laptops and
frozen containers cannot make a living process look dead. Process ids would not do: they are used again, and mean
nothing in another container. SQLite's write-ahead log requires that all processes run on one machine
(https://sqlite.org/wal.html), which is where these locks hold too.
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from secrets import token_hex
from typing import TYPE_CHECKING

from mcp_server_claude.store.owner_rights import owner_rights
from mcp_server_claude.store.transaction import scalar

if TYPE_CHECKING:
    from pathlib import Path

    from mcp_server_claude.store.transaction import Transaction

if sys.platform == "win32":
    import msvcrt

    def _try_lock(descriptor: int, *, shared: bool) -> None:
        del shared
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _try_lock(descriptor: int, *, shared: bool) -> None:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)


LOCK_DIRECTORY = "locks"
WORKER_ID_PREFIX = "w_"

_log = logging.getLogger(__name__)


class ProcessLocks:
    """The lock of this process, and checks of the locks of others."""

    def __init__(self, data_directory: Path | None) -> None:
        """Without a directory the store is in memory, and no other process can see it."""
        self._directory = None if data_directory is None else data_directory / LOCK_DIRECTORY
        self._worker = ""
        self._descriptor: int | None = None

    @property
    def worker(self) -> str:
        """Id of this process in the store. The first access creates and locks its file."""
        if not self._worker:
            self._acquire()
        return self._worker

    def is_running(self, worker: str) -> bool:
        """Return True if the process of that id holds its lock."""
        if worker == self._worker:
            return True
        if self._directory is None:
            return False
        try:
            descriptor = os.open(self._directory / worker, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        except FileNotFoundError:
            return False
        except OSError:  # it exists and cannot be checked
            return True
        try:
            _try_lock(descriptor, shared=True)
        except OSError:
            return True
        finally:
            os.close(descriptor)
        return False

    def forget(self, worker: str) -> None:
        """Remove the lock file of a process that has ended."""
        if self._directory is not None:
            with suppress(OSError):
                (self._directory / worker).unlink()

    def release(self) -> None:
        """Release the lock of this process and remove its file. A later access to `worker` begins a new id."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        if self._worker:
            self.forget(self._worker)
            self._worker = ""

    def _acquire(self) -> None:
        self._worker = f"{WORKER_ID_PREFIX}{token_hex(8)}"
        if self._directory is None:
            return
        try:
            with owner_rights(self._directory):
                self._descriptor = _create_private_file(self._directory / self._worker)
            _try_lock(self._descriptor, shared=False)
        except OSError as error:
            # Others take this process for dead, but what it writes at the end of a request replaces their guess.
            _log.warning("Other servers cannot see that this one is running: %s.", error.strerror or error)


def _create_private_file(path: Path) -> int:
    with suppress(FileExistsError):
        path.parent.mkdir()
        path.parent.chmod(0o700)  # whatever the umask
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    path.chmod(0o600)
    return descriptor


def register_process(tx: Transaction, worker: str) -> None:
    """Record that a process has open work. Belongs in the transaction that opens the work."""
    tx.execute("insert into process (id) values (:worker) on conflict do nothing", {"worker": worker})


def unregister_process(tx: Transaction, worker: str) -> None:
    """Remove a process. What it left open counts as orphaned from then on."""
    tx.execute("delete from process where id = :worker", {"worker": worker})


def remove_dead_processes(tx: Transaction, locks: ProcessLocks) -> list[str]:
    """Remove processes that have ended, and return their ids. What they left open counts as orphaned from then on."""
    dead = [worker for worker in tx.fetch_all(scalar, "select id from process") if not locks.is_running(worker)]
    for worker in dead:
        unregister_process(tx, worker)
        locks.forget(worker)
    return dead
