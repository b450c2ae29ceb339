"""Bodies that are read whole before the app takes them apart, so that none of them holds up everybody else.

What a caller sends is long because of a text or a file in it, and a text is taken apart at once. Millions of small
values are not: the interpreter is busy with them for half a minute, on whatever thread, and no stream goes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio.to_thread

from mcp_server_claude.errors import RequestError
from mcp_server_claude.web import error_responses

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_UNCHECKED_BYTES = 256 * 1024
"""Bytes of JSON that are taken apart in a few milliseconds, whatever they hold."""
BUFFERED_PATHS = frozenset({"/chat", "/mcp"})
"""Those that take what may be long."""
MAX_JSON_VALUES = 200_000
"""Values that a longer request may hold; the largest that makes sense, a schema with files, has far fewer."""


class BufferedBodyMiddleware:
    """Hands the app the body of a POST in one piece, unless it holds too many values. Plain ASGI, behind `auth`: of
    strangers nothing is kept in memory.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] not in BUFFERED_PATHS:
            await self._app(scope, receive, send)
            return
        body = await read_body(receive)
        if body is None:
            return
        if len(body) > MAX_UNCHECKED_BYTES and await anyio.to_thread.run_sync(has_too_many_values, body):
            many = RequestError(f"The request holds more than {MAX_JSON_VALUES:,} values.", kind="too_large")
            await error_responses.error_response(many)(scope, receive, send)
            return
        await self._app(scope, replay_body(body, receive), send)


async def read_body(receive: Receive) -> bytes | None:
    """The whole body of a request; None where the client has gone in the middle of it."""
    pieces: list[bytes] = []
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        pieces.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(pieces)


def replay_body(body: bytes, receive: Receive) -> Receive:
    """A request's messages once its body has been read: the body, and what came after it."""
    unread: bytes | None = body

    async def again() -> Message:
        nonlocal unread
        if unread is None:
            return await receive()
        whole, unread = unread, None
        return {"type": "http.request", "body": whole, "more_body": False}

    return again


def has_too_many_values(body: bytes) -> bool:
    """Whether JSON holds more values than a request needs. Says nothing of texts, however long they are."""
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"")  # now a quote begins or ends a text
    if plain.count(b'"') > 2 * MAX_JSON_VALUES or b"\0" in plain:  # UTF-16 would be read otherwise than here
        return True
    structure = b"".join(plain.split(b'"')[::2])
    return sum(structure.count(mark) for mark in (b",", b"[", b"{")) > MAX_JSON_VALUES
