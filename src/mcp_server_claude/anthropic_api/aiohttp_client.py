"""The SDK's aiohttp client, held to what its default client promises.

aiohttp parses HTTP in C, which costs a quarter of httpx2's parser for each event of a paced stream (benchmarks/, row
"CPU per delta, every event a write"). The SDK wraps it in the interface of httpx2 (`anthropic.DefaultAioHttpClient`).
Differences to httpx2 are made good here and in `aiohttp_connector`, by parameters of `aiohttp.ClientSession`:

* A connection that is lost hides the bytes that arrived before the loss and were not read yet.
* Cookies are kept between requests, a second time beside httpx2's.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, cast

import aiohttp
import anthropic
import httpx2

from mcp_server_claude.anthropic_api.aiohttp_connector import LimitedConnector
from mcp_server_claude.anthropic_api.read_coalescing import END_CALLBACK
from mcp_server_claude.anthropic_api.response_body import READ_ARRIVED

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from aiohttp.connector import Connection

MAX_HEADER_BYTES = 64 * 1024
"""Bytes of one response header, as of all of them in h11; aiohttp's own limit is 8 KB."""


class AiohttpClient(anthropic.DefaultAioHttpClient):
    """The SDK's aiohttp client, whose transports open their sessions with `_open_session`."""

    def __init__(self, *, timeout: httpx2.Timeout, **options: Any) -> None:
        self._write_timeout_s = timeout.write
        super().__init__(timeout=timeout, **options)

    def _init_transport(self, *args: Any, **kwargs: Any) -> httpx2.AsyncBaseTransport:
        transport = super()._init_transport(*args, **kwargs)
        if kwargs.get("transport") is transport:
            return transport
        return SessionTransport(transport, self._write_timeout_s)

    def _init_proxy_transport(self, *args: Any, **kwargs: Any) -> httpx2.AsyncBaseTransport:
        return SessionTransport(super()._init_proxy_transport(*args, **kwargs), self._write_timeout_s)


class SessionTransport(httpx2.AsyncBaseTransport):
    """A transport of the SDK's copy of httpx-aiohttp, with a session of ours."""

    def __init__(self, transport: Any, write_timeout_s: float | None) -> None:
        self._transport = transport
        self.limits: httpx2.Limits = transport.limits
        # With the first request, since it belongs to an event loop.
        transport.client = partial(_open_session, transport, write_timeout_s)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request. A password in its URL is in its header already, and aiohttp takes only one of both."""
        if request.url.userinfo:
            request.url = request.url.copy_with(username=None, password=None)
        response = await self._transport.handle_async_request(request)
        # The vendored stream has no other way to its response; one that is named otherwise is read without delays.
        body = getattr(getattr(response.stream, "_aiohttp_response", None), "content", None)
        if body is not None:
            response.extensions[END_CALLBACK] = body.on_eof
            response.extensions[READ_ARRIVED] = body.readany
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


def _open_session(transport: Any, write_timeout_s: float | None) -> aiohttp.ClientSession:
    limits = transport.limits
    connector = LimitedConnector(
        max_connections=limits.max_connections,
        max_idle=limits.max_keepalive_connections,
        idle_ttl_s=limits.keepalive_expiry,
        write_timeout_s=write_timeout_s,
        context=transport.ssl_context,
    )
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        response_class=LosslessResponse,
        max_line_size=MAX_HEADER_BYTES,
        max_field_size=MAX_HEADER_BYTES,
    )
