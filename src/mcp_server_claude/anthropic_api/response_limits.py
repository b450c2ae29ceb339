"""Limits on the bytes of a response, so that an upstream that never stops sending does not fill the memory.

The body of an error, or of a response in JSON, is read as a whole by the SDK. An event stream is limited by its reader
(`stream_reader`), a download by its caller.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from mcp_server_claude.anthropic_api.response_headers import STREAM_CONTENT_TYPES, media_type
from mcp_server_claude.errors import TemporaryError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from httpx2 import Response

MAX_JSON_BYTES = 16 << 20
"""Bytes of a body that is read as a whole, decompressed. The list of models has some ten thousand."""
DOWNLOAD_SUFFIXES = ("/content", "/results")
"""Ends of the paths of downloads, whose callers have limits of their own."""
HTTP_ERROR = 400


async def limit_body(response: Response) -> None:
    """Limit the body of a response that is read as a whole; a hook of the HTTP client.

    The rest of an error's body is not read, nor is what does not arrive of it: its status says already what happened.
    A longer body of another response raises a `TemporaryError`.
    """
    is_error = response.status_code >= HTTP_ERROR
    is_stream = media_type(response.headers) in STREAM_CONTENT_TYPES
    if not is_error and (is_stream or response.request.url.path.endswith(DOWNLOAD_SUFFIXES)):
        return
    read_chunks = response.aiter_bytes

    async def aiter_bytes(chunk_size: int | None = None) -> AsyncGenerator[bytes]:
        try:
            async with aclosing(limited_bytes(chunk_size)) as chunks:
                async for chunk in chunks:
                    yield chunk
        except Exception:  # whatever the HTTP library raises for a body that breaks off, or is framed wrongly
            if not is_error:
                raise

    async def limited_bytes(chunk_size: int | None) -> AsyncGenerator[bytes]:
        size = 0
        async with aclosing(read_chunks(chunk_size)) as chunks:
            async for chunk in chunks:
                size += len(chunk)
                if size > MAX_JSON_BYTES:
                    await response.aclose()
                    if is_error:
                        return
                    raise too_large_error()
                yield chunk

    response.aiter_bytes = aiter_bytes  # the SDK's ways to read a body all come here


def too_large_error() -> TemporaryError:
    """The error for a response that is longer than any of the Messages API. It is not tried again."""
    return TemporaryError(
        "The response is larger than any of the Messages API. Check MCP_CLAUDE_BASE_URL, and any proxy in between.",
        kind="protocol",
        should_retry=False,
    )
