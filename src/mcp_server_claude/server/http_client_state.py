"""The HTTP request that a call came by, as far as the call must know of it: is its client still there, does it read?"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, cast

import anyio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Mapping


class SdkHttpRequest(Protocol):
    """The HTTP request that the SDK passes on: Starlette's, of which only the scope is used."""

    @property
    def scope(self) -> Mapping[str, object]:
        """The ASGI scope; in its `state` is what the HTTP server found out."""
        ...


class HttpRequestState:
    """One HTTP request: over when its client has gone or it has been answered, free while no bytes wait to be read.

    `send_body` sends a part of the response's body (ASGI).
    """

    def __init__(self, send_body: Callable[[bytes], Awaitable[None]] | None = None) -> None:
        self._send_body = send_body
        self.bytes_taken = 0
        self._is_over = False
        self._cancel_scopes: set[anyio.CancelScope] = set()
        self._pending_writes = 0
        self._all_read = anyio.Event()
        self._is_event_stream = True
        self._has_begun = anyio.Event()

    @contextmanager
    def cancel_scope(self) -> Generator[anyio.CancelScope]:
        """A scope that is cancelled as soon as the request is over."""
        with anyio.CancelScope() as scope:
            self._cancel_scopes.add(scope)
            if self._is_over:
                scope.cancel()
            try:
                yield scope
            finally:
                self._cancel_scopes.discard(scope)

    def end_request(self) -> None:
        """The request is over: the work for it has no reader any more."""
        self._is_over = True
        for scope in self._cancel_scopes:
            scope.cancel()

    @contextmanager
    def track_write(self) -> Generator[None]:
        """While the block runs, what was sent may wait for the client to read."""
        self._pending_writes += 1
        try:
            yield
        finally:
            self._pending_writes -= 1
            if not self._pending_writes:
                self._all_read.set()
                self._all_read = anyio.Event()

    async def wait_until_read(self) -> None:
        """Wait until the client has taken what was sent so far."""
        while self._pending_writes:
            await self._all_read.wait()

    def begin_response(self, *, is_event_stream: bool) -> None:
        """Note that the head of the response, or the first event of its stream, was sent."""
        self._is_event_stream = is_event_stream
        self._has_begun.set()

    async def wait_until_open(self) -> bool:
        """Wait until the first event of the response was sent; False if the response is no stream of events."""
        if self._send_body is None:
            return False
        await self._has_begun.wait()
        return self._is_event_stream

    async def write_message(self, message: bytes) -> None:
        """Send a JSON-RPC message as an event of the response's stream, after what the client has yet to read."""
        await self.wait_until_read()
        if self._send_body is not None:
            with self.track_write():
                await self._send_body(b"event: message\r\ndata: %b\r\n\r\n" % message)
            self.bytes_taken += len(message)


def http_request_state(request: object) -> HttpRequestState | None:
    """The leg that a request of the SDK's came by; None over stdio."""
    return cast("HttpRequestState | None", _asgi_state(request).get("http_request"))


def authenticated_user(request: object) -> object:
    """The user that `AuthMiddleware` authenticated. An unauthenticated request here is a bug."""
    return _asgi_state(request)["user"]


def _asgi_state(request: object) -> Mapping[str, object]:
    return {} if request is None else cast("Mapping[str, object]", cast("SdkHttpRequest", request).scope["state"])
