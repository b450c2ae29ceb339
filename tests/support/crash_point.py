"""Runs the server and kills it at a function: `python crash_point.py MODULE FUNCTION before|after [COMMAND ...]`.

The function is one that is called through its module. `after` means that it has returned, and that nobody has its
result yet.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

from mcp_server_claude.__main__ import main

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_KILL = signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL
"""On Windows `os.kill` ends a process at once, as `kill -9` does elsewhere, with this number as its exit code."""
KILLED = int(_KILL) if sys.platform == "win32" else -int(_KILL)
"""The exit code of a process that was killed here."""


def kill_at(module_name: str, function_name: str, when: str) -> None:
    """Replace a coroutine function by one that kills this process before or after it."""
    module = importlib.import_module(module_name)
    original: Callable[..., Awaitable[object]] = getattr(module, function_name)

    async def crash(*arguments: Any, **options: Any) -> None:
        if when == "after":
            await original(*arguments, **options)
        os.kill(os.getpid(), _KILL)

    setattr(module, function_name, crash)


if __name__ == "__main__":
    kill_at(*sys.argv[1:4])
    sys.argv[1:] = sys.argv[4:]
    main()
