"""The command line of this installation: as a client must start it, and as its user can paste it into a shell."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMAND_NAME = "mcp-server-claude"
COMPLETION_VARIABLE = "_MCP_SERVER_CLAUDE_COMPLETE"
"""The variable by which a completion script asks for completions; typer derives it from the name."""


def server_command() -> tuple[str, ...]:
    """The command line that starts this installation, its first word an absolute path.

    A client has another PATH, working directory and environment than the shell in which this was installed.
    """
    name = f"{COMMAND_NAME}.exe" if sys.platform == "win32" else COMMAND_NAME
    folders = (Path(sys.executable).parent, Path(sysconfig.get_path("scripts")))
    script = next((folder / name for folder in folders if (folder / name).is_file()), None)
    return (str(script.absolute()),) if script else (sys.executable, "-m", "mcp_server_claude")


def pasteable_command(*arguments: str) -> str:
    """A command of this installation as a line that works when it is pasted into the shell that runs this.

    The bare name where PATH leads to this installation, else the shortest path: in a fresh clone `.venv/bin` is not on
    the PATH.
    """
    command = server_command()
    found = shutil.which(COMMAND_NAME)
    if len(command) == 1 and found and os.path.realpath(found) == os.path.realpath(command[0]):
        return shell_line((COMMAND_NAME, *arguments))
    first = Path(command[0])
    try:
        relative = first.relative_to(Path.cwd())
    except (ValueError, OSError):  # elsewhere, or the working directory was deleted
        relative = first
    return shell_line((str(relative), *command[1:], *arguments))


def shell_line(words: Sequence[str], *, windows: bool = sys.platform == "win32") -> str:
    """The words as one line for this system's shell, quoted where they need it."""
    return subprocess.list2cmdline(words) if windows else shlex.join(words)
