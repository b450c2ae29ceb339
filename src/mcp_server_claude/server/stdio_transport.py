"""MCP over standard input and output, run so that it ends well.

The SDK's own stdio transport (2.3) leaves a frame it cannot parse unanswered, ends the process when a message holds a
lone surrogate, ignores SIGINT until stdin closes (python-sdk#3551) and skips the lifespan's exit on SIGTERM. These two
streams speak its protocol (`ReadStream`, `WriteStream`) directly on the descriptors: no threads to wait for, no hops.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Self, cast

import anyio
import anyio.to_thread
from mcp.shared.message import SessionMessage
from mcp.types import JSONRPCNotification, jsonrpc_message_adapter
from pydantic import ValidationError

from mcp_server_claude.event_loop import end_pauses_at, event_loop_options
from mcp_server_claude.lone_surrogates import replace_lone_surrogates
from mcp_server_claude.server.stdout_writer import StdoutWriter, use_stdout
from mcp_server_claude.server.unanswered_requests import UnansweredRequests

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator
    from types import TracebackType

    from mcp.server.mcpserver import MCPServer
    from mcp.types import JSONRPCMessage

MAX_READ_BYTES = 256 * 1024
HANG_UP_CHECK_INTERVAL_S = 1.0
"""Seconds between two looks at a pipe that is not read, for its other end may be closed."""

PARSE_ERROR, INVALID_REQUEST = -32700, -32600
"""JSON-RPC 2.0, section 5.1."""


def run_stdio_server(server: MCPServer[Any]) -> int:
    """Serve until stdin closes or a signal comes; the exit code. Everything is unwound by then, the lifespan too."""
    return anyio.run(_run_until_closed, server, backend_options=event_loop_options())


async def _run_until_closed(server: MCPServer[Any]) -> int:
    low = server._lowlevel_server  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - the only way in (pinned: mcp~=2.3)
    stopped_by = 0
    with _claim_stdio() as (reader, writer), _receive_signals() as signals:
        unanswered = UnansweredRequests()
        stdout = StdoutWriter(writer, unanswered)
        use_stdout(stdout)
        async with anyio.create_task_group() as tasks:

            async def stop_on(signals: AsyncIterator[signal.Signals]) -> None:
                nonlocal stopped_by
                async for received in signals:
                    stopped_by = stopped_by or received
                    tasks.cancel_scope.cancel()

            if signals is not None:
                tasks.start_soon(stop_on, signals)
            end_pauses_at(reader)
            await low.run(StdinReader(reader, stdout, unanswered), stdout, low.create_initialization_options())
            tasks.cancel_scope.cancel()
    return 128 + stopped_by if stopped_by else 0


@contextmanager
def _receive_signals() -> Generator[AsyncIterator[signal.Signals] | None]:
    """SIGINT and SIGTERM until all is unwound: Claude Code sends one after the other, and the second must not kill."""
    if sys.platform == "win32":  # there the end is stdin's
        yield None
        return
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        yield signals


@contextmanager
def _claim_stdio() -> Generator[tuple[int, int]]:
    """The wire as two private descriptors. Meanwhile 0 reads nothing and 1 is stderr: no stray print breaks a frame."""
    reader, writer = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    try:
        os.dup2(nothing, 0)
        os.dup2(2, 1)
        yield reader, writer
    finally:
        os.close(nothing)


class StdinReader:
    """Messages from a descriptor, a line each (`mcp.shared` calls this a `ReadStream`). Ends at end of file."""

    def __init__(self, fd: int, stdout: StdoutWriter, unanswered: UnansweredRequests) -> None:
        self._fd = fd
        self._stdout = stdout
        self._unanswered = unanswered
        self._buffer = bytearray()
        self._searched_bytes = 0
        self._ended = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def receive(self) -> SessionMessage | Exception:
        """The next message. Lines that are none are answered here and passed over.

        Raises:
            anyio.EndOfStream: The client has closed its end.
        """
        while True:
            await self._wait_for_room()
            line = await self._read_line()
            if not line.strip():
                continue
            try:
                message = SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False))
            except ValidationError:
                message = await self._parse_leniently(line)
            if message is not None and _has_invalid_id(message.message, line):
                await self._send_error(None, INVALID_REQUEST, "Invalid Request: an id is a string or an integer.")
                continue
            if message is not None:
                self._unanswered.record_received(message.message, len(line))
                return message

    async def _wait_for_room(self) -> None:
        """Wait while too many requests are unanswered.

        Raises:
            anyio.EndOfStream: The client has closed its end meanwhile.
        """
        while not self._unanswered.has_room:
            with anyio.move_on_after(HANG_UP_CHECK_INTERVAL_S):
                await self._unanswered.wait_for_change()
            if not self._unanswered.has_room and self._is_hung_up():
                raise anyio.EndOfStream

    def _is_hung_up(self) -> bool:
        """True if the client has closed the pipe, also where unread messages are left in it."""
        if sys.platform == "win32":
            return False
        poll = select.poll()
        poll.register(self._fd, 0)
        return any(event & (select.POLLHUP | select.POLLERR) for _, event in poll.poll(0))

    async def _parse_leniently(self, line: bytes) -> SessionMessage | None:
        """A line that the SDK's parser refuses: with its lone surrogates replaced, or answered as the error it is."""
        try:
            content: object = json.loads(line)
        except (ValueError, RecursionError):
            await self._send_error(None, PARSE_ERROR, "Parse error: a line that is not JSON.")
            return None
        with suppress(ValidationError, UnicodeError):
            repaired = replace_lone_surrogates(json.dumps(content, ensure_ascii=False))
            return SessionMessage(jsonrpc_message_adapter.validate_json(repaired, by_name=False))
        fields = cast("dict[str, object]", content) if isinstance(content, dict) else {}
        identity = fields.get("id")
        known = identity if isinstance(identity, (str, int)) and not isinstance(identity, bool) else None
        await self._send_error(
            known, INVALID_REQUEST, "Invalid Request: not a JSON-RPC 2.0 message (batches are not taken)."
        )
        return None

    async def _send_error(self, identity: str | int | None, code: int, message: str) -> None:
        answer = {"jsonrpc": "2.0", "id": identity, "error": {"code": code, "message": message}}
        await self._stdout.write_frame(json.dumps(answer).encode() + b"\n")

    async def _read_line(self) -> bytes:
        while (end := self._buffer.find(b"\n", self._searched_bytes)) < 0:
            self._searched_bytes = len(self._buffer)
            if self._ended:
                raise anyio.EndOfStream
            chunk = await self._read_chunk()
            self._ended = not chunk
            self._buffer += chunk
            if self._ended and self._buffer:
                self._buffer += b"\n"  # the last line of a file may lack its end
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._searched_bytes = 0
        return line

    async def _read_chunk(self) -> bytes:
        if sys.platform != "win32":
            try:
                await anyio.wait_readable(self._fd)
                return os.read(self._fd, MAX_READ_BYTES)
            except PermissionError:
                pass  # a regular file: the event loop cannot wait for one, and need not
            except OSError:
                return b""
        return await anyio.to_thread.run_sync(os.read, self._fd, MAX_READ_BYTES, abandon_on_cancel=True)

    async def aclose(self) -> None:
        """Nothing more is read."""
        self._ended = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        await self.aclose()


def _has_invalid_id(message: JSONRPCMessage, line: bytes) -> bool:
    """True for a request whose id is null, a fraction or a boolean: the SDK takes it for a notification.

    It would never be answered (https://modelcontextprotocol.io/specification/2025-11-25/basic, "Requests").
    """
    if not isinstance(message, JSONRPCNotification) or (b'"id"' not in line and b"\\u" not in line):
        return False
    content: object = json.loads(line)
    return isinstance(content, dict) and "id" in content
