"""An HTTP proxy on this machine: it forwards plain requests and tunnels, and records what it was asked for."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from support.loopback_server import loopback_server

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


@dataclass
class RecordingProxy:
    """Forwards every request to `target`, whatever host it names."""

    target: str
    url: str = ""
    heads: list[bytes] = field(default_factory=list[bytes])

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        at = urlsplit(self.target)
        upstream_reader, upstream_writer = await asyncio.open_connection(at.hostname, at.port)
        if head.startswith(b"CONNECT "):
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            upstream_writer.write(head)
        try:
            await asyncio.gather(_copy(reader, upstream_writer), _copy(upstream_reader, writer))
        finally:
            upstream_writer.close()


@asynccontextmanager
async def recording_proxy(target: str) -> AsyncGenerator[RecordingProxy]:
    """A proxy in front of the server at `target` while the block runs."""
    proxy = RecordingProxy(target)
    async with loopback_server(proxy.serve) as proxy.url:
        yield proxy


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()
