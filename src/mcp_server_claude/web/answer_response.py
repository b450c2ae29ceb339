"""The response that streams an answer to one reader."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from fastapi.responses import StreamingResponse

from mcp_server_claude.web.piece_writer import offered_piece_writer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping

    from starlette.types import Receive, Scope, Send

    from mcp_server_claude.calls.answer_feed import FeedEvent
    from mcp_server_claude.web.piece_writer import PieceWriter


class AnswerSender:
    """Encodes the events of an answer and sends them to one reader. `encode` returns nothing for what is not sent."""

    def __init__(self, encode: Callable[[FeedEvent], bytes]) -> None:
        self._encode = encode
        self._writer: PieceWriter | None = None

    def begin_body(self, writer: PieceWriter | None) -> None:
        """Send events from now on, at once if there is a writer."""
        self._writer = writer

    def send_now(self, event: FeedEvent) -> bool:
        """Send an event at once. False if its client does not take it now; then it is as if this was not called."""
        if self._writer is None or not self._writer.is_ready:
            return False
        if piece := self._encode(event):
            self._writer.write_now(piece)
        return True

    async def send_event(self, event: FeedEvent, send: Send) -> None:
        """Send an event as soon as its client takes it, by `send` if there is no writer."""
        piece = self._encode(event)
        if not piece:
            return
        if self._writer is None:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        else:
            await self._writer.write_when_ready(piece)


class AnswerResponse(StreamingResponse):
    """The answer for one reader. sse-starlette's response has a time limit, a ping and a shutdown of its own for each;
    the server and the feed have all three (`web.client_timeouts`, `calls.answer_feed`), at no cost for each event.
    """

    _writer: PieceWriter | None = None

    def __init__(
        self,
        feed: AsyncGenerator[FeedEvent],
        sender: AnswerSender,
        status_code: int = 200,  # FastAPI's documentation of a route takes it from here
        *,
        media_type: str,
        headers: Mapping[str, str],
    ) -> None:
        super().__init__((), status_code, headers, media_type)
        self._feed = feed
        self._sender = sender

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer until it ends or its client has left."""
        self._writer = offered_piece_writer(scope)
        await super().__call__(scope, receive, send)

    async def stream_response(self, send: Send) -> None:
        """Send the answer. The reader is gone from the feed as soon as this ends, also if its client has left."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        self._sender.begin_body(self._writer)
        async with aclosing(self._feed) as events:
            async for event in events:
                await self._sender.send_event(event, send)
        await send({"type": "http.response.body", "body": b"", "more_body": False})
