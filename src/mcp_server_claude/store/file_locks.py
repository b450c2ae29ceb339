"""Process locks on files, for processes that share an SQLite file.

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
from typing import TYPE_CHECKING

from mcp_server_claude.store.owner_rights import owner_rights
from mcp_server_claude.store.process_locks import ProcessLocks

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

_log = logging.getLogger(__name__)


class FileProcessLocks(ProcessLocks):
    """The lock of this process on a file of its own, and checks of the files of others."""

    def __init__(self, data_directory: Path) -> None:
        super().__init__()
        self._directory = data_directory / LOCK_DIRECTORY
        self._descriptor: int | None = None

    def is_running(self, tx: Transaction, worker: str) -> bool:
        if super().is_running(tx, worker):
            return True
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
        with suppress(OSError):
            (self._directory / worker).unlink()

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        if self._worker:
            self.forget(self._worker)
        super().release()

    def _acquire(self) -> None:
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
