"""The limit of open files of this process (`ulimit -n`)."""

from __future__ import annotations

import contextlib
import math
import sys

MAX_OPEN_FILES = 65_536
"""The soft limit that the server asks for, if the hard limit allows it."""
MIN_OPEN_FILES = 24
"""File descriptors without which no call can be sent: pipes, the store with its log, the event loop, a connection."""


def raise_open_file_limit() -> int:
    """Raise the soft limit of open files as far as the hard limit allows; returns it. Windows has no such limit."""
    if sys.platform == "win32":
        return MAX_OPEN_FILES
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft, hard = (math.inf if limit == resource.RLIM_INFINITY else limit for limit in (soft, hard))
    target = min(hard, MAX_OPEN_FILES)
    if soft < target:
        with contextlib.suppress(ValueError, OSError):  # a container may forbid it
            resource.setrlimit(resource.RLIMIT_NOFILE, (int(target), resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
            soft = target
    return int(min(soft, MAX_OPEN_FILES))


def low_limit_message(limit: int) -> str:
    """A sentence about a limit with which the server cannot work; empty if it can."""
    if limit >= MIN_OPEN_FILES:
        return ""
    return f"This process may open only {limit} files, and needs at least {MIN_OPEN_FILES}: raise `ulimit -n`."
