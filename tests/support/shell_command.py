"""A command of the shell with a data directory and an upstream of its own."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from support.mcp_session import FAKE_KEY, server_environment
from support.server_command import server_command

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from mcp_server_claude.simulator import Simulator


@dataclass(frozen=True)
class ShellCommand:
    """Runs a command in `directory`; calling it returns the finished process, with lines that end in LF."""

    api: Simulator
    data_dir: Path
    directory: Path
    words: tuple[str, ...]

    def environment(self, **fields: object) -> dict[str, str]:
        common = {"api_key": FAKE_KEY, "base_url": self.api.url, "data_dir": self.data_dir}
        return server_environment(**(common | fields))

    async def __call__(
        self, *arguments: str, stdin: bytes = b"", **fields: object
    ) -> subprocess.CompletedProcess[bytes]:
        done = await anyio.run_process(
            server_command(*self.words, *arguments),
            input=stdin,
            check=False,
            cwd=self.directory,
            env=self.environment(**fields),
        )
        line_end = os.linesep.encode()  # Python ends the lines of text with it
        done.stdout, done.stderr = (each.replace(line_end, b"\n") for each in (done.stdout, done.stderr))
        return done


def shell_command(api: Simulator, tmp_path: Path, *words: str) -> ShellCommand:
    directory = tmp_path / "here"
    directory.mkdir(exist_ok=True)
    return ShellCommand(api, tmp_path / "data", directory, words)
