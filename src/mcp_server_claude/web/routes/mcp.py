"""MCP over Streamable HTTP, at `/mcp`: stateful event streams for 2025-11-25, single exchanges for 2026-07-28.

The SDK (2.3) leaves gaps that are closed here. In 2025-11-25 it lets calls continue when their client has disconnected,
and one client that does not read blocks all calls of its session: each request has a `HttpRequestState` from which the
tools learn both. A lone surrogate in a request is an error there and passed on in 2026-07-28; it is replaced before the
SDK sees it.

`SecurityMiddleware` and `AuthMiddleware` run before this endpoint, so Host, Origin and user are already checked.
"""

from __future__ import annotations

import json
import re
from contextlib import asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, cast

import anyio
import anyio.to_thread
from mcp.server.auth.middleware.auth_context import AuthContextMiddleware
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.subscriptions import ListenHandler
from mcp.server.transport_security import TransportSecuritySettings
from mcp.types import INVALID_REQUEST, jsonrpc_message_adapter
from pydantic import ValidationError
from starlette.responses import JSONResponse
from starlette.routing import Route

from mcp_server_claude.lone_surrogates import replace_lone_surrogates
from mcp_server_claude.server.http_client_state import HttpRequestState
from mcp_server_claude.server.large_messages import release_after_sending
from mcp_server_claude.server.mcp_server import build_mcp_server
from mcp_server_claude.web.middleware.buffered_body import MAX_UNCHECKED_BYTES, read_body, replay_body
from mcp_server_claude.web.tracing import use_http_trace_context

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

    from starlette.types import Message, Receive, Scope, Send

    from mcp_server_claude.server.mcp_server import McpServerFactory
    from mcp_server_claude.services.service_access import ServiceAccess
    from mcp_server_claude.settings import Settings

MAX_SESSIONS = 2_000
"""Concurrent sessions of 2025-11-25, 39 KB each when idle (measured); an unused one expires after half an hour."""
INVALID_ID = "Invalid Request: an id is a string or an integer."
BATCH = "Invalid Request: batches are not taken."
NO_MESSAGE = "Invalid Request: not a JSON-RPC 2.0 message."
ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class McpEndpoint:
    """The ASGI endpoint of `/mcp`. It serves while `lifespan` runs."""

    def __init__(
        self, settings: Settings, services: ServiceAccess, *, build_server: McpServerFactory = build_mcp_server
    ) -> None:
        mcp = build_server(settings, lambda _: nullcontext(services))
        mcp.middleware.insert(0, use_http_trace_context)  # before the SDK's own, which creates the span
        low = mcp._lowlevel_server  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - the only way in (pinned: mcp~=2.3)
        listen = low.get_request_handler("subscriptions/listen")
        self._listen_handler = cast("ListenHandler", listen.handler) if listen is not None else None
        self._manager = StreamableHTTPSessionManager(
            low,
            # `SecurityMiddleware` checks Host and Origin; the SDK's check does not know the addresses behind 0.0.0.0.
            security_settings=TransportSecuritySettings(enable_dns_rebinding_protection=False),
            max_request_body_size=settings.max_body_bytes,
            max_sessions=MAX_SESSIONS,
        )
        self._sdk_app = AuthContextMiddleware(self._manager.asgi_app)  # for the SDK's `get_access_token()`
        self._idle_streams: set[anyio.CancelScope] = set()
        self.routes = [Route("/mcp", self)]

    @asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None]:
        """Serve while the block runs; leaving it cancels the requests that are still running."""
        async with self._manager.run():
            yield

    @property
    def idle_stream_count(self) -> int:
        """The number of open GET streams, on which clients of 2025-11-25 wait for server messages."""
        return len(self._idle_streams)

    def close_subscriptions(self) -> None:
        """End the subscription streams of 2026-07-28 as the protocol demands, with a final response."""
        if self._listen_handler is not None:
            self._listen_handler.close()

    def close_idle_streams(self) -> None:
        """End the GET streams of 2025-11-25."""
        for scope in self._idle_streams:
            scope.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        state = HttpRequestState(lambda data: send({"type": "http.response.body", "body": data, "more_body": True}))
        scope["state"]["http_request"] = state
        try:
            match scope["method"]:
                case "POST":
                    body = await read_body(receive)
                    if body is None:
                        return
                    body = await _repair_body(body)
                    if error := _check_message(body):
                        await JSONResponse(error, status_code=400)(scope, receive, send)
                        return
                    receive_again = _end_on_disconnect(replay_body(body, receive), state)
                    await self._sdk_app(scope, receive_again, _track_writes(send, state))
                case "GET":
                    await self._serve_event_stream(scope, _end_on_disconnect(receive, state), send)
                case _:
                    await self._sdk_app(scope, receive, send)
        finally:
            state.end_request()

    async def _serve_event_stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a GET stream. `close_idle_streams` ends it with a complete HTTP response."""
        has_started = has_ended = False

        async def send_and_record(message: Message) -> None:
            nonlocal has_started, has_ended
            has_started = True
            await send(message)
            has_ended = message["type"] == "http.response.body" and not message.get("more_body", False)

        with anyio.CancelScope() as stream_scope:
            self._idle_streams.add(stream_scope)
            try:
                await self._sdk_app(scope, receive, send_and_record)
            finally:
                self._idle_streams.discard(stream_scope)
        if has_started and not has_ended:
            await send({"type": "http.response.body", "body": b"", "more_body": False})


def _check_message(body: bytes) -> dict[str, object] | None:
    """The error for a body that is JSON and no message, which the SDK answers with the text of its validator.

    A request whose id is null, a fraction or a boolean would be taken for a notification and never be answered
    (https://modelcontextprotocol.io/specification/2025-11-25/basic, "Requests").
    """
    if body.lstrip()[:1] == b"[":
        return _request_error(BATCH)
    if len(body) >= MAX_UNCHECKED_BYTES:
        return None
    try:
        content: object = json.loads(body.decode())  # of bytes it would take other encodings and lone surrogates
    except (ValueError, RecursionError):
        return None  # the SDK reports it
    fields = cast("dict[str, object]", content) if isinstance(content, dict) else {}
    identity = fields.get("id")
    is_valid_id = isinstance(identity, (int, str)) and not isinstance(identity, bool)
    if "method" in fields and "id" in fields and not is_valid_id:
        return _request_error(INVALID_ID)
    try:
        jsonrpc_message_adapter.validate_python(content, by_name=False)
    except ValidationError:
        return _request_error(NO_MESSAGE, identity if is_valid_id else None)
    return None


def _request_error(message: str, identity: object = None) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": identity, "error": {"code": INVALID_REQUEST, "message": message}}


async def _repair_body(body: bytes) -> bytes:
    """The body with its lone surrogates replaced, on a thread if it is long."""
    if not ESCAPED_SURROGATE.search(body):
        return body
    return (
        repair_json_surrogates(body)
        if len(body) < MAX_UNCHECKED_BYTES
        else await anyio.to_thread.run_sync(repair_json_surrogates, body)
    )


def repair_json_surrogates(body: bytes) -> bytes:
    """JSON with the lone surrogates of its strings replaced, as over stdio. Invalid JSON is returned unchanged."""
    try:
        return replace_lone_surrogates(json.dumps(json.loads(body), ensure_ascii=False)).encode()
    except (ValueError, RecursionError):
        return body


def _end_on_disconnect(receive: Receive, state: HttpRequestState) -> Receive:
    """A `receive` that ends the request's state when the client disconnects."""

    async def receive_message() -> Message:
        message = await receive()
        if message["type"] == "http.disconnect":
            state.end_request()
        return message

    return receive_message


def _track_writes(send: Send, state: HttpRequestState) -> Send:
    """A `send` that records in the request's state how far the response is, and whether it waits to be read."""
    is_event_stream = False

    async def send_message(message: Message) -> None:
        nonlocal is_event_stream
        if message["type"] == "http.response.start":
            headers = dict(cast("Iterable[tuple[bytes, bytes]]", message.get("headers", ())))
            is_event_stream = headers.get(b"content-type", b"").startswith(b"text/event-stream")
        with state.track_write():
            await send(message)
        release_after_sending(len(message.get("body", b"")))
        if not is_event_stream or message.get("body"):
            state.begin_response(is_event_stream=is_event_stream)

    return send_message
