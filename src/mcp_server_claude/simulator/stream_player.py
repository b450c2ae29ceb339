"""A script played over a socket: the waits, the pings, the pace, and the fault when one was asked for."""

from __future__ import annotations

import asyncio
import time
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mcp_server_claude.simulator import sse_format
from mcp_server_claude.simulator.api_errors import MESSAGES
from mcp_server_claude.simulator.prompt_directives import BREAKS
from mcp_server_claude.simulator.token_counting import CHARS_PER_TOKEN

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mcp_server_claude.simulator.event_plan import Script, Step
    from mcp_server_claude.simulator.http_connection import Connection
    from mcp_server_claude.simulator.prompt_directives import Directive
    from mcp_server_claude.simulator.request_log import Record
    from mcp_server_claude.simulator.token_counting import Input

BATCH = 64
STALLED_PING_S = 1.0
COMMENT_S = 0.2
LOOK_S = 0.1
GZIP_WINDOW = 31
HALF_FRAME = b'event: content_block_delta\ndata: {"type":"content_block_delta","ind'
BAD_JSON = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_del\n\n'
BAD_UTF8 = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
    b'"delta":{"type":"text_delta","text":"\xff\xfe\xc3"}}\n\n'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tempo:
    """How fast: seconds to the first byte, tokens a second (0: full speed), seconds of silence before a ping (0: none).

    `single` writes each event by itself, else at full speed many events share a write. From when `hurried` is set there
    is no more waiting.
    """

    ttft_s: float
    tokens_per_s: float
    ping_s: float
    single: bool
    hurried: asyncio.Event


class Performance:
    """One streamed response."""

    def __init__(self, line: Connection, record: Record, script: Script, chosen: Directive, tempo: Tempo) -> None:
        self._line = line
        self._record = record
        self._script = script
        self._chosen = chosen
        self._tempo = tempo
        self._squeeze: Callable[[bytes], bytes] | None = None
        self._packer = zlib.compressobj(wbits=GZIP_WINDOW)
        self._spoken_at = 0.0

    async def play(self, headers: Mapping[str, str], used: Input) -> None:
        """Send the head, then every step in its time; break off where the fault says."""
        fault = self._chosen.fault
        await asyncio.sleep(self._tempo.ttft_s)
        if self._chosen.at == "headers" and await self._break_before_the_head():
            return
        if fault == "gzip":
            self._squeeze = self._gzip
            headers = {**headers, "content-encoding": "gzip"}
        self._record.status = 200
        self._record.began()
        self._line.head(200, headers)
        if fault == "noevents":
            await self._say_nothing()
            return
        if fault == "error" and self._chosen.at == "headers":
            await self._break_off()
            return
        self._record.told_input(used)
        steps, cut = self._script.steps, self._script.cut
        if fault in BREAKS:
            await self._speak(steps[:cut])
            if await self._break_off():
                return
            steps = steps[cut:]
        await self._speak(steps[:-2])
        self._end(steps[-2:-1] if fault == "nostop" else steps[-2:])

    # ------------------------------------------------------------------ speaking

    async def _speak(self, steps: Sequence[Step]) -> None:
        if self._tempo.tokens_per_s:
            await self._speak_in_time(steps)
            return
        size = 1 if self._tempo.single else BATCH
        for begin in range(0, len(steps), size):
            await self._line.drain()
            self._send(steps[begin : begin + size])
            await asyncio.sleep(0)

    async def _speak_in_time(self, steps: Sequence[Step]) -> None:
        began, said = time.monotonic(), 0
        for step in steps:
            await self._wait(began + said / CHARS_PER_TOKEN / self._tempo.tokens_per_s)
            said += step.thinking + step.visible
            await self._line.drain()
            self._send((step,))

    async def _wait(self, until: float) -> None:
        """Wait for a moment, or to be hurried; a ping in every silence that is long enough."""
        while (left := min(until - time.monotonic(), LOOK_S)) > 0 and not self._tempo.hurried.is_set():
            if not self._tempo.ping_s:
                await asyncio.sleep(left)
                continue
            next_ping = self._spoken_at + self._tempo.ping_s
            await asyncio.sleep(max(0.0, min(left, next_ping - time.monotonic())))
            if time.monotonic() >= next_ping:
                self._write(sse_format.PING)

    def _send(self, steps: Sequence[Step]) -> None:
        data = b"".join([step.data for step in steps])
        record = self._record
        for step in steps:
            record.thinking_chars += step.thinking
            if step.visible:
                record.visible_chars += step.visible
                if step.text:
                    record.pieces.append(step.text)
        if data:
            self._write(data)

    def _write(self, data: bytes) -> None:
        self._spoken_at = time.monotonic()
        self._line.chunk(self._squeeze(data) if self._squeeze else data)

    def _end(self, steps: Sequence[Step]) -> None:
        self._send(steps)
        if self._squeeze:
            self._line.chunk(self._packer.flush())
        self._line.finish()
        reason = self._script.message["stop_reason"]
        self._record.stop_reason = reason if isinstance(reason, str) else None
        self._record.ended("complete")

    def _gzip(self, data: bytes) -> bytes:
        return self._packer.compress(data) + self._packer.flush(zlib.Z_SYNC_FLUSH)

    # ------------------------------------------------------------------ failing

    async def _break_before_the_head(self) -> bool:
        match self._chosen.fault:
            case "drop":
                self._failed()
                self._line.reset()
            case "fin" | "eof":
                self._failed()
                self._line.close()
            case "stall":
                await asyncio.Event().wait()
            case _:
                return False
        return True

    async def _break_off(self) -> bool:
        """The fault in the middle of a stream; false when the stream goes on after it."""
        match self._chosen.fault:
            case "error":
                kind = self._chosen.type or "overloaded_error"
                message = MESSAGES.get(kind, "The simulator was asked to fail.")
                self._write(sse_format.error(kind, message, self._record.request_id))
                self._failed()
                self._line.finish()
            case "drop":
                await self._line.flush()
                self._failed()
                self._line.reset()
            case "fin":
                self._line.write(sse_format.chunk(HALF_FRAME * 2)[: len(HALF_FRAME)])
                self._failed()
                self._line.close()
            case "eof":
                self._failed()
                self._line.finish()
            case "stall":
                await self._stall()
            case "malformed":
                self._spoil(BAD_JSON)
                return False
            case "badutf8":
                self._spoil(BAD_UTF8)
                return False
            case _:
                never_started = self._script.last_index + 7
                self._spoil(sse_format.delta(never_started, {"type": "text_delta", "text": "?"}))
                return False
        return True

    def _spoil(self, data: bytes) -> None:
        self._record.end = f"fault:{self._chosen.fault}"
        self._write(data)

    def _failed(self) -> None:
        self._record.ended(f"fault:{self._chosen.fault}")

    async def _stall(self) -> None:
        while self._chosen.pings:
            await asyncio.sleep(self._tempo.ping_s or STALLED_PING_S)
            self._write(sse_format.PING)
        await asyncio.Event().wait()

    async def _say_nothing(self) -> None:
        while True:
            await self._line.drain()
            self._write(sse_format.COMMENT)
            await asyncio.sleep(self._tempo.ping_s or COMMENT_S)
