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

from support.sockets import answering

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncGenerator, Iterable

SSE = "text/event-stream; charset=utf-8"
AMAZON = "application/vnd.amazon.eventstream"


@dataclass(frozen=True)
class Says:
    """An answer to whoever asks for a path that holds `path`, to so many of them."""

    path: str
    body: bytes
    kind: str = SSE
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    times: int = 1_000_000


@dataclass(frozen=True)
class Heard:
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> dict[str, object]:
        return cast("dict[str, object]", json.loads(self.raw))


@dataclass
class Cloud:
    """Answers each request with the first of `answers` that fits and is not used up; with a 404 where there is none."""

    answers: tuple[Says, ...]
    url: str = ""
    heard: list[Heard] = field(default_factory=list[Heard])
    used: Counter[Says] = field(default_factory=Counter[Says])

    def asked(self, path: str) -> list[Heard]:
        return [each for each in self.heard if path in each.path]

    def answer(self, path: str) -> Says:
        fitting = (each for each in self.answers if each.path in path and self.used[each] < each.times)
        said = next(fitting, Says("", b"{}", "text/plain", 404))
        self.used[said] += 1
        return said

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip().split("\r\n")
            method, path, _ = first.split(" ")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            raw = await reader.readexactly(int(headers.get("content-length", "0")))
            self.heard.append(Heard(method, path, headers, raw))
            said = self.answer(path)
            more = "".join(f"{name}: {value}\r\n" for name, value in said.headers)
            head = f"HTTP/1.1 {said.status} X\r\ncontent-type: {said.kind}\r\n{more}"
            writer.write(f"{head}content-length: {len(said.body)}\r\n\r\n".encode() + said.body)
            await writer.drain()


@asynccontextmanager
async def cloud(*answers: Says) -> AsyncGenerator[Cloud]:
    stand = Cloud(answers)
    async with answering(stand.serve) as stand.url:
        yield stand


def amazon(events: Iterable[object]) -> bytes:
    """Events as Bedrock frames them: each as base64 in a message of `application/vnd.amazon.eventstream`."""
    return b"".join(
        frame(
            {":message-type": "event", ":event-type": "chunk", ":content-type": "application/json"},
            {"bytes": b64encode(json.dumps(event).encode()).decode(), "p": "abcdef"},
        )
        for event in events
    )


def amazon_exception(name: str, message: str) -> bytes:
    """A fault within Bedrock's stream."""
    headers = {":message-type": "exception", ":exception-type": name, ":content-type": "application/json"}
    return frame(headers, {"message": message})


def frame(headers: dict[str, str], payload: object) -> bytes:
    """A message: its lengths with their checksum, headers, payload, and the checksum of it all."""
    named = b"".join(
        bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
        for name, value in headers.items()
    )
    body = json.dumps(payload).encode()
    prelude = struct.pack(">II", 16 + len(named) + len(body), len(named))
    message = prelude + struct.pack(">I", zlib.crc32(prelude)) + named + body
    return message + struct.pack(">I", zlib.crc32(message))
