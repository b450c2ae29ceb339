"""The SDK's aiohttp client, held to what its default client promises.

aiohttp parses HTTP in C, which costs a quarter of httpx2's parser for each event of a paced stream (benchmarks/, row
"CPU per delta, every event a write"). The SDK wraps it in the interface of httpx2 (`anthropic.DefaultAioHttpClient`).
Three differences to httpx2 are made good here, by parameters of `aiohttp.ClientSession`:

* A connection that is lost hides the bytes that arrived before the loss and were not read yet.
* TCP keep-alive probes are left to the system, which sends the first after two hours.
* Cookies are kept between requests, a second time beside httpx2's.
"""

from __future__ import annotations

import socket
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import aiohttp
import anthropic
import httpx2

from mcp_server_claude.anthropic_api.read_coalescing import END_CALLBACK

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from aiohttp.connector import Connection

MAX_HEADER_BYTES = 64 * 1024
"""Bytes of one response header, as of all of them in h11; aiohttp's own limit is 8 KB."""
KEEPALIVE_PROBES = {"TCP_KEEPIDLE": 60, "TCP_KEEPALIVE": 60, "TCP_KEEPINTVL": 60, "TCP_KEEPCNT": 5}
"""Socket options with which a silent connection stays open in a NAT, as the SDK sets them for its httpx2 client
(`anthropic.DefaultAsyncHttpxClient`, 2.14)."""


class AiohttpClient(anthropic.DefaultAioHttpClient):
    """The SDK's aiohttp client, whose transports open their sessions with `_open_session`."""

    def _init_transport(self, *args: Any, **kwargs: Any) -> httpx2.AsyncBaseTransport:
        transport = super()._init_transport(*args, **kwargs)
        return transport if kwargs.get("transport") is transport else SessionTransport(transport)

    def _init_proxy_transport(self, *args: Any, **kwargs: Any) -> httpx2.AsyncBaseTransport:
        return SessionTransport(super()._init_proxy_transport(*args, **kwargs))


class SessionTransport(httpx2.AsyncBaseTransport):
    """A transport of the SDK's copy of httpx-aiohttp, with a session of ours."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self.limits: httpx2.Limits = transport.limits
        transport.client = partial(_open_session, transport)  # with the first request: it belongs to an event loop

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request. A password in its URL is in its header already, and aiohttp takes only one of both."""
        if request.url.userinfo:
            request.url = request.url.copy_with(username=None, password=None)
        response = await self._transport.handle_async_request(request)
        # The vendored stream has no other way to its response; one that is named otherwise is read without delays.
        body = getattr(getattr(response.stream, "_aiohttp_response", None), "content", None)
        if body is not None:
            response.extensions[END_CALLBACK] = body.on_eof
        return response

    async def aclose(self) -> None:
        """Close the connections."""
        await self._transport.aclose()


class LosslessResponse(aiohttp.ClientResponse):
    """A response whose body can be read up to the last byte that arrived."""

    async def start(self, connection: Connection) -> LosslessResponse:
        """Read the head of the response."""
        await super().start(connection)
        self.content = cast("aiohttp.StreamReader", LosslessReader(self.content))
        return self


class LosslessReader:
    """aiohttp's reader of a body, which also yields what arrived before the connection was lost.

    `StreamReader.read` raises the error of a lost connection although its buffer still holds bytes (3.14).
    """

    def __init__(self, reader: aiohttp.StreamReader) -> None:
        self._reader = reader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    async def iter_chunked(self, _size: int) -> AsyncGenerator[bytes]:
        """The body in pieces as they have arrived, of any size."""
        try:
            while chunk := await self._reader.readany():
                yield chunk
        except aiohttp.ClientError:
            # The only way to bytes behind an error; a test with a lost connection watches over it.
            rest = self._reader._read_nowait(-1)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
            if rest:
                yield rest
            raise


def _open_session(transport: Any) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(
        limit=transport.limits.max_connections,
        keepalive_timeout=transport.limits.keepalive_expiry,
        ssl=transport.ssl_context,
        socket_factory=_open_socket,
    )
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        response_class=LosslessResponse,
        max_line_size=MAX_HEADER_BYTES,
        max_field_size=MAX_HEADER_BYTES,
    )


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
