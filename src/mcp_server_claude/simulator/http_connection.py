"""One client's socket: HTTP/1.1 requests in by h11, responses out, with every way to break off under control.

The client's leaving is noticed at once, whatever the handler waits for: it is cancelled, and `disconnected_at` says
when. A client that half-closes its socket counts as gone.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import h11

from mcp_server_claude.simulator import sse_format
from mcp_server_claude.simulator.api_errors import MAX_REQUEST_BYTES, max_request_bytes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

SO_LINGER_RESET = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """One HTTP request; header names are in lower case, a body over the API's limit is None."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes | None
    arrived_at: float


class ClientConnection(asyncio.Protocol):
    """A socket on which `handle` answers one request after the other."""

    def __init__(
        self,
        handle: Callable[[HttpRequest, ClientConnection], Awaitable[None]],
        open_connections: set[ClientConnection],
    ) -> None:
        self._handle = handle
        self._open_connections = open_connections
        self._http = h11.Connection(h11.SERVER)
        self._transport: asyncio.Transport | None = None
        self._head: h11.Request | None = None
        self._body: bytearray = bytearray()
        self._too_large = False
        self._max_body_bytes = MAX_REQUEST_BYTES
        self._write_resumed: asyncio.Future[None] | None = None
        self.request_task: asyncio.Task[None] | None = None
        self.disconnected_at: float | None = None
        self.closed = asyncio.get_running_loop().create_future()

    # ------------------------------------------------------------------ callbacks of asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._open_connections.add(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._http.receive_data(data)
            self._advance()
        except h11.RemoteProtocolError:
            self.close()

    def eof_received(self) -> bool:
        self._record_disconnect()
        self.abort()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._record_disconnect()
        self._open_connections.discard(self)
        if not self.closed.done():
            self.closed.set_result(None)

    def pause_writing(self) -> None:
        self._write_resumed = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self._write_resumed is not None and not self._write_resumed.done():
            self._write_resumed.set_result(None)
        self._write_resumed = None

    # ------------------------------------------------------------------ what a handler may do

    async def drain(self) -> None:
        """Wait until the client has read enough for more to be written."""
        if self._write_resumed is not None:
            await self._write_resumed

    async def flush(self) -> None:
        """Wait until everything written has been handed to the kernel."""
        if self._transport is not None:
            self._transport.set_write_buffer_limits(high=0)
            await self.drain()

    def send_head(self, status: int, headers: Mapping[str, str]) -> None:
        """Send a response's status and headers; without `content-length` the body is chunked."""
        lines = [(name.encode(), value.encode()) for name, value in headers.items()]
        if "content-length" not in headers:
            lines.append((b"transfer-encoding", b"chunked"))
        reply = h11.Response(status_code=status, headers=lines, reason=_REASON_PHRASES.get(status, b""))
        self.write(self._http.send(reply) or b"")

    def send_response(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Send a whole response."""
        self.send_head(status, {**headers, "content-length": str(len(body))})
        self.write((self._http.send(h11.Data(data=body)) or b"") + (self._http.send(h11.EndOfMessage()) or b""))

    def send_chunk(self, data: bytes) -> None:
        """Send a piece of a chunked body; h11 keeps no account of chunks, so they are framed here, faster."""
        self.write(sse_format.http_chunk(data))

    def end_chunks(self) -> None:
        """End a chunked body."""
        self.write(self._http.send(h11.EndOfMessage()) or b"")

    def write(self, data: bytes) -> None:
        """Send bytes as they are."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        """Close the socket with a FIN, once everything is written."""
        if self._transport is not None:
            self._transport.close()

    def reset(self) -> None:
        """Close the socket with a RST, dropping what the kernel has not sent."""
        if self._transport is None:
            return
        with suppress(OSError):
            sock = cast("socket.socket", self._transport.get_extra_info("socket"))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, SO_LINGER_RESET)
        self._transport.abort()

    def abort(self) -> None:
        """Close the socket now, without waiting for unsent bytes."""
        if self._transport is not None:
            self._transport.abort()

    # ------------------------------------------------------------------ one request after the other

    def _advance(self) -> None:
        while self.request_task is None:
            event = self._http.next_event()
            if isinstance(event, h11.Request):
                self._head, self._body, self._too_large = event, bytearray(), False
                self._max_body_bytes = max_request_bytes(event.target.decode("latin-1"))
                if self._http.they_are_waiting_for_100_continue:
                    go_on = h11.InformationalResponse(status_code=100, headers=[])
                    self.write(self._http.send(go_on) or b"")
            elif isinstance(event, h11.Data):
                self._too_large = self._too_large or len(self._body) + len(event.data) > self._max_body_bytes
                if not self._too_large:
                    self._body += event.data
            elif isinstance(event, h11.EndOfMessage):
                self._start_request()
            else:
                return

    def _start_request(self) -> None:
        if self._head is None:
            return
        request = HttpRequest(
            method=self._head.method.decode(),
            target=self._head.target.decode(),
            headers={name.decode(): value.decode("latin-1") for name, value in self._head.headers},
            body=None if self._too_large else bytes(self._body),
            arrived_at=time.monotonic(),
        )
        self._body = bytearray()
        self.request_task = asyncio.ensure_future(self._run_request(request))

    async def _run_request(self, request: HttpRequest) -> None:
        try:
            await self._handle(request, self)
        finally:
            self.request_task = None
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
            self._read_pipelined()
        else:
            self.close()

    def _read_pipelined(self) -> None:
        """Go on with what came while the last response was under way."""
        try:
            self._advance()
        except h11.RemoteProtocolError:
            self.close()

    def _record_disconnect(self) -> None:
        if self.disconnected_at is None:
            self.disconnected_at = time.monotonic()
            if self.request_task is not None:
                self.request_task.cancel()


_REASON_PHRASES = {
    200: b"OK",
    302: b"Found",
    400: b"Bad Request",
    401: b"Unauthorized",
    404: b"Not Found",
    413: b"Payload Too Large",
    429: b"Too Many Requests",
    500: b"Internal Server Error",
    529: b"Overloaded",
}
