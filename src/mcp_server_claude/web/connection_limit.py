"""A limit on open connections, so that they never take the file descriptors that calls and the store need.

asyncio's own accept loop logs a traceback for every connection that it cannot accept, thousands a second. Here a
connection above the limit waits in the listening socket's queue until another one closes.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from mcp_server_claude.web.interval_log import IntervalLog

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

RESERVED_FILES = 256
"""File descriptors kept for upstream connections, the store, imports and helper processes."""
MIN_CONNECTIONS = 16
ACCEPT_RETRY_INTERVAL_S = 1.0

_log = logging.getLogger(__name__)


def max_connections(open_files: int, reserved: int = RESERVED_FILES) -> int:
    """The connections to admit at once under this limit of open files."""
    return max(MIN_CONNECTIONS, open_files - reserved, open_files // 2 if open_files < 2 * reserved else 0)


class ConnectionLimiter:
    """Accepts connections on listening sockets while fewer than `limit` are open."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
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
            if self._slots.locked():
                self._warnings.warning(f"{self._limit} connections are open; further ones wait.")
            await self._slots.acquire()
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
