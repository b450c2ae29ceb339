"""The connections of the aiohttp client: keep-alive probes, a limit on idle ones, and one on a body that is not taken.

httpx2 has all three. aiohttp leaves probes to the system, which sends the first after two hours, keeps every connection
that becomes idle, and waits without end for a peer that takes none of a request's body (3.14).
"""

from __future__ import annotations

import asyncio
import socket
from functools import partial
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp.client_proto import ResponseHandler

if TYPE_CHECKING:
    import ssl

    from aiohttp.client_reqrep import ConnectionKey

KEEPALIVE_PROBES = {"TCP_KEEPIDLE": 60, "TCP_KEEPALIVE": 60, "TCP_KEEPINTVL": 60, "TCP_KEEPCNT": 5}
"""Socket options with which a silent connection stays open in a NAT, as the SDK sets them for its httpx2 client
(`anthropic.DefaultAsyncHttpxClient`, 2.14)."""
HEAD_END = b"\r\n\r\n"


class LimitedConnector(aiohttp.TCPConnector):
    """A connector that keeps at most `max_idle` idle connections, each for `idle_ttl_s` seconds.

    A request whose body makes no progress for `write_timeout_s` seconds fails with `aiohttp.SocketTimeoutError`.
    """

    def __init__(
        self,
        *,
        max_connections: int,
        max_idle: int,
        idle_ttl_s: float,
        write_timeout_s: float | None,
        context: ssl.SSLContext,
    ) -> None:
        super().__init__(  # pyright: ignore[reportUnknownMemberType] - a deprecated parameter has no type
            limit=max_connections, keepalive_timeout=idle_ttl_s, ssl=context, socket_factory=_open_socket
        )
        self._max_idle = max_idle
        # aiohttp has no parameter for the class of its protocols; a test with a peer that does not read guards it.
        self._factory = partial(WriteTimeoutHandler, self._loop, write_timeout_s)

    def _release(self, key: ConnectionKey, protocol: ResponseHandler, *, should_close: bool = False) -> None:
        """Take a connection back. One beyond `max_idle` is closed."""
        idle = sum(map(len, self._conns.values()))
        super()._release(key, protocol, should_close=should_close or idle >= self._max_idle)


class WriteTimeoutHandler(ResponseHandler):
    """A connection on which a write that makes no progress for `write_timeout_s` seconds is an error.

    A response that is followed by bytes that are no HTTP is read up to these.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, write_timeout_s: float | None) -> None:
        super().__init__(loop)
        self._write_timeout_s = write_timeout_s
        self._unended_head = b""

    def data_received(self, data: bytes) -> None:
        """Parse what arrived. A head is parsed before its body: of both in one packet with bytes that are no HTTP,
        aiohttp would report neither. It does not report such bytes to the reader of the body either (3.14).
        """
        if self._unended_head or data.startswith(b"HTTP/"):
            head_size = self._head_size(data)
            if head_size:
                super().data_received(data[:head_size])
                data = data[head_size:]
                if not data:
                    return  # aiohttp calls this without data to go on decompressing
        super().data_received(data)
        if self._exception is not None and self._payload is not None and not self._payload.is_eof():
            self._payload.set_exception(aiohttp.ClientPayloadError("The body is not framed as HTTP"))

    def _head_size(self, data: bytes) -> int:
        """The bytes up to the end of a head, which may have begun in an earlier packet; 0 where it goes on."""
        head = self._unended_head + data
        end = head.find(HEAD_END)
        if end < 0:
            self._unended_head = head[1 - len(HEAD_END) :]
            return 0
        size = end + len(HEAD_END) - len(self._unended_head)
        self._unended_head = b""
        return size

    def resume_reading(self, resume_parser: bool = True) -> None:  # noqa: FBT001, FBT002 - as aiohttp has it
        """Go on reading, if it was paused. aiohttp calls this after each read, and runs its parser each time (3.14)."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    async def _drain_helper(self) -> None:
        """Wait until the peer has taken nearly all that was written. A large body may take many timeouts.

        Raises:
            aiohttp.SocketTimeoutError: It has taken nothing for the timeout.
        """
        draining = asyncio.ensure_future(super()._drain_helper())
        try:
            while not draining.done():
                size = self._unwritten_bytes()
                await asyncio.wait({draining}, timeout=self._write_timeout_s)
                if not draining.done() and self._unwritten_bytes() >= size:
                    raise aiohttp.SocketTimeoutError("The request body makes no progress")
            await draining
        finally:
            draining.cancel()

    def _unwritten_bytes(self) -> int:
        return 0 if self.transport is None else self.transport.get_write_buffer_size()


def _open_socket(address: tuple[Any, ...]) -> socket.socket:
    """A socket for an address of `getaddrinfo`, with keep-alive probes where the system lets them be set."""
    family, kind, protocol, *_ = address
    opened = socket.socket(family, kind, protocol)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE_PROBES.items():
        option = getattr(socket, name, None)
        if option is not None:
            opened.setsockopt(socket.IPPROTO_TCP, option, value)
    return opened
