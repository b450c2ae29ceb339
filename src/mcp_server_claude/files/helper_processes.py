"""Helper processes: git and the matcher. They inherit nothing of ours and end after a given time."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence


@contextmanager
def helper_process(
    command: Sequence[str], *, timeout_s: float, stdin: int = subprocess.DEVNULL, stdout: int | IO[bytes]
) -> Generator[subprocess.Popen[bytes]]:
    """A process that is killed after `seconds`, and when it is left.

    Raises:
        OSError: it cannot be started.
    """
    process = subprocess.Popen(  # noqa: S603 - git by its full path, our own interpreter; fixed arguments
        command,
        stdin=stdin,
        stdout=stdout,
        stderr=subprocess.DEVNULL,
        env=_helper_environment(),
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    )
    timer = threading.Timer(max(0.0, timeout_s), process.kill)
    timer.daemon = True
    timer.start()
    try:
        yield process
    finally:
        timer.cancel()
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            _close_pipe(pipe)


def _close_pipe(pipe: IO[bytes] | None) -> None:
    try:
        if pipe is not None:
            pipe.close()
    except OSError:  # what was still to be written found nobody
        pass


def _helper_environment() -> dict[str, str]:
    """Where the user's own ignore file is, and what keeps git from asking, locking and fetching. No keys."""
    plain = {
        "LC_ALL": "C",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_ALLOW_PROTOCOL": "none",
    }
    try:
        plain["HOME"] = str(Path.home())
    except RuntimeError:
        plain["HOME"] = os.sep
    if sys.platform == "win32":  # nothing starts there without it
        plain["SYSTEMROOT"] = os.environ.get("SYSTEMROOT", r"C:\Windows")
    return plain
