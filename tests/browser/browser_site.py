"""The real server as a process, with the simulator behind it, and a line between it and the browser that can be cut."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, cast

import anyio
import anyio.to_thread

from support.desk import KEY, environment

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator
    from pathlib import Path

    from mcp_server_claude.simulator import Simulator
    from mcp_server_claude.simulator.request_log import Record

PATIENCE_S = 60
COMMAND = [sys.executable, "-m", "mcp_server_claude"]


@dataclass(frozen=True)
class Site:
    """A server that listens, what is behind it, and the tokens of its users by name."""

    url: str
    upstream: Simulator
    tokens: dict[str, str]
    server: subprocess.Popen[str]

    def asked(self) -> list[Record]:
        """The questions that came to the upstream, oldest first."""
        return [each for each in self.upstream.requests if each.path == "/v1/messages"]

    async def heard(self, questions: int) -> None:
        """Wait until so many questions have come to the upstream."""
        with anyio.fail_after(PATIENCE_S):
            while len(self.asked()) < questions:
                await self.upstream.asked(len(self.upstream.requests) + 1)

    async def ended(self) -> Record:
        """Wait until the upstream answers nobody; returns the last question."""
        with anyio.fail_after(PATIENCE_S):
            await self.upstream.idle()
        return self.asked()[-1]


@asynccontextmanager
async def opened(folder: Path, upstream: Simulator, users: dict[str, str]) -> AsyncGenerator[Site]:
    """A server with these users, each with a budget; without any it is for whoever is on this machine.

    One that is opened in the folder of another has its store.
    """
    env = environment(api_key=KEY, data_dir=folder / "data", base_url=upstream.url)
    tokens = {name: await anyio.to_thread.run_sync(_add, name, budget, env) for name, budget in users.items()}
    with _process(folder, env) as server:
        first = await anyio.to_thread.run_sync(cast("IO[str]", server.stdout).readline)
        assert " listens on http://" in first, (folder / "server.stderr").read_text(encoding="utf-8")
        yield Site(first.split(" listens on ")[1].split()[0], upstream, tokens, server)


@contextmanager
def _process(folder: Path, env: dict[str, str]) -> Generator[subprocess.Popen[str]]:
    command = [*COMMAND, "serve", "--http", "--port", "0"]
    with (
        (folder / "server.stderr").open("w", encoding="utf-8") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=env, text=True) as server,
    ):
        try:
            yield server
        finally:
            server.kill()


def _add(name: str, budget: str, env: dict[str, str]) -> str:
    command = [*COMMAND, "user", "add", name, "--budget", budget, "--quiet"]
    return subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout.strip()


@dataclass
class Line:
    """A wire to a server, with its own address."""

    target: str
    url: str = ""
    _open: set[asyncio.StreamWriter] = field(default_factory=set[asyncio.StreamWriter])
    _tasks: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])
    _whole: bool = True

    def cut(self) -> None:
        """Everything that is on the wire is lost, and nobody is reached until it is `mended`."""
        self._whole = False
        for writer in list(self._open):
            writer.transport.abort()

    def mended(self) -> None:
        self._whole = True

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._carry(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def end(self) -> None:
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._whole:
            writer.transport.abort()
            return
        host, port = self.target.removeprefix("http://").split(":")
        back, forth = await asyncio.open_connection(host, int(port))
        self._open |= {writer, forth}
        await asyncio.gather(_pump(reader, forth), _pump(back, writer))
        self._open -= {writer, forth}


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.transport.abort()


@asynccontextmanager
async def line_to(site: Site) -> AsyncGenerator[Line]:
    line = Line(site.url)
    server = await asyncio.start_server(line.accept, "127.0.0.1", 0)
    line.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield line
    finally:
        server.close()
        await line.end()
        await server.wait_closed()
