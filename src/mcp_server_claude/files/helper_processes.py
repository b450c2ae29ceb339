"""Helper processes, git and the grep worker: they inherit no environment, and end at a time limit or a cancellation."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

DEFAULT_RUN_LIMIT_S = 30.0


class RunLimit:
    """The time limit of work on files that runs on threads; `cancel` ends it early and kills its helper processes.

    All methods may be called from any thread.
    """

    def __init__(self, seconds: float = DEFAULT_RUN_LIMIT_S) -> None:
        self.seconds = seconds
        self._deadline = time.monotonic() + seconds
        self._lock = threading.Lock()
        self._cancelled = False
        self._processes: set[subprocess.Popen[bytes]] = set()

    def remaining_s(self, at_most: float = float("inf")) -> float:
        """The seconds that are left, 0 after the end or a cancellation."""
        return 0.0 if self._cancelled else min(at_most, max(0.0, self._deadline - time.monotonic()))

    def cancel(self) -> None:
        """End the work now. Processes that start later are killed at once."""
        with self._lock:
            self._cancelled = True
            processes = list(self._processes)
        for process in processes:
            process.kill()

    @contextmanager
    def watching(self, process: subprocess.Popen[bytes], timeout_s: float) -> Generator[None]:
        """Kill a process at its own time limit, at the end of this one, and when this one is cancelled."""
        with self._lock:
            self._processes.add(process)
        timer = threading.Timer(self.remaining_s(timeout_s), process.kill)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            with self._lock:
                self._processes.discard(process)


@contextmanager
def helper_process(
    command: Sequence[str],
    *,
    timeout_s: float,
    limit: RunLimit,
    stdin: int = subprocess.DEVNULL,
    stdout: int | IO[bytes],
) -> Generator[subprocess.Popen[bytes]]:
    """A process that is killed after `timeout_s`, when `limit` ends, and when the block is left.

    Raises:
        OSError: It cannot be started.
    """
    process = subprocess.Popen(  # noqa: S603 - git by its full path, our own interpreter; fixed arguments
        command,
        stdin=stdin,
        stdout=stdout,
        stderr=subprocess.DEVNULL,
        env=_helper_environment(),
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    )
    try:
        with limit.watching(process, timeout_s):
            yield process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            _close_pipe(pipe)


def _close_pipe(pipe: IO[bytes] | None) -> None:
    try:
        if pipe is not None:
            pipe.close()
    except OSError:  # unwritten bytes for a process that is gone
        pass


def _helper_environment() -> dict[str, str]:
    """The home directory, for the user's own ignore file, and switches that keep git from prompting, locking and
    fetching. No keys.
    """
    environment = {
        "LC_ALL": "C",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_ALLOW_PROTOCOL": "none",
    }
    try:
        environment["HOME"] = str(Path.home())
    except RuntimeError:
        environment["HOME"] = os.sep
    if sys.platform == "win32":  # nothing starts there without it
        environment["SYSTEMROOT"] = os.environ.get("SYSTEMROOT", r"C:\Windows")
    return environment
