"""Writes the pieces of a streamed body to their connection, past the middleware and the messages of ASGI.

The middleware in front of the routes looks at the head of a response, and only passes its body on. Each piece of a
stream would go through six of them, which costs more than encoding it. So the server offers a writer in the scope, as
an extension of ASGI (its specification, "Extensions").
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from uvicorn.protocols.http.h11_impl import RequestResponseCycle

from mcp_server_claude.web.response_framing import StreamingConnection

if TYPE_CHECKING:
    from starlette.types import Scope, Send

EXTENSION = "mcp_server_claude.piece_writer"


class PieceWriter:
    """Writes pieces of the body of one response, whose head has been sent; none of them is the last."""

    def __init__(self, cycle: RequestResponseCycle, connection: StreamingConnection) -> None:
        """`cycle` is the request and its response as uvicorn has them, on this connection."""
        self._cycle = cycle
        self._connection = connection

    @property
    def is_ready(self) -> bool:
        """True if the client takes what it is sent, or has left."""
        return not self._cycle.flow.write_paused or self._cycle.disconnected

    def write_now(self, piece: bytes) -> None:
        """Write a piece, unless the client has left, or has another answer, e.g. 408 because its request came late."""
        cycle = self._cycle
        if cycle.response_started and not cycle.response_complete and not cycle.disconnected:
            cycle.transport.write(self._connection.frame_piece(piece))

    async def write_when_ready(self, piece: bytes) -> None:
        """Write a piece as soon as the client has taken most of what was written before."""
        while not self.is_ready:
            await self._cycle.flow.drain()
        self.write_now(piece)


def offer_piece_writer(scope: Scope, send: Send) -> Scope:
    """The scope with the extension, if `send` is that of uvicorn's `RequestResponseCycle`, whose method it is."""
    cycle = getattr(send, "__self__", None)
    if not isinstance(cycle, RequestResponseCycle) or not isinstance(cycle.conn, StreamingConnection):
        return scope
    writer = PieceWriter(cycle, cycle.conn)
    return {**scope, "extensions": {**_extensions(scope), EXTENSION: writer}}


def remove_piece_writer(scope: Scope) -> Scope:
    """The scope without the extension, for a response of which not all is sent."""
    return {**scope, "extensions": {name: value for name, value in _extensions(scope).items() if name != EXTENSION}}


def offered_piece_writer(scope: Scope) -> PieceWriter | None:
    """The writer for the response to this request, if the server offers one."""
    return cast("PieceWriter | None", _extensions(scope).get(EXTENSION))


def _extensions(scope: Scope) -> dict[str, object]:
    return cast("dict[str, object] | None", scope.get("extensions")) or {}
