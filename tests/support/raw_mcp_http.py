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

from support.http_server import NO_TLS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

Message = dict[str, Any]
ProtocolVersion: TypeAlias = Literal["2025-11-25", "2026-07-28"]
PROTOCOL_VERSIONS: list[ProtocolVersion] = ["2025-11-25", "2026-07-28"]
CLIENT_INFO: Message = {"name": "raw", "version": "1"}


@dataclass
class RawMcpClient:
    """One client: in 2025-11-25 with its session, once `greet` has opened it."""

    url: str
    version: ProtocolVersion
    token: str = ""
    session: str = ""
    http: httpx2.AsyncClient = field(default_factory=lambda: httpx2.AsyncClient(timeout=60, verify=NO_TLS))

    def headers(self, method: str, name: str = "") -> dict[str, str]:
        headers = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
        headers |= {"authorization": f"Bearer {self.token}"} if self.token else {}
        if self.version == "2025-11-25":
            headers |= {"mcp-session-id": self.session} if self.session else {}
            return headers | ({"mcp-protocol-version": self.version} if self.session else {})
        headers |= {"mcp-protocol-version": self.version, "mcp-method": method}
        return headers | ({"mcp-name": name} if name else {})

    def message(self, method: str, params: Message, identity: int = 1) -> Message:
        meta = cast("Message", params.get("_meta", {}))
        if self.version == "2026-07-28":
            prefix = "io.modelcontextprotocol/"
            meta = meta | {
                f"{prefix}protocolVersion": self.version,
                f"{prefix}clientInfo": CLIENT_INFO,
                f"{prefix}clientCapabilities": {},
            }
        return {"jsonrpc": "2.0", "id": identity, "method": method, "params": params | {"_meta": meta}}

    def ask_request(self, prompt: str, identity: int = 1, **arguments: object) -> tuple[dict[str, str], bytes]:
        """The headers and the body of a `claude_ask` that requests progress."""
        return self.tool_request("claude_ask", identity, prompt=prompt, **arguments)

    def tool_request(self, tool: str, identity: int = 1, **arguments: object) -> tuple[dict[str, str], bytes]:
        params: Message = {"name": tool, "arguments": arguments, "_meta": {"progressToken": identity}}
        body = json.dumps(self.message("tools/call", params, identity)).encode()
        return self.headers("tools/call", tool), body

    async def initialize(self) -> None:
        """What a client of 2025-11-25 says first."""
        if self.version == "2025-11-25":
            hello = {"protocolVersion": self.version, "capabilities": {}, "clientInfo": CLIENT_INFO}
            response = await self.post("initialize", hello, identity=0)
            assert response.status_code == 200
            self.session = response.headers["mcp-session-id"]

    async def post(self, method: str, params: Message | None = None, identity: int = 1) -> httpx2.Response:
        body = json.dumps(self.message(method, params or {}, identity)).encode()
        name = str((params or {}).get("name") or (params or {}).get("uri") or "")
        return await self.http.post(f"{self.url}/mcp", headers=self.headers(method, name), content=body)

    async def call_tool(self, tool: str, identity: int = 1, **arguments: object) -> Message:
        """The result of a tool."""
        headers, body = self.tool_request(tool, identity, **arguments)
        return jsonrpc_result(await self.http.post(f"{self.url}/mcp", headers=headers, content=body))

    async def read_resource(self, uri: str) -> Message:
        """The result of reading a resource: the whole answer."""
        return jsonrpc_messages(await self.post("resources/read", {"uri": uri}))[-1]


@asynccontextmanager
async def raw_mcp_client(url: str, era: ProtocolVersion, token: str = "") -> AsyncGenerator[RawMcpClient]:
    """A client that has sent its first messages."""
    client = RawMcpClient(url, era, token)
    async with client.http:
        await client.initialize()
        yield client


def jsonrpc_messages(response: httpx2.Response) -> list[Message]:
    """The messages of a response, be it JSON or a stream that has ended."""
    if not response.headers["content-type"].startswith("text/event-stream"):
        return [cast("Message", response.json())]
    return [json.loads(line.removeprefix("data:")) for line in response.text.splitlines() if line.startswith("data:")]


def jsonrpc_result(response: httpx2.Response) -> Message:
    assert response.status_code == 200, response.text
    return cast("Message", jsonrpc_messages(response)[-1]["result"])


def result_text(result: Message) -> str:
    return str(result["content"][0]["text"])


@dataclass
class RawConnection:
    """A bare connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, *data: bytes) -> None:
        self.writer.writelines(data)
        await self.writer.drain()

    async def send_request(self, headers: dict[str, str], body: bytes) -> None:
        """Send a whole request to `/mcp`."""
        await self.send(request_head(headers | {"content-length": str(len(body))}), body)

    async def read_until(self, words: bytes) -> bytes:
        return await self.reader.readuntil(words)

    async def read_to_end(self) -> bytes:
        """Everything until the other end closes the connection, with or without an error."""
        received = b""
        try:
            while data := await self.reader.read(1 << 16):
                received += data
        except ConnectionError:
            pass
        return received


def request_head(headers: dict[str, str], method: str = "POST", path: str = "/mcp") -> bytes:
    lines = [
        f"{method} {path} HTTP/1.1",
        "host: localhost",
        *(f"{name}: {value}" for name, value in headers.items()),
        "",
        "",
    ]
    return "\r\n".join(lines).encode()


@asynccontextmanager
async def raw_connection(url: str, *, receive_buffer: int = 0) -> AsyncGenerator[RawConnection]:
    """A connection to a server, with a limit on patience; on our side the kernel `holds` so many unread bytes."""
    at = urlsplit(url)
    end = socket.socket()
    if receive_buffer:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    end.setblocking(False)  # noqa: FBT003 - the socket module's signature
    await asyncio.get_running_loop().sock_connect(end, (at.hostname, at.port))
    reader, writer = await asyncio.open_connection(sock=end, limit=1 << 24)
    try:
        with anyio.fail_after(60):
            yield RawConnection(reader, writer)
    finally:
        writer.close()
