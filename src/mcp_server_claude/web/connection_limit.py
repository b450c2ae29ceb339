"""A limit on open connections, so that they never take the file descriptors that calls and the store need.

asyncio's own accept loop logs a traceback for every connection that it cannot accept, thousands a second. Here a
connection above the limit waits in the listening socket's queue until another one closes. The one that has waited
longest for a request is closed for it, so that clients that send nothing, or a byte a second, do not keep out others.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from mcp_server_claude.web.interval_log import IntervalLog

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

RESERVED_FILES = 256
"""File descriptors kept for upstream connections, the store, imports and helper processes."""
MIN_CONNECTIONS = 16
ACCEPT_RETRY_INTERVAL_S = 1.0
MIN_REQUEST_WAIT_S = 1.0
"""Seconds that a client has for its request, however many others want to connect."""
CLOSE_INTERVAL_S = 0.1
"""Seconds between two looks for a connection that can be closed."""

_log = logging.getLogger(__name__)


def max_connections(open_files: int, reserved: int = RESERVED_FILES) -> int:
    """The connections to admit at once under this limit of open files."""
    return max(MIN_CONNECTIONS, open_files - reserved, open_files // 2 if open_files < 2 * reserved else 0)


class WaitingConnections:
    """The open connections without a complete request, the one that has waited longest first."""

    def __init__(self) -> None:
        self._since: dict[asyncio.Transport, float] = {}

    def begin_waiting(self, connection: asyncio.Transport) -> None:
        """Add a connection that has been opened, has answered its request, or has a part of the next one."""
        self._since.pop(connection, None)
        self._since[connection] = time.monotonic()

    def end_waiting(self, connection: asyncio.Transport) -> None:
        """Remove a connection whose request has arrived, or that is closed."""
        self._since.pop(connection, None)

    def close_oldest(self) -> None:
        """Close the connection that has waited longest, if that is `MIN_REQUEST_WAIT_S` at least."""
        connection, since = next(iter(self._since.items()), (None, 0.0))
        if connection is not None and time.monotonic() - since >= MIN_REQUEST_WAIT_S:
            self.end_waiting(connection)
            connection.abort()


class ConnectionLimiter:
    """Accepts connections on listening sockets while fewer than `limit` are open.

    Above it, it closes some of those in `waiting`.
    """

    def __init__(self, limit: int, waiting: WaitingConnections | None = None) -> None:
        self._limit = limit
        self._waiting = waiting or WaitingConnections()
        self._slots = asyncio.Semaphore(limit)
        self._warnings = IntervalLog(_log)

    def release(self) -> None:
        """Return the slot of a connection that has closed."""
        self._slots.release()

    async def accept_connections(self, listener: socket.socket, make_protocol: Callable[[], asyncio.Protocol]) -> None:
        """Accept until cancelled. The protocol's `connection_lost` must call `release`."""
        loop = asyncio.get_running_loop()
        listener.setblocking(False)  # noqa: FBT003 - its own signature
        while True:
            await self._acquire_slot()
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError as error:
                self._slots.release()
                self._warnings.warning(f"Connections cannot be accepted: {error.strerror or type(error).__name__}.")
                await asyncio.sleep(ACCEPT_RETRY_INTERVAL_S)
                continue
            except BaseException:
                self._slots.release()
                raise
            try:
                await loop.connect_accepted_socket(make_protocol, connection)
            except OSError:  # the client has already closed it
                connection.close()
                self._slots.release()

    async def _acquire_slot(self) -> None:
        """Wait until fewer than `limit` connections are open, and make room."""
        if not self._slots.locked():
            await self._slots.acquire()
            return
        self._warnings.warning(f"{self._limit} connections are open; further ones wait.")
        closing = asyncio.create_task(self._close_waiting_connections())
        try:
            await self._slots.acquire()
        finally:
            closing.cancel()

    async def _close_waiting_connections(self) -> None:
        while True:
            self._waiting.close_oldest()
            await asyncio.sleep(CLOSE_INTERVAL_S)
