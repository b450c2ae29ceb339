"""The real server as a process, with the simulator behind it, and a line between it and the browser that can be cut."""

from __future__ import annotations

import asyncio
import subprocess
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, cast

import anyio
import anyio.to_thread

from support.mcp_session import FAKE_KEY, server_environment
from support.server_command import server_command

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator
    from pathlib import Path

    from mcp_server_claude.simulator import Simulator
    from mcp_server_claude.simulator.request_log import LoggedRequest

UPSTREAM_TIMEOUT_S = 60


@dataclass(frozen=True)
class PageServer:
    """A server that listens, what is behind it, and the tokens of its users by name."""

    url: str
    upstream: Simulator
    tokens: dict[str, str]
    server: subprocess.Popen[str]

    def upstream_prompts(self) -> list[LoggedRequest]:
        """The questions that came to the upstream, oldest first."""
        return [each for each in self.upstream.requests if each.path == "/v1/messages"]

    async def wait_for_requests(self, questions: int) -> None:
        """Wait until so many questions have reached the upstream."""
        with anyio.fail_after(UPSTREAM_TIMEOUT_S):
            while len(self.upstream_prompts()) < questions:
                await self.upstream.wait_for_requests(len(self.upstream.requests) + 1)

    async def wait_until_idle(self) -> LoggedRequest:
        """Wait until the upstream has no open request; returns the last question."""
        with anyio.fail_after(UPSTREAM_TIMEOUT_S):
            await self.upstream.wait_until_idle()
        return self.upstream_prompts()[-1]


@asynccontextmanager
async def page_server(
    folder: Path, upstream: Simulator, users: dict[str, str], *, real: bool = False, **settings: object
) -> AsyncGenerator[PageServer]:
    """A server with these users, each with a budget; without any it is for every user of this machine.

    One that is opened in the folder of another has its store.
    """
    values = {"api_key": FAKE_KEY, "data_dir": folder / "data", "base_url": upstream.url} | settings
    env = server_environment(**values)
    tokens = {name: await anyio.to_thread.run_sync(_add_user, name, budget, env) for name, budget in users.items()}
    with _server_process(folder, env, real=real) as server:
        first = await anyio.to_thread.run_sync(cast("IO[str]", server.stdout).readline)
        assert " listens on http://" in first, (folder / "server.stderr").read_text(encoding="utf-8")
        yield PageServer(first.split(" listens on ")[1].split()[0], upstream, tokens, server)


@contextmanager
def _server_process(folder: Path, env: dict[str, str], *, real: bool) -> Generator[subprocess.Popen[str]]:
    command = server_command("serve", "--http", "--port", "0", real=real)
    with (
        (folder / "server.stderr").open("w", encoding="utf-8") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=env, text=True) as server,
    ):
        try:
            yield server
        finally:
            server.kill()


def _add_user(name: str, budget: str, env: dict[str, str]) -> str:
    command = server_command("user", "add", name, "--budget", budget, "--quiet")
    return subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout.strip()


@dataclass
class CuttableProxy:
    """A connection to a server, with its own address."""

    target: str
    url: str = ""
    _open: set[asyncio.StreamWriter] = field(default_factory=set[asyncio.StreamWriter])
    _tasks: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])
    _is_connected: bool = True

    def cut(self) -> None:
        """Drop every connection, and accept none until `restore`."""
        self._is_connected = False
        for writer in list(self._open):
            writer.transport.abort()

    def restore(self) -> None:
        self._is_connected = True

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._forward(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._is_connected:
            writer.transport.abort()
            return
        host, port = self.target.removeprefix("http://").split(":")
        try:
            back, forth = await asyncio.open_connection(host, int(port))
        except OSError:  # the server has ended
            writer.transport.abort()
            return
        self._open |= {writer, forth}
        await asyncio.gather(_copy_bytes(reader, forth), _copy_bytes(back, writer))
        self._open -= {writer, forth}


async def _copy_bytes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.transport.abort()


@asynccontextmanager
async def cuttable_proxy(site: PageServer) -> AsyncGenerator[CuttableProxy]:
    line = CuttableProxy(site.url)
    server = await asyncio.start_server(line.accept, "127.0.0.1", 0)
    line.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield line
    finally:
        server.close()
        await line.close()
        await server.wait_closed()
