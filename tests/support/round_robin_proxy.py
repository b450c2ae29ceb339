"""A plain reverse proxy for the tests: each request goes to the next server, from any client.

A connection carries one request: the proxy asks the server to close it (RFC 9112, section 9.6). What follows the head
is passed on byte by byte in both directions, so event streams are never held back, and a client that goes away is seen
by the server. A server that refuses connections is passed over.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

MAX_HEAD_BYTES = 256 * 1024
READ_BYTES = 64 * 1024
CONNECTION_HEADER = re.compile(rb"^connection:[^\r\n]*\r\n", re.IGNORECASE | re.MULTILINE)
BAD_GATEWAY = b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


@dataclass
class RoundRobinProxy:
    """A running proxy. `served` has each request's method and path with the number of the server that got it."""

    servers: list[str]
    url: str = ""
    served: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    next_server: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set["asyncio.Task[None]"])

    def servers_of(self, path: str) -> set[int]:
        """The numbers of the servers that got requests whose path begins so."""
        return {number for request, number in self.served if request.partition(" ")[2].startswith(path)}

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection of a client."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            # asyncio logs a cancelled connection as an error.
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._forward(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def close_connections(self) -> None:
        """End what is still being forwarded."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        request_line, _, headers = head.partition(b"\r\n")
        method, path, _ = request_line.decode("latin-1").split(" ", 2)
        for _ in self.servers:
            number, self.next_server = self.next_server, (self.next_server + 1) % len(self.servers)
            address = urlsplit(self.servers[number])
            try:
                upstream_reader, upstream_writer = await asyncio.open_connection(address.hostname, address.port)
            except OSError:
                continue
            self.served.append((f"{method} {path}", number))
            upstream_writer.write(request_line + b"\r\nconnection: close\r\n" + CONNECTION_HEADER.sub(b"", headers))
            try:
                await _pipe_both_ways(reader, writer, upstream_reader, upstream_writer)
            finally:
                upstream_writer.close()
            return
        writer.write(BAD_GATEWAY)
        await writer.drain()


@asynccontextmanager
async def round_robin_proxy(servers: Sequence[str]) -> AsyncGenerator[RoundRobinProxy]:
    """Run a proxy in front of servers, given by their URLs."""
    proxy = RoundRobinProxy(list(servers))
    listener = await asyncio.start_server(proxy.accept, "127.0.0.1", 0, limit=MAX_HEAD_BYTES)
    host, port = listener.sockets[0].getsockname()
    proxy.url = f"http://{host}:{port}"
    try:
        yield proxy
    finally:
        listener.close()
        await proxy.close_connections()


async def _pipe_both_ways(
    client: asyncio.StreamReader,
    to_client: asyncio.StreamWriter,
    upstream: asyncio.StreamReader,
    to_upstream: asyncio.StreamWriter,
) -> None:
    """Pass bytes on until either side ends."""
    directions = {
        asyncio.create_task(_pipe(client, to_upstream)),
        asyncio.create_task(_pipe(upstream, to_client)),
    }
    try:
        await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in directions:
            task.cancel()
        await asyncio.gather(*directions, return_exceptions=True)


async def _pipe(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(READ_BYTES):
            target.write(data)
            await target.drain()
