"""The command that starts the server: as a fork of a warm interpreter, or as a new one (see `fork_server`)."""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

REAL_COMMAND = (sys.executable, "-m", "mcp_server_claude")
_SCRIPT = Path(__file__).with_name("fork_server.py")


def server_command(*arguments: str, real: bool = False) -> list[str]:
    """The command line for `mcp-server-claude` with these arguments; `real` for a new interpreter in any case."""
    if real or os.environ.get("TEST_FORK", "1") == "0" or not hasattr(os, "fork"):
        return [*REAL_COMMAND, *arguments]
    return [sys.executable, "-I", "-S", str(_SCRIPT), _start_fork_server(), "launch", *arguments]


@cache
def _start_fork_server() -> str:
    """Start this process's fork server, which ends with it; return its socket."""
    folder = tempfile.TemporaryDirectory(prefix="fork-server-")
    path = f"{folder.name}/socket"
    process = subprocess.Popen(
        [sys.executable, str(_SCRIPT), path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "HOME": folder.name},
    )

    def end() -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        process.stdout.close()
        process.wait()
        folder.cleanup()

    atexit.register(end)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return path
