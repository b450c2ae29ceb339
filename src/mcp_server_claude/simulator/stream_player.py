"""Sending a planned stream over a socket: delays, pings, pace, and the directed fault."""

from __future__ import annotations

import asyncio
import time
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mcp_server_claude.simulator import sse_format
from mcp_server_claude.simulator.answer_text import STRAY_TEXT
from mcp_server_claude.simulator.api_errors import ERROR_MESSAGES
from mcp_server_claude.simulator.prompt_directives import STREAM_FAULTS
from mcp_server_claude.simulator.token_counting import CHARS_PER_TOKEN

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mcp_server_claude.simulator.event_plan import EventPlan, StreamStep
    from mcp_server_claude.simulator.http_connection import ClientConnection
    from mcp_server_claude.simulator.prompt_directives import Directive
    from mcp_server_claude.simulator.request_log import LoggedRequest
    from mcp_server_claude.simulator.token_counting import InputUsage

MAX_STEPS_PER_WRITE = 64
STALL_PING_INTERVAL_S = 1.0
COMMENT_INTERVAL_S = 0.2
MAX_SLEEP_S = 0.1
GZIP_WINDOW_BITS = 31
HALF_FRAME = b'event: content_block_delta\ndata: {"type":"content_block_delta","ind'
MALFORMED_FRAME = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_del\n\n'
)
INVALID_UTF8_FRAME = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
    b'"delta":{"type":"text_delta","text":"\xff\xfe\xc3"}}\n\n'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamTiming:
    """Timing of a stream: seconds to the first byte, tokens a second (0: full speed), seconds between pings (0: none).

    With `one_event_per_write` each event is written by itself, else at full speed many events share a write. Once
    `delays_skipped` is set there is no more waiting.
    """

    ttft_s: float
    tokens_per_s: float
    ping_s: float
    one_event_per_write: bool
    delays_skipped: asyncio.Event


class StreamPlayer:
    """One streamed response."""

    def __init__(
        self,
        connection: ClientConnection,
        record: LoggedRequest,
        plan: EventPlan,
        directive: Directive,
        timing: StreamTiming,
    ) -> None:
        self._connection = connection
        self._record = record
        self._plan = plan
        self._directive = directive
        self._timing = timing
        self._compress: Callable[[bytes], bytes] | None = None
        self._gzip_stream = zlib.compressobj(wbits=GZIP_WINDOW_BITS)
        self._last_write_at = 0.0

    async def play(self, headers: Mapping[str, str], input_usage: InputUsage) -> None:
        """Send the head, then every step in its time; break off where the fault says."""
        fault = self._directive.fault
        await asyncio.sleep(self._timing.ttft_s)
        if self._directive.at == "headers" and await self._fail_before_head():
            return
        if fault == "gzip":
            self._compress = self._gzip
            headers = {**headers, "content-encoding": "gzip"}
        self._record.status = 200
        self._record.record_first_byte()
        self._connection.send_head(200, headers)
        if fault == "noevents":
            await self._send_comments_forever()
            return
        if fault == "error" and self._directive.at == "headers":
            await self._fail_in_stream()
            return
        self._record.record_start(input_usage)
        steps, cut = self._plan.steps, self._plan.fault_step
        if fault in STREAM_FAULTS:
            await self._send_steps(steps[:cut])
            if await self._fail_in_stream():
                return
            steps = steps[cut:]
        await self._send_steps(steps[:-2])
        self._end_stream(steps[-2:-1] if fault == "nostop" else steps[-2:])

    # ------------------------------------------------------------------ speaking

    async def _send_steps(self, steps: Sequence[StreamStep]) -> None:
        if self._timing.tokens_per_s:
            await self._send_steps_at_pace(steps)
            return
        size = 1 if self._timing.one_event_per_write else MAX_STEPS_PER_WRITE
        for begin in range(0, len(steps), size):
            await self._connection.drain()
            self._send_batch(steps[begin : begin + size])
            await asyncio.sleep(0)

    async def _send_steps_at_pace(self, steps: Sequence[StreamStep]) -> None:
        began, text_chars = time.monotonic(), 0
        for step in steps:
            await self._wait_until(began + text_chars / CHARS_PER_TOKEN / self._timing.tokens_per_s)
            text_chars += step.thinking_chars + step.visible_chars
            await self._connection.drain()
            self._send_batch((step,))
            if step.text:
                self._record.paced_text_at.append(self._last_write_at)

    async def _wait_until(self, deadline: float) -> None:
        """Wait for a moment, or to be hurried; a ping in every silence that is long enough."""
        while (left := min(deadline - time.monotonic(), MAX_SLEEP_S)) > 0 and not self._timing.delays_skipped.is_set():
            if not self._timing.ping_s:
                await asyncio.sleep(left)
                continue
            next_ping = self._last_write_at + self._timing.ping_s
            await asyncio.sleep(max(0.0, min(left, next_ping - time.monotonic())))
            if time.monotonic() >= next_ping:
                self._write(sse_format.PING_FRAME)

    def _send_batch(self, steps: Sequence[StreamStep]) -> None:
        data = b"".join([step.frame for step in steps])
        record = self._record
        for step in steps:
            record.thinking_chars += step.thinking_chars
            if step.visible_chars:
                record.visible_chars += step.visible_chars
                if step.text:
                    record.text_deltas.append(step.text)
        if data:
            self._write(data)

    def _write(self, data: bytes) -> None:
        self._last_write_at = time.monotonic()
        self._connection.send_chunk(self._compress(data) if self._compress else data)

    def _end_stream(self, steps: Sequence[StreamStep]) -> None:
        self._send_batch(steps)
        self._record.record_totals(self._plan)
        if self._compress:
            self._connection.send_chunk(self._gzip_stream.flush())
        self._connection.end_chunks()
        reason = self._plan.message["stop_reason"]
        self._record.stop_reason = reason if isinstance(reason, str) else None
        self._record.record_end("complete")

    def _gzip(self, data: bytes) -> bytes:
        return self._gzip_stream.compress(data) + self._gzip_stream.flush(zlib.Z_SYNC_FLUSH)

    # ------------------------------------------------------------------ failing

    async def _fail_before_head(self) -> bool:
        match self._directive.fault:
            case "drop":
                self._record_fault()
                self._connection.reset()
            case "fin" | "eof":
                self._record_fault()
                self._connection.close()
            case "stall":
                await asyncio.Event().wait()
            case _:
                return False
        return True

    async def _fail_in_stream(self) -> bool:
        """The fault in the middle of a stream; false when the stream continues after it."""
        match self._directive.fault:
            case "error":
                kind = self._directive.type or "overloaded_error"
                message = ERROR_MESSAGES.get(kind, "The simulator was asked to fail.")
                self._write(sse_format.error_frame(kind, message, self._record.request_id))
                self._record_fault()
                self._connection.end_chunks()
            case "drop":
                await self._connection.flush()
                self._record_fault()
                self._connection.reset()
            case "fin":
                self._connection.write(sse_format.http_chunk(HALF_FRAME * 2)[: len(HALF_FRAME)])
                self._record_fault()
                self._connection.close()
            case "eof":
                self._record_fault()
                self._connection.end_chunks()
            case "stall":
                await self._stall()
            case "malformed":
                self._send_broken_frame(MALFORMED_FRAME)
                return False
            case "badutf8":
                self._send_broken_frame(INVALID_UTF8_FRAME)
                return False
            case _:
                never_started = self._plan.last_index + 7
                self._send_broken_frame(
                    sse_format.delta_frame(never_started, {"type": "text_delta", "text": STRAY_TEXT})
                )
                return False
        return True

    def _send_broken_frame(self, data: bytes) -> None:
        self._record.end = f"fault:{self._directive.fault}"
        self._write(data)

    def _record_fault(self) -> None:
        self._record.record_end(f"fault:{self._directive.fault}")

    async def _stall(self) -> None:
        while self._directive.pings:
            await asyncio.sleep(self._timing.ping_s or STALL_PING_INTERVAL_S)
            self._write(sse_format.PING_FRAME)
        await asyncio.Event().wait()

    async def _send_comments_forever(self) -> None:
        while True:
            await self._connection.drain()
            self._write(sse_format.COMMENT_FRAME)
            await asyncio.sleep(self._timing.ping_s or COMMENT_INTERVAL_S)
