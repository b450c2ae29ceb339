"""`serve --http` as a process, and the least client for it: requests on sockets, every piece stamped as it is read.

What arrives is kept as bytes and made sense of afterwards, so that reading two hundred streams costs little.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

Route: TypeAlias = Literal["chat", "mcp"]
PROTOCOL_VERSION = "2026-07-28"
EVENT_END = re.compile(rb"\r?\n\r?\n")


class HttpServerProcess:
    """`serve --http` on a free port of loopback; ended with its block."""

    def __init__(self, environment: Mapping[str, str], wrapper: Sequence[str] = ()) -> None:
        self._process = subprocess.Popen(
            [*wrapper, sys.executable, "-u", "-m", "mcp_server_claude", "serve", "--http", "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )
        assert self._process.stdout is not None  # noqa: S101
        for line in self._process.stdout:
            if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
                self.port = int(found[1])
                break
        self._drain = subprocess.Popen(["cat"], stdin=self._process.stdout, stdout=subprocess.DEVNULL)  # noqa: S607

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait()
        self._drain.wait()

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    def cpu(self) -> float:
        """Seconds of CPU so far, all threads."""
        return time.clock_gettime((~self._process.pid << 3) | 2)

    def rss(self) -> float:
        """Resident memory in MB."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


@dataclass(slots=True)
class TimedStream:
    """One answer as it came: pieces of the response's bytes, each with its moment."""

    route: Route
    asked_at: float = 0.0
    pieces: list[tuple[float, bytes]] = field(default_factory=list[tuple[float, bytes]])

    def texts(self) -> list[tuple[float, str]]:
        """The answer's text, piece by piece, with the moment in which each was complete."""
        found: list[tuple[float, str]] = []
        body = bytearray()
        head = True
        for at, piece in self.pieces:
            body += piece
            if head:
                end = body.find(b"\r\n\r\n")
                if end < 0:
                    continue
                del body[: end + 4]
                head = False
            found += [(at, text) for text in _events(body, self.route)]
        return found


async def ask_all(port: int, route: Route, prompts: Sequence[str]) -> list[TimedStream]:
    """Ask all at once, and read every answer to its end."""
    return list(await asyncio.gather(*(_read(port, TimedStream(route), prompt) for prompt in prompts)))


async def _read(port: int, stream: TimedStream, prompt: str) -> TimedStream:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(_request(stream.route, prompt))
    stream.asked_at = time.monotonic()
    while piece := await reader.read(1 << 16):
        stream.pieces.append((time.monotonic(), piece))
    writer.close()
    return stream


def _request(route: Route, prompt: str) -> bytes:
    headers = ["Host: 127.0.0.1", "Content-Type: application/json"]  # HTTP/1.0: no chunks to take apart
    if route == "chat":
        body: dict[str, object] = {"message": prompt}
        headers.append("Accept: text/event-stream")
    else:
        meta = {
            "progressToken": 1,
            "mcp-server-claude/progress": "text",
            "io.modelcontextprotocol/protocolVersion": PROTOCOL_VERSION,
            "io.modelcontextprotocol/clientInfo": {"name": "benchmark", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        params = {"name": "claude_ask", "arguments": {"prompt": prompt}, "_meta": meta}
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        headers += [
            "Accept: application/json, text/event-stream",
            f"MCP-Protocol-Version: {PROTOCOL_VERSION}",
            "Mcp-Method: tools/call",
            "Mcp-Name: claude_ask",
        ]
    data = json.dumps(body).encode()
    head = "\r\n".join([f"POST /{route} HTTP/1.0", *headers, f"Content-Length: {len(data)}"])
    return head.encode() + b"\r\n\r\n" + data


def _events(body: bytearray, route: Route) -> list[str]:
    """The texts of the events that are complete in `body`, which are taken out of it."""
    texts: list[str] = []
    while end := EVENT_END.search(body):
        event = bytes(body[: end.start()]).decode()
        del body[: end.end()]
        if text := _text(event, route):
            texts.append(text)
    return texts


def _text(event: str, route: Route) -> str:
    lines = event.replace("\r\n", "\n").split("\n")
    data = [line[5:].removeprefix(" ") for line in lines if line.startswith("data:")]
    if route == "chat":
        return "" if any(line.startswith("event:") for line in lines) else "\n".join(data)
    if not data:
        return ""
    message = json.loads("\n".join(data))
    return str(message.get("params", {}).get("message") or "") if message.get("method") else ""
