"""Timeouts for slow clients: on a request's head, on its body, and on a client that does not read the response.

What is not HTTP is refused here too.
"""

from __future__ import annotations

import logging
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, cast

import anyio
import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from mcp_server_claude.errors import RequestError
from mcp_server_claude.web import error_responses
from mcp_server_claude.web.connection_limit import WaitingConnections
from mcp_server_claude.web.interval_log import IntervalLog
from mcp_server_claude.web.piece_writer import offer_piece_writer
from mcp_server_claude.web.response_framing import StreamingConnection

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from fastapi import FastAPI
    from fastapi.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send
    from uvicorn.server import ServerState

    from mcp_server_claude.settings import Settings

REQUEST_HEAD_TIMEOUT_S = 15.0
"""Seconds for a request's head to arrive; on a new connection also for it to begin."""
KEEP_ALIVE_TIMEOUT_S = 30
"""Seconds that an idle connection is kept open for the next request."""
MIN_BODY_BYTES_PER_S = 64 * 1024
"""Bytes a second above which a long body is no attack: each extends the body's deadline."""
UNREAD_BODY_BYTES = 64 * 1024
"""The longest announced body that is read before a response to which it did not matter, e.g. 401."""
UNREAD_BODY_TIMEOUT_S = 2.0
"""Seconds that such a response waits for the body."""
CLIENT_ERRORS = logging.getLogger("uvicorn.error.client")
"""uvicorn's warnings on what clients send: a client could fill the log with them."""
CLIENT_ERRORS.setLevel(logging.ERROR)

_invalid_requests = IntervalLog(logging.getLogger(__name__))


class ServerConfig(uvicorn.Config):
    """uvicorn's configuration: h11, no logging of its own, and only the operator's trusted proxies."""

    def __init__(
        self, app: FastAPI, settings: Settings, *, on_connection_lost: Callable[[], None] = lambda: None
    ) -> None:
        self.head_timeout_s = REQUEST_HEAD_TIMEOUT_S
        self.write_timeout_s = settings.write_timeout_s
        self.on_connection_lost = on_connection_lost
        self.waiting_connections = WaitingConnections()
        super().__init__(
            BodyTimeoutMiddleware(app, settings.body_timeout_s),
            http=TimeoutProtocol,
            ws="none",
            lifespan="off",  # `run_http_server` runs it, so that a failure there is an exception and not an exit
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=bool(settings.trusted_proxies),
            forwarded_allow_ips=list(settings.trusted_proxies),
            timeout_keep_alive=KEEP_ALIVE_TIMEOUT_S,
        )


class TimeoutProtocol(H11Protocol):
    """A connection that is aborted if a request's head does not arrive, or the client reads nothing, for too long."""

    _head_timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.conn = StreamingConnection(h11.SERVER)  # with h11's limit on a head, as uvicorn's

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - as uvicorn has it
        """Start the timer for the first request's head."""
        super().connection_made(transport)
        self.logger = CLIENT_ERRORS
        self.server, self.client = _without_ipv4_mapping(self.server), _without_ipv4_mapping(self.client)
        self._start_head_timer()

    def data_received(self, data: bytes) -> None:
        """Stop the head timer once the head is complete; start it for a further request of which a part is here."""
        _update_date_header(self.server_state, self.config)
        super().data_received(data)
        cycle = cast("object | None", self.cycle)
        if cycle is not None and not self.cycle.response_complete:
            self._head_timer = _cancel_timer(self._head_timer)
            self._waiting_connections.end_waiting(self.transport)
        elif self._head_timer is None:
            self._start_head_timer()

    def on_response_complete(self) -> None:
        """Wait for the next request, unless it is here already."""
        super().on_response_complete()
        if self.cycle.response_complete and not self.transport.is_closing():
            self._waiting_connections.begin_waiting(self.transport)

    def pause_writing(self) -> None:
        """Start the timer of a client that does not read."""
        super().pause_writing()
        if self._write_timer is None:
            seconds = cast("ServerConfig", self.config).write_timeout_s
            self._write_timer = self.loop.call_later(seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Stop the timer: the client has read most of what was sent."""
        super().resume_writing()
        self._write_timer = _cancel_timer(self._write_timer)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timers and return the connection's slot."""
        super().connection_lost(exc)
        self._head_timer, self._write_timer = _cancel_timer(self._head_timer), _cancel_timer(self._write_timer)
        self._waiting_connections.end_waiting(self.transport)
        cast("ServerConfig", self.config).on_connection_lost()

    @property
    def _waiting_connections(self) -> WaitingConnections:
        return cast("ServerConfig", self.config).waiting_connections

    def _start_head_timer(self) -> None:
        self._waiting_connections.begin_waiting(self.transport)
        seconds = cast("ServerConfig", self.config).head_timeout_s
        self._head_timer = self.loop.call_later(seconds, self.transport.abort)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP, and close the connection. After a response has begun it is only closed."""
        _invalid_requests.warning("A client sent what is not HTTP/1.1, and was disconnected.")
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            super().send_400_response(msg)
        self.transport.close()

    def _unsupported_upgrade_warning(self) -> None:
        """Ignore the wish for another protocol, as RFC 9110, 7.8 allows."""


class BodyTimeoutMiddleware:
    """Answers 408 if a request's body does not arrive in time. Plain ASGI, around the whole app.

    A short body that the app did not read is read before the response. Proxies that pass on a body while they already
    receive the response can lose the response: Caddy did.
    """

    def __init__(self, app: ASGIApp, timeout_s: float) -> None:
        self._app = app
        self._timeout_s = timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and its body as it arrives."""
        deadline = anyio.current_time() + self._timeout_s
        is_complete = is_late = has_response = False

        async def receive_in_time() -> Message:
            nonlocal deadline, is_complete, is_late
            if is_complete or is_late:
                return await receive()
            message: Message = {"type": "http.disconnect"}  # for the app, if the time is up
            with anyio.CancelScope(deadline=deadline) as scope_until_deadline:
                message = await receive()
                deadline += len(message.get("body", b"")) / MIN_BODY_BYTES_PER_S
                is_complete = not message.get("more_body", False)
            if scope_until_deadline.cancelled_caught and not is_late:  # two tasks of a response can wait here
                is_late = True
                if not has_response:
                    await _body_timeout_response()(scope, receive, send)
            return message

        async def send_unless_late(message: Message) -> None:
            nonlocal has_response
            if not has_response and not is_complete and _has_short_body(scope):
                with anyio.move_on_after(UNREAD_BODY_TIMEOUT_S):
                    while not is_complete and not is_late:
                        await receive_in_time()
            if has_response or not is_late:
                has_response = True
                await send(message)

        await self._app(offer_piece_writer(scope, send), receive_in_time, send_unless_late)


def _has_short_body(scope: Scope) -> bool:
    """True if a request announces a body of a known and small length, and waits for no permission to send it."""
    headers = dict(cast("list[tuple[bytes, bytes]]", scope["headers"])) if scope["type"] == "http" else {}
    length = headers.get(b"content-length", b"0")
    is_short = length.isdigit() and 0 < int(length[:20]) <= UNREAD_BODY_BYTES
    return is_short and b"expect" not in headers and b"transfer-encoding" not in headers


def _without_ipv4_mapping(address: tuple[str, int] | tuple[str, int | None] | None) -> tuple[str, int] | None:
    """An IPv4 address as such; a dual-stack socket reports it as `::ffff:127.0.0.1`."""
    if address is None:
        return None
    host, port = address
    return host.removeprefix("::ffff:") if "." in host else host, cast("int", port)


def _update_date_header(state: ServerState, config: uvicorn.Config) -> None:
    """Set the Date header of the next response (RFC 9110, 6.6.1), in place of a timer that runs without requests."""
    date = (b"date", formatdate(usegmt=True).encode())
    if state.default_headers[:1] != [date]:
        state.default_headers = [date, *config.encoded_headers]


def _cancel_timer(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


def _body_timeout_response() -> Response:
    response = error_responses.error_response(
        RequestError("The request's body arrived too slowly.", kind="body_timeout")
    )
    response.headers["Connection"] = "close"
    return response
