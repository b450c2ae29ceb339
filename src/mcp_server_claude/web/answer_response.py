"""The response that streams an answer to one reader.

The middleware in front of the routes looks at the head of a response, and only passes its body on. Each piece of a
stream would go through six of them, which costs more than encoding it. So the outermost one offers the server's own
`send` in the scope, as an extension of ASGI (its specification, "Extensions").
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, cast

from fastapi.responses import StreamingResponse

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.types import Receive, Scope, Send

SEND_PIECE = "mcp_server_claude.send_piece"
"""The extension: sends a piece of a body whose head has been sent, and which is not the last."""


def offer_send_piece(scope: Scope, send: Send) -> Scope:
    """The scope with the extension."""
    return {**scope, "extensions": {**_extensions(scope), SEND_PIECE: send}}


def remove_send_piece(scope: Scope) -> Scope:
    """The scope without the extension, for a response of which not all is sent."""
    return {**scope, "extensions": {name: value for name, value in _extensions(scope).items() if name != SEND_PIECE}}


class AnswerResponse(StreamingResponse):
    """The answer for one reader. sse-starlette's response has a time limit, a ping and a shutdown of its own for each;
    the server and the feed have all three (`web.client_timeouts`, `calls.answer_feed`), at no cost for each event.
    """

    _send_piece: Send | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer until it ends or its client has left."""
        self._send_piece = cast("Send | None", _extensions(scope).get(SEND_PIECE))
        await super().__call__(scope, receive, send)

    async def stream_response(self, send: Send) -> None:
        """Send the answer. The reader is gone from the feed as soon as this ends, also if its client has left."""
        send_piece = self._send_piece or send
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async with aclosing(cast("AsyncGenerator[bytes]", self.body_iterator)) as pieces:
            async for piece in pieces:
                await send_piece({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _extensions(scope: Scope) -> dict[str, object]:
    return cast("dict[str, object] | None", scope.get("extensions")) or {}
