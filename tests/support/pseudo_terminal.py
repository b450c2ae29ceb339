"""A command on a pseudo-terminal: keys go in, and the screen is what a person sees. POSIX only."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import termios
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

import anyio
import pyte

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
    from pathlib import Path

LONGEST_WAIT_S = 60.0


class Screen(Protocol):
    """What this needs of a screen of pyte, which has no types."""

    @property
    def display(self) -> list[str]: ...


class PseudoTerminal:
    """A running command with its keyboard and screen."""

    def __init__(self, process: subprocess.Popen[bytes], fd: int, columns: int, rows: int) -> None:
        self.process = process
        self._fd = fd
        self._screen: Screen = pyte.HistoryScreen(columns, rows)  # pyright: ignore[reportUnknownMemberType]
        self._stream = pyte.ByteStream(self._screen)  # pyright: ignore[reportArgumentType, reportUnknownMemberType]

    @property
    def lines(self) -> list[str]:
        """The lines of the screen, without the empty ones at its end."""
        return "\n".join(line.rstrip() for line in self._screen.display).rstrip().split("\n")

    def send(self, keys: str) -> None:
        """Type keys; `\\r` is Enter, `\\x03` Ctrl-C."""
        os.write(self._fd, keys.encode())

    async def wait_for(self, is_shown: Callable[[list[str]], bool]) -> list[str]:
        """Read until the screen is so, and return its lines.

        Raises:
            AssertionError: The command ended, or the time is up, before it was so.
        """
        with anyio.move_on_after(LONGEST_WAIT_S):
            while not is_shown(self.lines):
                if not await self._read():
                    break
        assert is_shown(self.lines), self.lines
        return self.lines

    async def wait(self) -> int:
        """Read to the end, and return the exit code."""
        with anyio.fail_after(LONGEST_WAIT_S):
            while await self._read():
                pass
            return await anyio.to_thread.run_sync(self.process.wait)

    async def _read(self) -> bool:
        await anyio.wait_readable(self._fd)
        try:
            data = os.read(self._fd, 65536)
        except OSError:  # Linux reports the end of a pseudo-terminal as EIO
            return False
        self._stream.feed(data)  # pyright: ignore[reportUnknownMemberType]
        return bool(data)


@asynccontextmanager
async def pseudo_terminal(
    command: Sequence[str], env: Mapping[str, str], cwd: Path, *, columns: int = 80, rows: int = 40
) -> AsyncGenerator[PseudoTerminal]:
    """Run a command on a terminal of that size."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    with subprocess.Popen(  # noqa: ASYNC220 - a child with a controlling terminal needs `preexec_fn`
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={"TERM": "xterm-256color", **env},
        cwd=cwd,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - no thread of the tests holds a lock
    ) as process:
        os.close(theirs)
        try:
            yield PseudoTerminal(process, ours, columns, rows)
        finally:
            process.kill()
            os.close(ours)
