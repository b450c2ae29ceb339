"""The variables of a process that say who its user is and where its system lies, on each system."""

from __future__ import annotations

import os
import sys
from pathlib import Path

SYSTEM_VARIABLES = ("PATH", "SYSTEMROOT", "COMSPEC", "PATHEXT", "TEMP", "TMP") if sys.platform == "win32" else ("PATH",)
"""What a process needs to find programs; without SYSTEMROOT a process of Windows opens no socket."""


def user_variables(home: Path) -> dict[str, str]:
    """The variables of a user with this home directory.

    Windows names the data directory by a system call, which platformdirs asks unless `WIN_PD_OVERRIDE_…` is set.
    """
    found = {"HOME": str(home)}
    if sys.platform == "win32":
        roaming, local = str(home / "AppData" / "Roaming"), str(home / "AppData" / "Local")
        found |= {"USERPROFILE": str(home), "APPDATA": roaming, "LOCALAPPDATA": local}
        found |= {"WIN_PD_OVERRIDE_APPDATA": roaming, "WIN_PD_OVERRIDE_LOCAL_APPDATA": local}
    return found


def inherited_environment() -> dict[str, str]:
    """This process's variables of the user and the system, and nothing else of it."""
    names = (*SYSTEM_VARIABLES, *user_variables(Path.home()))
    return {name: os.environ[name] for name in names if name in os.environ}
