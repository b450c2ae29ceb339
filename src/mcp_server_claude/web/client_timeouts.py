"""Clients that do not get to the point: limits on how long a request's head and body may take, and on not reading."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import anyio
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from mcp_server_claude.errors import RequestError
from mcp_server_claude.web import error_responses

if TYPE_CHECKING:
    import asyncio

    from fastapi import FastAPI
    from fastapi.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from mcp_server_claude.settings import Settings

REQUEST_HEAD_TIMEOUT_S = 15.0
"""Seconds that a request's head may take to arrive, the first on a connection also to begin."""
KEEP_ALIVE_TIMEOUT_S = 30
"""Seconds that a connection is kept for a next request."""
MIN_BODY_BYTES_PER_S = 64 * 1024
"""Bytes a second of a long body that are no attack."""


class ServerConfig(uvicorn.Config):
    """How uvicorn serves the app: quietly, over h11, believing only the proxies that the operator trusts."""

    def __init__(self, app: FastAPI, settings: Settings) -> None:
        self.head_timeout_s = REQUEST_HEAD_TIMEOUT_S
        self.write_timeout_s = settings.write_timeout_s
        super().__init__(
            BodyTimeoutMiddleware(app, settings.body_timeout_s),
            http=TimeoutProtocol,
            ws="none",
            lifespan="off",  # `serve.listening` runs it, so that a failure there is an exception and not an exit
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=bool(settings.trusted_proxies),
            forwarded_allow_ips=list(settings.trusted_proxies),
            timeout_keep_alive=KEEP_ALIVE_TIMEOUT_S,
        )


class TimeoutProtocol(H11Protocol):
    """A connection that is hung up on when a request's head does not come, or nothing is read, for too long."""

    _head_timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - as uvicorn has it
        """A client has connected."""
        super().connection_made(transport)
        self.server, self.client = _without_ipv4_mapping(self.server), _without_ipv4_mapping(self.client)
        self._start_head_timer()

    def data_received(self, data: bytes) -> None:
        """Some of a request has come."""
        super().data_received(data)
        cycle = cast("object | None", self.cycle)
        if cycle is not None and not self.cycle.response_complete:
            self._head_timer = _cancel_timer(self._head_timer)
        elif self._head_timer is None:  # of a further request only a part is here
            self._start_head_timer()

    def pause_writing(self) -> None:
        """The client does not take what is sent."""
        super().pause_writing()
        if self._write_timer is None:
            seconds = cast("ServerConfig", self.config).write_timeout_s
            self._write_timer = self.loop.call_later(seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """The client has taken most of what was sent."""
        super().resume_writing()
        self._write_timer = _cancel_timer(self._write_timer)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is over."""
        super().connection_lost(exc)
        self._head_timer, self._write_timer = _cancel_timer(self._head_timer), _cancel_timer(self._write_timer)

    def _start_head_timer(self) -> None:
        self._head_timer = self.loop.call_later(cast("ServerConfig", self.config).head_timeout_s, self.transport.abort)


class BodyTimeoutMiddleware:
    """Answers 408 where a request's body does not arrive in time. Plain ASGI, around the whole app."""

    def __init__(self, app: ASGIApp, timeout_s: float) -> None:
        self._app = app
        self._timeout_s = timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and its body as it comes."""
        deadline = anyio.current_time() + self._timeout_s
        complete = late = begun = False

        async def timely() -> Message:
            nonlocal deadline, complete, late
            if complete or late:
                return await receive()
            message: Message = {"type": "http.disconnect"}  # what the app is told when time is up
            with anyio.CancelScope(deadline=deadline) as waiting:
                message = await receive()
                deadline += len(message.get("body", b"")) / MIN_BODY_BYTES_PER_S
                complete = not message.get("more_body", False)
            if waiting.cancelled_caught:
                late = True
                if not begun:
                    await _body_timeout_response()(scope, receive, send)
            return message

        async def telling(message: Message) -> None:
            nonlocal begun
            if begun or not late:
                begun = True
                await send(message)

        await self._app(scope, timely, telling)


def _without_ipv4_mapping(address: tuple[str, int] | tuple[str, int | None] | None) -> tuple[str, int] | None:
    """An IPv4 address as such, which a socket for both kinds tells as `::ffff:127.0.0.1`."""
    if address is None:
        return None
    host, port = address
    return host.removeprefix("::ffff:") if "." in host else host, cast("int", port)


def _cancel_timer(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


def _body_timeout_response() -> Response:
    response = error_responses.error_response(RequestError("The request's body came too slowly.", kind="body_timeout"))
    response.headers["Connection"] = "close"
    return response
