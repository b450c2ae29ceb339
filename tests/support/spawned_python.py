"""A Python process that a test starts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import subprocess


class SpawnPython(Protocol):
    """Starts a Python process that shares nothing with this one but the file system."""

    def __call__(self, program: str, *args: object, umask: int = 0o022) -> subprocess.Popen[str]: ...
