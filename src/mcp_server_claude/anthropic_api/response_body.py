"""The body of a streamed response, read from aiohttp's buffer as long as nothing special comes.

httpx2 and the SDK pass each piece of a body through five asynchronous generators, which cost more than parsing it.
They are left for what only they do: the end of a body, errors, content codings and spans.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from httpx2 import Response

READ_ARRIVED = "read_arrived"
"""The extension of a response that waits for bytes of its body and returns them; none at its end (`aiohttp_client`)."""


class ResponseBody:
    """The pieces of a body as they arrive, decoded. `bytes_received` is the size of those so far."""

    def __init__(self, response: Response, pieces: AsyncGenerator[bytes], *, is_observed: bool) -> None:
        """`pieces` is the body as httpx2 iterates over it. `is_observed`: a span of the SDK has to see each of them."""
        is_plain = "content-encoding" not in response.headers and not is_observed
        read = response.extensions.get(READ_ARRIVED) if is_plain else None
        self._read_arrived = cast("Callable[[], Awaitable[bytes]] | None", read)
        self._pieces = pieces
        self.bytes_received = 0

    def __aiter__(self) -> ResponseBody:
        return self

    async def __anext__(self) -> bytes:
        """The next piece."""
        piece = b""
        if self._read_arrived is not None:
            try:
                piece = await self._read_arrived()
            except Exception:  # noqa: BLE001 - below, httpx2 raises an error of its own, after the bytes before it
                self._read_arrived = None
        if not piece:
            self._read_arrived = None
            piece = await anext(self._pieces)
        self.bytes_received += len(piece)
        return piece
