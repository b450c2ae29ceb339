"""A bare client: what goes over the wire, byte for byte."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from mcp_server_claude.simulator import Simulator
    from mcp_server_claude.simulator.json_body import Json, Object

HEADERS = {"host": "simulator", "authorization": "Bearer any", "anthropic-version": "2026-10-21"}


def message_request(prompt: str, *, model: str = "claude-sonnet-5-5", stream: bool = True, **more: Json) -> Object:
    return {
        "model": model,
        "max_tokens": 4000,
        "messages": [{"role": "user", "content": prompt}],
        "stream": stream,
        **more,
    }


@dataclass(frozen=True)
class SimulatorConnection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, body: Object | bytes, *, path: str = "/v1/messages", headers: Mapping[str, str] = HEADERS) -> None:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        self.writer.write("\r\n".join([*lines, f"content-length: {len(raw)}", "", ""]).encode() + raw)

    def get(self, path: str) -> None:
        lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in HEADERS.items()), "", ""]
        self.writer.write("\r\n".join(lines).encode())

    async def read_until(self, mark: bytes) -> bytes:
        return await self.reader.readuntil(mark)

    async def read_response(self) -> tuple[int, dict[str, str], bytes]:
        """One response with a `content-length`."""
        head = (await self.read_until(b"\r\n\r\n")).decode()
        first, *rest = head.strip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in rest)}
        return int(first.split()[1]), headers, await self.reader.readexactly(int(headers["content-length"]))


@asynccontextmanager
async def simulator_connection(simulator: Simulator) -> AsyncGenerator[SimulatorConnection]:
    host, _, port = simulator.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 24)
    try:
        yield SimulatorConnection(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


def decode_chunked(raw: bytes) -> bytes:
    """A chunked body without its chunks."""
    body = b""
    while raw:
        size, _, rest = raw.partition(b"\r\n")
        body += rest[: int(size, 16)]
        raw = rest[int(size, 16) + 2 :]
    return body


async def read_stream(simulator: Simulator, body: Object, headers: Mapping[str, str] = HEADERS) -> bytes:
    """The whole body of a streamed response."""
    async with simulator_connection(simulator) as line:
        line.send(body, headers=headers)
        await line.read_until(b"\r\n\r\n")
        return decode_chunked(await line.read_until(b"\r\n0\r\n\r\n"))


def parse_events(stream: bytes) -> list[Object]:
    """The JSON of a stream's events, in order."""
    return [json.loads(line[5:]) for line in stream.decode().split("\n") if line.startswith("data:")]
