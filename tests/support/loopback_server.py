"""A socket on this machine that speaks whatever a test has it say."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator, Callable, Coroutine

ConnectionHandler: TypeAlias = "Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[object, object, None]]"
"""Answers one connection. Its client may go at any time."""


@asynccontextmanager
async def loopback_server(serve: ConnectionHandler, *, context: ssl.SSLContext | None = None) -> AsyncGenerator[str]:
    """The URL at which every connection is `serve`d while the block runs, and closed at its end.

    With a TLS `context` it is an https URL.
    """
    open_ones: set[asyncio.Task[None]] = set()

    async def until_it_goes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(until_it_goes(reader, writer))
        open_ones.add(task)
        task.add_done_callback(open_ones.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context)
    try:
        yield f"{'https' if context else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in list(open_ones):
            task.cancel()
        await asyncio.gather(*open_ones, return_exceptions=True)
        await server.wait_closed()
