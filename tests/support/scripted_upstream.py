"""An upstream on a socket that answers messages with given bytes: for what no simulator would say."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from support.loopback_server import loopback_server

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncGenerator

SSE = "text/event-stream; charset=utf-8"


@dataclass
class ScriptedUpstream:
    """Says these bodies to one `POST` after the other, the last again and again; to all else that there is nothing.

    A body that begins with `HTTP/` is a whole response.
    """

    bodies: list[bytes]
    status: int
    content_type: str
    url: str = ""
    requests: list[bytes] = field(default_factory=list[bytes])

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")]
            self.requests.append(head + await reader.readexactly(int(lengths[0].split(b":")[1]) if lengths else 0))
            is_post = head.startswith(b"POST")
            scripted = self.bodies.pop(0) if is_post and len(self.bodies) > 1 else self.bodies[0]
            if is_post and scripted.startswith(b"HTTP/"):
                writer.write(scripted)
                await writer.drain()
                continue
            status, kind, body = (self.status, self.content_type, scripted) if is_post else (404, "text/plain", b"")
            writer.write(
                f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\nrequest-id: req_parrot\r\n"
                f"content-length: {len(body)}\r\n\r\n".encode()
                + body
            )
            await writer.drain()


@asynccontextmanager
async def scripted_upstream(
    *bodies: bytes, status: int = 200, content_type: str = SSE
) -> AsyncGenerator[ScriptedUpstream]:
    upstream = ScriptedUpstream(list(bodies), status, content_type)
    async with loopback_server(upstream.answer) as upstream.url:
        yield upstream
