"""HEAD requests: the status and headers of the GET request of the same address, without a body (RFC 9110, 9.3.2).

Load balancers and link checkers send them. Plain ASGI, before authentication, so that a page redirects to the sign-in
as for GET.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcp_server_claude.web.piece_writer import remove_piece_writer

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

GET_STREAM_PATHS = frozenset({"/mcp"})
"""Routes whose GET opens the one event stream of a session, which a HEAD request would take from its client."""


class HeadMiddleware:
    """Answers HEAD by the route of GET. The response is complete with its headers, so that no event stream is read."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; one for the headers alone as GET."""
        if scope["type"] != "http" or scope["method"] != "HEAD" or scope["path"] in GET_STREAM_PATHS:
            await self._app(scope, receive, send)
            return

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                await send({"type": "http.response.body"})  # from here on `receive` reports a disconnect

        await self._app({**remove_piece_writer(scope), "method": "GET"}, receive, send_head)
