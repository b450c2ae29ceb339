"""Connections above the limit wait; the server answers on, and logs a line instead of a traceback for each."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import httpx2
import pytest

from mcp_server_claude.simulator import directive
from mcp_server_claude.web import client_timeouts, http_server
from mcp_server_claude.web.connection_limit import MIN_CONNECTIONS, ConnectionLimiter, max_connections
from support.http_server import http_server_thread
from support.mcp_session import FAKE_KEY, server_environment

if TYPE_CHECKING:
    from pathlib import Path

    from mcp_server_claude.simulator import Simulator

IDLE_CONNECTIONS = 500
OPEN_FILES = 400
PROGRAM = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[1])))
sys.argv[1:] = ["serve", "--http", "--port", "0"]
from mcp_server_claude.__main__ import main
main()
"""


@pytest.mark.parametrize(("open_files", "connections"), [(65_536, 65_280), (1024, 768), (400, 200), (20, 16)])
def test_the_limit_leaves_file_descriptors_for_everything_else(open_files: int, connections: int) -> None:
    assert max_connections(open_files) == connections
    assert connections >= MIN_CONNECTIONS


class EchoOnce(asyncio.Protocol):
    """Sends back what it receives, and closes."""

    def __init__(self, limiter: ConnectionLimiter) -> None:
        self._limiter = limiter

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        assert isinstance(self._transport, asyncio.Transport)
        self._transport.write(data)
        self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._limiter.release()


@pytest.mark.anyio
async def test_a_connection_above_the_limit_is_served_when_another_one_closes() -> None:
    limiter = ConnectionLimiter(2)
    with socket.create_server(("127.0.0.1", 0)) as listener, anyio.fail_after(30):
        accepting = asyncio.create_task(limiter.accept_connections(listener, lambda: EchoOnce(limiter)))
        host, port = listener.getsockname()
        streams = [await asyncio.open_connection(host, port) for _ in range(5)]
        for _, writer in streams:
            writer.write(b"hello")
        assert [await reader.read() for reader, _ in streams] == [b"hello"] * 5
        accepting.cancel()
        for _, writer in streams:
            writer.close()


def four_connections(_open_files: int) -> int:
    return 4


@pytest.mark.anyio
async def test_clients_without_a_request_give_way_to_others_and_answers_go_on(
    upstream: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "max_connections", four_connections)
    monkeypatch.setattr(client_timeouts, "REQUEST_HEAD_TIMEOUT_S", 3600.0)
    async with http_server_thread(tmp_path / "data", upstream.url) as server, server.client() as client:
        host, port = server.url.removeprefix("http://").split(":")
        prompt = {"message": directive(tokens=60, pace=20, think=0)}
        with anyio.fail_after(120):
            async with client.stream("POST", "/chat", json=prompt) as response:
                slow = [await asyncio.open_connection(host, port) for _ in range(3)]
                for _, writer in slow[1:]:
                    writer.write(b"GET / HTTP/1.1\r\nX: a")
                for _ in range(3):
                    async with server.client() as newcomer:
                        assert (await newcomer.get("/healthz")).status_code == 200
                assert await slow[0][0].read() == b"", "it was open for the longest time"
                events = (await response.aread()).decode()
        for _, writer in slow:
            writer.close()
    assert '"complete": true' in events


@pytest.mark.slow
@pytest.mark.anyio
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit of open files")
async def test_more_idle_connections_than_file_descriptors_block_nothing(upstream: Simulator, tmp_path: Path) -> None:
    env = server_environment(api_key=FAKE_KEY, base_url=upstream.url, data_dir=tmp_path / "data", log_level="warning")
    with (tmp_path / "stderr").open("wb") as errors:
        process = subprocess.Popen(  # noqa: ASYNC220 - it takes a millisecond
            [sys.executable, "-c", PROGRAM, str(OPEN_FILES)], stdout=subprocess.PIPE, stderr=errors, env=env
        )
    assert process.stdout is not None
    idle: list[socket.socket] = []
    try:
        with anyio.fail_after(90):
            line = (await anyio.to_thread.run_sync(process.stdout.readline)).decode()
            url = line.split(" listens on ")[1].split()[0]
            host, port = url.removeprefix("http://").split(":")
            async with httpx2.AsyncClient(base_url=url, timeout=60, trust_env=False) as client:
                assert (await client.get("/healthz")).status_code == 200
                idle += [socket.create_connection((host, int(port))) for _ in range(IDLE_CONNECTIONS)]
                async with client.stream("POST", "/chat", json={"message": "What is tea?"}) as response:
                    text = "".join([chunk async for chunk in response.aiter_text()])
                assert "event: done" in text
                while not (tmp_path / "stderr").read_text():  # noqa: ASYNC110 - another process writes it
                    await anyio.sleep(0.01)
                for connection in idle:
                    connection.close()
                async with httpx2.AsyncClient(base_url=url, timeout=60, trust_env=False) as newcomer:
                    assert (await newcomer.get("/healthz")).status_code == 200
        assert process.poll() is None
    finally:
        for connection in idle:
            connection.close()
        process.kill()
        process.wait()
        process.stdout.close()
    logged = (tmp_path / "stderr").read_text().splitlines()
    assert len(logged) == 1
    assert "200 connections are open; further ones wait." in logged[0]
