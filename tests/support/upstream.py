"""An upstream on a socket that answers messages with given bytes: for what no simulator would say."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

SSE = "text/event-stream; charset=utf-8"


@dataclass
class Parrot:
    """Says these bodies to one `POST` after the other, the last again and again; to all else that there is nothing."""

    bodies: list[bytes]
    status: int
    kind: str
    url: str = ""
    heard: list[bytes] = field(default_factory=list[bytes])

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = next(
                    (
                        int(line.split(b":")[1])
                        for line in head.lower().split(b"\r\n")
                        if line.startswith(b"content-length")
                    ),
                    0,
                )
                self.heard.append(head + await reader.readexactly(length))
                asked = head.startswith(b"POST")
                said = self.bodies.pop(0) if asked and len(self.bodies) > 1 else self.bodies[0]
                status, kind, body = (self.status, self.kind, said) if asked else (404, "text/plain", b"")
                writer.write(
                    f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\nrequest-id: req_parrot\r\n"
                    f"content-length: {len(body)}\r\n\r\n".encode()
                    + body
                )
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def parrot(*bodies: bytes, status: int = 200, kind: str = SSE) -> AsyncGenerator[Parrot]:
    bird = Parrot(list(bodies), status, kind)
    open_ones: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(bird.answer(reader, writer))
        open_ones.add(task)
        task.add_done_callback(open_ones.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    bird.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield bird
    finally:
        server.close()
        for task in list(open_ones):
            task.cancel()
        await asyncio.gather(*open_ones, return_exceptions=True)
        await server.wait_closed()
