"""Limits for programs that tests run and that can hang, e.g. where a package registry does not answer."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Generator

MAX_COMMAND_S = 600.0
"""Seconds after which a command that hangs is killed. Nothing that works takes so long on any machine."""
IMPATIENT_PIP = {"PIP_DEFAULT_TIMEOUT": "30", "PIP_RETRIES": "10"}
"""Variables of pip: a request that has no answer is repeated soon, and often."""


@contextmanager
def killed_after(process: subprocess.Popen[str], seconds: float = MAX_COMMAND_S) -> Generator[None]:
    """Kill a process and what it started, if the block takes longer. It must lead a session of its own."""
    timer = threading.Timer(seconds, _kill_session, [process.pid])
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _kill_session(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
