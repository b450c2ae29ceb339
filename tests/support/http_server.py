"""The server over HTTP: on a thread of this process, or as a process of its own; and what a reader of events sees."""

from __future__ import annotations

import asyncio
import codecs
import json
import re
import signal
import ssl
import subprocess
import threading
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, cast

import anyio
import anyio.to_thread
import httpx2

from mcp_server_claude.services.lazy_services import Services
from mcp_server_claude.settings import Settings
from mcp_server_claude.web.http_server import listener_url, open_listener, run_http_server
from support.mcp_session import FAKE_KEY, server_environment
from support.server_command import server_command

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
    from pathlib import Path

    from mcp_server_claude.web.http_server import HttpServer

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Saves clients of `http://` servers the reading of all root certificates, 20 ms each time."""


@dataclass(frozen=True)
class RunningHttpServer:
    """A server that listens. `tokens` are those of its users by name; `stop` ends it as a signal would."""

    url: str
    tokens: Mapping[str, str] = field(default_factory=dict[str, str])
    server: HttpServer | None = None
    services: Services | None = None
    loop: asyncio.AbstractEventLoop | None = None

    @asynccontextmanager
    async def client(self, user: str = "", **headers: str) -> AsyncGenerator[httpx2.AsyncClient]:
        """A client with a user's token; it waits for as long as the test does."""
        given = dict(headers)
        if user:
            given["Authorization"] = f"Bearer {self.tokens[user]}"
        async with httpx2.AsyncClient(
            base_url=self.url, headers=given, timeout=None, trust_env=False, verify=NO_TLS
        ) as client:
            yield client

    def stop(self) -> None:
        """Begin to end, as after SIGTERM."""
        assert self.loop is not None
        assert self.server is not None
        self.loop.call_soon_threadsafe(self.server.request_exit)


@asynccontextmanager
async def http_server_thread(
    data_dir: Path, upstream: str, *, users: Sequence[str] = (), **fields: object
) -> AsyncGenerator[RunningHttpServer]:
    """A real server on a thread of its own, with an event loop of its own."""
    values = {
        "api_key": FAKE_KEY,
        "base_url": upstream,
        "data_dir": data_dir,
        "drain_s": 1,
        "models_wait_s": 30,
    } | fields
    settings = Settings.model_validate(values)
    ready: Future[tuple[RunningHttpServer, anyio.Event]] = Future()

    async def main() -> None:
        async with Services.lifespan(settings, http=True) as services:
            tokens = {name: (await (await services.open()).users.add_user(name))[1] for name in users}
            with open_listener("127.0.0.1", 0) as listener:
                async with run_http_server(settings, services, "127.0.0.1", listener) as server:
                    enough = anyio.Event()
                    here = RunningHttpServer(
                        listener_url(listener), tokens, server, services, asyncio.get_running_loop()
                    )
                    ready.set_result((here, enough))
                    await enough.wait()

    def run() -> None:
        try:
            anyio.run(main)
        except BaseException as error:
            if ready.done():
                raise
            ready.set_exception(error)

    thread = threading.Thread(target=run, name="served")
    thread.start()
    try:
        here, enough = await anyio.to_thread.run_sync(ready.result)
        try:
            yield here
        finally:
            assert here.loop is not None
            here.loop.call_soon_threadsafe(enough.set)
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(thread.join)


@dataclass(frozen=True)
class HttpServerProcess(RunningHttpServer):
    """A server process."""

    process: subprocess.Popen[bytes] = field(kw_only=True)

    def kill(self) -> None:
        """End it without a word, as a power cut would."""
        self.process.kill()
        self.process.wait()

    async def terminate(self) -> int:
        """Ask it to end, and wait until it has; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return await anyio.to_thread.run_sync(self.process.wait)


@asynccontextmanager
async def http_server_process(
    data_dir: Path, upstream: str, *, name: str = "http", real: bool = False, **fields: object
) -> AsyncGenerator[HttpServerProcess]:
    """`mcp-server-claude serve --http` as a process, killed if it has not ended by itself."""
    values: dict[str, object] = {"api_key": FAKE_KEY, "base_url": upstream, "data_dir": data_dir, "drain_s": 1} | fields
    with (data_dir.parent / f"{name}.stderr").open("wb") as errors:
        process = subprocess.Popen(  # noqa: ASYNC220 - it takes a millisecond
            server_command("serve", "--http", "--port", "0", real=real),
            stdout=subprocess.PIPE,
            stderr=errors,
            env=server_environment(**values),
        )
    stdout = cast("IO[bytes]", process.stdout)
    try:
        line = await anyio.to_thread.run_sync(stdout.readline)
        found = re.search(rb"listens on (\S+)", line)
        assert found is not None, (data_dir.parent / f"{name}.stderr").read_text()
        yield HttpServerProcess(found[1].decode(), process=process)
    finally:
        process.kill()
        process.wait()
        stdout.close()


@dataclass(frozen=True)
class ServerSentEvent:
    """One server-sent event as a browser dispatches it; `name` is empty for an unnamed one."""

    id: str
    name: str
    data: str

    @property
    def json(self) -> dict[str, Any]:
        return cast("dict[str, Any]", json.loads(self.data))

    @property
    def offset(self) -> int:
        return int(self.id.rpartition(":")[2])


async def read_events(response: httpx2.Response) -> AsyncIterator[ServerSentEvent]:
    """The events of a response (WHATWG HTML, "Interpreting an event stream"), each as soon as it is whole."""
    buffer, last_id = "", ""
    decode = codecs.getincrementaldecoder("utf-8")().decode
    async for chunk in response.aiter_raw():
        buffer += decode(chunk)
        assert "\r" not in buffer, "a line ends in \\n alone"
        while "\n\n" in buffer:
            block, _, buffer = buffer.partition("\n\n")
            name, data = "", list[str]()
            for line in block.split("\n"):
                key, _, value = line.partition(":")
                value = value.removeprefix(" ")
                match key:
                    case "id":
                        last_id = value
                    case "event":
                        name = value
                    case "data":
                        data.append(value)
                    case _:
                        assert not key, f"no field of an event: {line!r}"
            if data:
                yield ServerSentEvent(last_id, name, "\n".join(data))
    assert not buffer, "the stream ends after an event"


def event_text(events: Sequence[ServerSentEvent]) -> str:
    """The answer: the data of the unnamed events, joined."""
    return "".join(each.data for each in events if not each.name)


def events_named(events: Sequence[ServerSentEvent], name: str) -> list[dict[str, Any]]:
    """What the events of a name say."""
    return [each.json for each in events if each.name == name]
