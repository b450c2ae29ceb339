"""MCP over HTTP as it stands on the wire, in both eras, for what no client of the SDK would do."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast
from urllib.parse import urlsplit

import anyio
import httpx2

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

Message = dict[str, Any]
Era: TypeAlias = Literal["2025-11-25", "2026-07-28"]
ERAS: list[Era] = ["2025-11-25", "2026-07-28"]
NOBODY: Message = {"name": "raw", "version": "1"}


@dataclass
class Raw:
    """One client: in 2025-11-25 with its session, once `greet` has opened it."""

    url: str
    era: Era
    token: str = ""
    session: str = ""
    http: httpx2.AsyncClient = field(default_factory=lambda: httpx2.AsyncClient(timeout=60))

    def headers(self, method: str, name: str = "") -> dict[str, str]:
        told = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
        told |= {"authorization": f"Bearer {self.token}"} if self.token else {}
        if self.era == "2025-11-25":
            told |= {"mcp-session-id": self.session} if self.session else {}
            return told | ({"mcp-protocol-version": self.era} if self.session else {})
        told |= {"mcp-protocol-version": self.era, "mcp-method": method}
        return told | ({"mcp-name": name} if name else {})

    def message(self, method: str, params: Message, identity: int = 1) -> Message:
        meta = cast("Message", params.get("_meta", {}))
        if self.era == "2026-07-28":
            prefix = "io.modelcontextprotocol/"
            meta = meta | {
                f"{prefix}protocolVersion": self.era,
                f"{prefix}clientInfo": NOBODY,
                f"{prefix}clientCapabilities": {},
            }
        return {"jsonrpc": "2.0", "id": identity, "method": method, "params": params | {"_meta": meta}}

    def ask(self, prompt: str, identity: int = 1, **arguments: object) -> tuple[dict[str, str], bytes]:
        """The headers and the body of a `claude_ask` that wants to hear of its progress."""
        return self.call("claude_ask", identity, prompt=prompt, **arguments)

    def call(self, tool: str, identity: int = 1, **arguments: object) -> tuple[dict[str, str], bytes]:
        params: Message = {"name": tool, "arguments": arguments, "_meta": {"progressToken": identity}}
        body = json.dumps(self.message("tools/call", params, identity)).encode()
        return self.headers("tools/call", tool), body

    async def greet(self) -> None:
        """What a client of 2025-11-25 says first."""
        if self.era == "2025-11-25":
            hello = {"protocolVersion": self.era, "capabilities": {}, "clientInfo": NOBODY}
            response = await self.post("initialize", hello, identity=0)
            assert response.status_code == 200
            self.session = response.headers["mcp-session-id"]

    async def post(self, method: str, params: Message | None = None, identity: int = 1) -> httpx2.Response:
        body = json.dumps(self.message(method, params or {}, identity)).encode()
        name = str((params or {}).get("name") or (params or {}).get("uri") or "")
        return await self.http.post(f"{self.url}/mcp", headers=self.headers(method, name), content=body)

    async def tool(self, tool: str, identity: int = 1, **arguments: object) -> Message:
        """What comes of a tool."""
        headers, body = self.call(tool, identity, **arguments)
        return result_of(await self.http.post(f"{self.url}/mcp", headers=headers, content=body))

    async def read(self, uri: str) -> Message:
        """What comes of reading a resource: the whole answer."""
        return messages_of(await self.post("resources/read", {"uri": uri}))[-1]


@asynccontextmanager
async def raw(url: str, era: Era, token: str = "") -> AsyncGenerator[Raw]:
    """A client that has said what it says first."""
    client = Raw(url, era, token)
    async with client.http:
        await client.greet()
        yield client


def messages_of(response: httpx2.Response) -> list[Message]:
    """The messages of a response, be it JSON or a stream that has ended."""
    if not response.headers["content-type"].startswith("text/event-stream"):
        return [cast("Message", response.json())]
    return [json.loads(line.removeprefix("data:")) for line in response.text.splitlines() if line.startswith("data:")]


def result_of(response: httpx2.Response) -> Message:
    assert response.status_code == 200, response.text
    return cast("Message", messages_of(response)[-1]["result"])


def text_of(result: Message) -> str:
    return str(result["content"][0]["text"])


@dataclass
class Line:
    """A bare connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def say(self, *data: bytes) -> None:
        self.writer.writelines(data)
        await self.writer.drain()

    async def request(self, headers: dict[str, str], body: bytes) -> None:
        """Send a whole request to `/mcp`."""
        await self.say(head(headers | {"content-length": str(len(body))}), body)

    async def until(self, words: bytes) -> bytes:
        return await self.reader.readuntil(words)

    async def rest(self) -> bytes:
        """Whatever comes until the other end hangs up, with or without a word."""
        heard = b""
        try:
            while data := await self.reader.read(1 << 16):
                heard += data
        except ConnectionError:
            pass
        return heard


def head(headers: dict[str, str], method: str = "POST", path: str = "/mcp") -> bytes:
    lines = [
        f"{method} {path} HTTP/1.1",
        "host: localhost",
        *(f"{name}: {value}" for name, value in headers.items()),
        "",
        "",
    ]
    return "\r\n".join(lines).encode()


@asynccontextmanager
async def line(url: str, *, holds: int = 0) -> AsyncGenerator[Line]:
    """A connection to a server, with a limit on patience; on our side the kernel `holds` so many unread bytes."""
    at = urlsplit(url)
    end = socket.socket()
    if holds:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, holds)
    end.setblocking(False)  # noqa: FBT003 - the socket module's signature
    await asyncio.get_running_loop().sock_connect(end, (at.hostname, at.port))
    reader, writer = await asyncio.open_connection(sock=end, limit=1 << 24)
    try:
        with anyio.fail_after(60):
            yield Line(reader, writer)
    finally:
        writer.close()
