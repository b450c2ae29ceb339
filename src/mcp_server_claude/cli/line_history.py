"""The lines that were typed into `chat`, for the arrow keys of later conversations."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

HISTORY_FILE = "chat_history"
"""A file in the data directory. Its lines bear neither a time nor a thread."""
MAX_HISTORY_LINES = 1000


class LineHistory:
    """The lines of earlier conversations; nothing where Python has no readline (Windows)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            import readline
        except ImportError:
            self._readline = None
            return
        self._readline = readline
        with suppress(OSError):
            readline.read_history_file(path)

    def save(self) -> None:
        """Write the latest lines to the file, which only its owner can read."""
        if self._readline is None:
            return
        with suppress(OSError):
            self._path.touch(mode=0o600)
            self._readline.set_history_length(MAX_HISTORY_LINES)
            self._readline.write_history_file(self._path)
