"""What stands behind a cloud's client: a server that answers by path, and Amazon's framing of a stream."""

from __future__ import annotations

import json
import struct
import zlib
from base64 import b64encode
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from support.loopback_server import loopback_server

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncGenerator, Iterable

SSE = "text/event-stream; charset=utf-8"
BEDROCK_STREAM = "application/vnd.amazon.eventstream"


@dataclass(frozen=True)
class CannedResponse:
    """The response to a path that holds `path`, for so many requests."""

    path: str
    body: bytes
    content_type: str = SSE
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    times: int = 1_000_000


@dataclass(frozen=True)
class ReceivedRequest:
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> dict[str, object]:
        return cast("dict[str, object]", json.loads(self.raw))


@dataclass
class CloudUpstream:
    """Answers each request with the first of `answers` that fits and is not used up; with a 404 where there is none."""

    responses: tuple[CannedResponse, ...]
    url: str = ""
    requests: list[ReceivedRequest] = field(default_factory=list[ReceivedRequest])
    use_counts: Counter[CannedResponse] = field(default_factory=Counter[CannedResponse])

    def requests_to(self, path: str) -> list[ReceivedRequest]:
        return [each for each in self.requests if path in each.path]

    def response_for(self, path: str) -> CannedResponse:
        fitting = (each for each in self.responses if each.path in path and self.use_counts[each] < each.times)
        response = next(fitting, CannedResponse("", b"{}", "text/plain", 404))
        self.use_counts[response] += 1
        return response

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip().split("\r\n")
            method, path, _ = first.split(" ")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            raw = await reader.readexactly(int(headers.get("content-length", "0")))
            self.requests.append(ReceivedRequest(method, path, headers, raw))
            response = self.response_for(path)
            more = "".join(f"{name}: {value}\r\n" for name, value in response.headers)
            head = f"HTTP/1.1 {response.status} X\r\ncontent-type: {response.content_type}\r\n{more}"
            writer.write(f"{head}content-length: {len(response.body)}\r\n\r\n".encode() + response.body)
            await writer.drain()


@asynccontextmanager
async def cloud_upstream(*answers: CannedResponse) -> AsyncGenerator[CloudUpstream]:
    cloud = CloudUpstream(answers)
    async with loopback_server(cloud.serve) as cloud.url:
        yield cloud


def bedrock_stream(events: Iterable[object]) -> bytes:
    """Events as Bedrock frames them: each as base64 in a message of `application/vnd.amazon.eventstream`."""
    return b"".join(
        bedrock_message(
            {":message-type": "event", ":event-type": "chunk", ":content-type": "application/json"},
            {"bytes": b64encode(json.dumps(event).encode()).decode(), "p": "abcdef"},
        )
        for event in events
    )


def bedrock_exception(name: str, message: str) -> bytes:
    """A fault within Bedrock's stream."""
    headers = {":message-type": "exception", ":exception-type": name, ":content-type": "application/json"}
    return bedrock_message(headers, {"message": message})


def bedrock_message(headers: dict[str, str], payload: object) -> bytes:
    """A message: its lengths with their checksum, headers, payload, and the checksum of it all."""
    named = b"".join(
        bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
        for name, value in headers.items()
    )
    body = json.dumps(payload).encode()
    prelude = struct.pack(">II", 16 + len(named) + len(body), len(named))
    message = prelude + struct.pack(">I", zlib.crc32(prelude)) + named + body
    return message + struct.pack(">I", zlib.crc32(message))
