"""Server processes whose wall clock is the real one plus a number of seconds in a file, which a test can change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

SERVER = """
import pathlib, time
real_time, offset = time.time, pathlib.Path({path!r})
def stepped_time():
    return real_time() + float(offset.read_text() or 0)
time.time = stepped_time
from mcp_server_claude.__main__ import main
main()
"""


@dataclass(frozen=True)
class SteppedClock:
    """The clock of one server process."""

    path: Path

    def command(self) -> list[str]:
        """The arguments of Python that serve MCP over stdio by this clock."""
        self.step_to(0)
        return ["-c", SERVER.format(path=str(self.path))]

    def step_to(self, seconds: float) -> None:
        """Set the clock so many seconds before or after the real time."""
        temporary = self.path.with_suffix(".new")
        temporary.write_text(str(seconds))
        temporary.replace(self.path)
