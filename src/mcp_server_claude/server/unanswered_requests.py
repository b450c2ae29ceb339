"""The requests of a stdio client that are not answered yet. While there are too many, no further one is read.

A request counts until its response is written, so that a client which sends and never reads is slowed down by the pipe
instead of filling the memory of the server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
from mcp.types import JSONRPCError, JSONRPCNotification, JSONRPCRequest, JSONRPCResponse

if TYPE_CHECKING:
    from mcp.types import JSONRPCMessage, RequestId

MAX_UNANSWERED_REQUESTS = 1_000
"""Each takes about 38 KB while it waits (measured)."""
MAX_UNANSWERED_BYTES = 64 * 1024 * 1024
"""Bytes of the requests that wait; a single one may be longer."""
CANCELLED_METHOD = "notifications/cancelled"


class UnansweredRequests:
    """Counts the requests between reading and the writing of their responses."""

    def __init__(self, *, max_requests: int = MAX_UNANSWERED_REQUESTS, max_bytes: int = MAX_UNANSWERED_BYTES) -> None:
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self._sizes: dict[RequestId, int] = {}
        self._bytes = 0
        self._changed = anyio.Event()

    @property
    def has_room(self) -> bool:
        """True if one more request may be read."""
        return len(self._sizes) < self._max_requests and self._bytes < self._max_bytes

    async def wait_for_change(self) -> None:
        """Wait until one more request was answered or cancelled."""
        await self._changed.wait()

    def record_received(self, message: JSONRPCMessage, size: int) -> None:
        """Record a message of the client, of `size` bytes. A cancelled request may get no response."""
        if isinstance(message, JSONRPCRequest):
            self._remove(message.id)
            self._sizes[message.id] = size
            self._bytes += size
        elif isinstance(message, JSONRPCNotification) and message.method == CANCELLED_METHOD:
            cancelled = (message.params or {}).get("requestId")
            if isinstance(cancelled, (int, str)):
                self._remove(cancelled)

    def record_sent(self, message: JSONRPCMessage) -> None:
        """Record a message to the client, written or given up."""
        if isinstance(message, (JSONRPCResponse, JSONRPCError)) and message.id is not None:
            self._remove(message.id)

    def _remove(self, request_id: RequestId) -> None:
        size = self._sizes.pop(request_id, None)
        if size is not None:
            self._bytes -= size
            self._changed.set()
            self._changed = anyio.Event()
