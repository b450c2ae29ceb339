"""MCP over Streamable HTTP, at `/mcp`: stateful event streams for 2025-11-25, single exchanges for 2026-07-28.

The SDK (2.3) leaves gaps that are closed here. In 2025-11-25 it lets calls run on when their client has gone, and one
client that does not read holds up all calls of its session: every request has a `HttpRequestState` that tells the
tools about both.
A lone surrogate in a request is refused there and handed on in 2026-07-28: it is mended before the SDK sees it.

`watch_stream` and `auth` come before this door: who is not known, has the wrong Host or a foreign Origin never
gets here.
"""

from __future__ import annotations

import json
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

import anyio
import anyio.to_thread
from mcp.server.auth.middleware.auth_context import AuthContextMiddleware
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.subscriptions import ListenHandler
from mcp.server.transport_security import TransportSecuritySettings
from starlette.routing import Route

from mcp_server_claude.lone_surrogates import replace_lone_surrogates
from mcp_server_claude.server import mcp_server
from mcp_server_claude.server.http_client_state import HttpRequestState
from mcp_server_claude.web.middleware.buffered_body import MAX_UNCHECKED_BYTES, read_body, replay_body
from mcp_server_claude.web.tracing import use_http_trace_context

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.types import Message, Receive, Scope, Send

    from mcp_server_claude.services.lazy_services import Services
    from mcp_server_claude.settings import Settings

MAX_SESSIONS = 2_000
"""Sessions of 2025-11-25 at once, 39 KB each when idle (measured); one that nobody uses ends after half an hour."""
ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class McpEndpoint:
    """The `/mcp` route. It serves while `running`."""

    def __init__(self, settings: Settings, services: Services) -> None:
        mcp = mcp_server.build_mcp_server(settings, services)
        mcp.middleware.insert(0, use_http_trace_context)  # outside of the SDK's own, which makes the span
        low = mcp._lowlevel_server  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - the only way in (pinned: mcp~=2.3)
        listen = low.get_request_handler("subscriptions/listen")
        self._listen_handler = cast("ListenHandler", listen.handler) if listen is not None else None
        self._manager = StreamableHTTPSessionManager(
            low,
            # `watch_stream` checks Host and Origin on every route; the SDK's check does not know the addresses
            # behind 0.0.0.0.
            security_settings=TransportSecuritySettings(enable_dns_rebinding_protection=False),
            max_request_body_size=settings.max_body_bytes,
            max_sessions=MAX_SESSIONS,
        )
        self._sdk_app = AuthContextMiddleware(self._manager.asgi_app)  # for the SDK's `get_access_token()`
        self._idle_streams: set[anyio.CancelScope] = set()
        self.routes = [Route("/mcp", self)]

    @asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None]:
        """Serve while the block runs; what is still running at its end is cancelled."""
        async with self._manager.run():
            yield

    @property
    def idle_stream_count(self) -> int:
        """Open requests that nobody works for: streams on which a client of 2025-11-25 waits for news."""
        return len(self._idle_streams)

    def close_subscriptions(self) -> None:
        """End the streams on which clients of 2026-07-28 wait for news, as the protocol says goodbye."""
        if self._listen_handler is not None:
            self._listen_handler.close()

    def close_idle_streams(self) -> None:
        """End the streams on which clients of 2025-11-25 wait for news."""
        for scope in self._idle_streams:
            scope.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        leg = HttpRequestState()
        scope["state"]["leg"] = leg
        try:
            match scope["method"]:
                case "POST":
                    if (body := await read_body(receive)) is not None:
                        again = replay_body(await _repair_body(body), receive)
                        await self._sdk_app(scope, _on_disconnect(again, leg), _tracking_writes(send, leg))
                case "GET":
                    await self._serve_event_stream(scope, _on_disconnect(receive, leg), send)
                case _:
                    await self._sdk_app(scope, receive, send)
        finally:
            leg.end_request()

    async def _serve_event_stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A stream that is idle for most of its life; `hang_up` ends it as it would end by itself."""
        begun = ended = False

        async def noting(message: Message) -> None:
            nonlocal begun, ended
            begun = True
            await send(message)
            ended = message["type"] == "http.response.body" and not message.get("more_body", False)

        with anyio.CancelScope() as waiting:
            self._idle_streams.add(waiting)
            try:
                await self._sdk_app(scope, receive, noting)
            finally:
                self._idle_streams.discard(waiting)
        if begun and not ended:
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _repair_body(body: bytes) -> bytes:
    """A body as the SDK can take it."""
    if not ESCAPED_SURROGATE.search(body):
        return body
    return (
        repair_json_surrogates(body)
        if len(body) < MAX_UNCHECKED_BYTES
        else await anyio.to_thread.run_sync(repair_json_surrogates, body)
    )


def repair_json_surrogates(body: bytes) -> bytes:
    """JSON whose texts hold no lone surrogates, as over stdio; what is no JSON stays as it is: the SDK refuses it."""
    try:
        return replace_lone_surrogates(json.dumps(json.loads(body), ensure_ascii=False)).encode()
    except (ValueError, RecursionError):
        return body


def _on_disconnect(receive: Receive, http_state: HttpRequestState) -> Receive:
    """The request's messages; the leg ends when the client goes."""

    async def watching() -> Message:
        message = await receive()
        if message["type"] == "http.disconnect":
            http_state.end_request()
        return message

    return watching


def _tracking_writes(send: Send, http_state: HttpRequestState) -> Send:
    """The response's messages; the leg knows while one of them waits for its reader."""

    async def telling(message: Message) -> None:
        with http_state.track_write():
            await send(message)

    return telling
