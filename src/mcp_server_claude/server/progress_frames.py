"""Progress notifications as bytes, written to the connection of the request without a model of the SDK for each.

A notification of the SDK is validated, dumped and passed from task to task, which costs ten times as much as its bytes
(benchmarks/, row "200 streams"). Over HTTP the first one of each call goes that way, because it begins the response.
Its frame has the same content in both protocol eras (modelcontextprotocol.io, "Progress", 2025-11-25 and 2026-07-28).
"""

from __future__ import annotations

import json
from json.encoder import encode_basestring as quote_json  # in C
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable


class SendProgress(Protocol):
    """Sends one notification: `progress` (strictly increasing), a message or none, and the total if it is known."""

    def __call__(self, progress: float, message: str | None, total: float | None = None, /) -> Awaitable[None]: ...


class FrameWriter(Protocol):
    """A connection that takes whole JSON-RPC messages as bytes; `bytes_taken` counts the bytes that the client has
    read.
    """

    @property
    def bytes_taken(self) -> int:
        """The bytes that the connection has taken so far, of all requests that share it."""
        ...

    async def wait_until_open(self) -> bool:
        """Wait until messages can be written; False if they never can."""
        ...

    async def write_message(self, message: bytes) -> None:
        """Write one message. Waits while the client does not read.

        Raises:
            anyio.BrokenResourceError: The client has closed the connection.
        """
        ...


class ProgressFrames:
    """The notifications of one request as bytes, but the first through the SDK unless the response `has_begun`."""

    def __init__(
        self, send_through_sdk: SendProgress, writer: FrameWriter, token: str | int, *, has_begun: bool = False
    ) -> None:
        self._send_through_sdk = send_through_sdk
        self._writer = writer
        self._head = (
            b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%b,"progress":'
            % json.dumps(token).encode()
        )
        self._has_begun = has_begun

    @property
    def bytes_taken(self) -> int:
        """The bytes that the connection has taken so far, of all requests that share it."""
        return self._writer.bytes_taken

    async def __call__(self, progress: float, message: str | None, total: float | None = None) -> None:
        """Send one notification, after all those before it.

        Raises:
            anyio.BrokenResourceError: The client has closed the connection.
        """
        if self._has_begun and await self._writer.wait_until_open():
            await self._writer.write_message(self.encode(progress, message, total))
        else:
            self._has_begun = True
            await self._send_through_sdk(progress, message, total)

    def encode(self, progress: float, message: str | None, total: float | None = None) -> bytes:
        """The JSON-RPC message of a notification, as one line."""
        text = b"" if message is None else b',"message":%b' % quote_json(message).encode()
        end = b"" if total is None else b',"total":%b' % json.dumps(total).encode()
        return b"%b%b%b%b}}" % (self._head, json.dumps(progress).encode(), end, text)
