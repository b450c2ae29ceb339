"""An upstream on a socket that answers messages with given bytes: for what no simulator would say."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from support.sockets import answering

if TYPE_CHECKING:
    import asyncio
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
        while head := await reader.readuntil(b"\r\n\r\n"):
            lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")]
            self.heard.append(head + await reader.readexactly(int(lengths[0].split(b":")[1]) if lengths else 0))
            asked = head.startswith(b"POST")
            said = self.bodies.pop(0) if asked and len(self.bodies) > 1 else self.bodies[0]
            status, kind, body = (self.status, self.kind, said) if asked else (404, "text/plain", b"")
            writer.write(
                f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\nrequest-id: req_parrot\r\n"
                f"content-length: {len(body)}\r\n\r\n".encode()
                + body
            )
            await writer.drain()


@asynccontextmanager
async def parrot(*bodies: bytes, status: int = 200, kind: str = SSE) -> AsyncGenerator[Parrot]:
    bird = Parrot(list(bodies), status, kind)
    async with answering(bird.answer) as bird.url:
        yield bird
