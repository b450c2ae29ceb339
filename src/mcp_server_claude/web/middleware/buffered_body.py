"""Bodies that are read whole before the app parses them, so that none of them blocks all other requests.

A legitimate request is long because of a text or a file in it, which parse at once. Millions of small values do not:
the interpreter is busy with them for half a minute, on whatever thread, and no stream makes progress.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio.to_thread

from mcp_server_claude.errors import RequestError
from mcp_server_claude.web import error_responses

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_UNCHECKED_BYTES = 256 * 1024
"""Bytes of JSON that parse in a few milliseconds, whatever they contain."""
BUFFERED_PATHS = frozenset({"/chat", "/mcp"})
"""Routes whose bodies can be long."""
MAX_JSON_VALUES = 200_000
"""Values in a longer request; the largest sensible one, a schema with files, has far fewer."""


class BufferedBodyMiddleware:
    """Passes the body of a POST on in one piece, unless it has too many values.

    Plain ASGI. It runs after authentication, so that unauthenticated bodies are never buffered.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] not in BUFFERED_PATHS:
            await self._app(scope, receive, send)
            return
        body = await read_body(receive)
        if body is None:
            return
        if len(body) > MAX_UNCHECKED_BYTES and await anyio.to_thread.run_sync(has_too_many_values, body):
            error = RequestError(f"The request contains more than {MAX_JSON_VALUES:,} values.", kind="too_large")
            await error_responses.error_response(error)(scope, receive, send)
            return
        await self._app(scope, replay_body(body, receive), send)


async def read_body(receive: Receive) -> bytes | None:
    """Read the whole body of a request; None if the client disconnects first."""
    chunks: list[bytes] = []
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        chunks.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(chunks)


def replay_body(body: bytes, receive: Receive) -> Receive:
    """A `receive` that returns the body as one message and then continues with the original one."""
    unread: bytes | None = body

    async def receive_again() -> Message:
        nonlocal unread
        if unread is None:
            return await receive()
        whole, unread = unread, None
        return {"type": "http.request", "body": whole, "more_body": False}

    return receive_again


def has_too_many_values(body: bytes) -> bool:
    """True if JSON has more than `MAX_JSON_VALUES` values. The length of its strings does not matter."""
    without_escapes = body.replace(b"\\\\", b"").replace(b'\\"', b"")  # now every quote begins or ends a string
    if without_escapes.count(b'"') > 2 * MAX_JSON_VALUES or b"\0" in without_escapes:  # UTF-16 would parse differently
        return True
    structure = b"".join(without_escapes.split(b'"')[::2])
    return sum(structure.count(mark) for mark in (b",", b"[", b"{")) > MAX_JSON_VALUES
