"""The Files API: what was uploaded for Claude, and what its code has made (general, no beta, since August 2026)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar, cast

import anyio

from mcp_server_claude.errors import Failure, Refused, Unavailable
from mcp_server_claude.lone_surrogates import replace_lone_surrogates

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from anthropic.resources.files import AsyncFiles

    from mcp_server_claude.anthropic_api.client import Claude

T = TypeVar("T")

PATIENCE_S = 60.0
"""Seconds without a byte after which a transfer counts as broken."""
TRIES = 3
LONGEST_WAIT_S = 10.0
"""Seconds that the API may ask to wait before another try; asked for more, a file fails."""
CHUNK = 1 << 16
UNKNOWN_TYPE = "application/octet-stream"
LONGEST_NAME = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What the API says of a file."""

    name: str
    mime_type: str
    bytes: int | None


async def about(claude: Claude, file_id: str) -> About:
    """Name, type and size of a file.

    Raises:
        Failure: The API does not tell.
    """
    stored = await _files(claude)
    told = await _done(claude, lambda: stored.retrieve_metadata(file_id, timeout=PATIENCE_S))
    # A gateway may answer with anything, and the SDK hands on what it cannot parse.
    name, kind, size = (cast("object", getattr(told, field, None)) for field in ("filename", "mime_type", "size_bytes"))
    return About(
        name=plain(name) if isinstance(name, str) and plain(name) else file_id,
        mime_type=kind if isinstance(kind, str) and kind.isascii() and kind.isprintable() and kind else UNKNOWN_TYPE,
        bytes=size if isinstance(size, int) and not isinstance(size, bool) else None,
    )


async def content(claude: Claude, file_id: str, limit: int) -> bytes:
    """The bytes of a file, at most `limit`.

    Raises:
        Failure: It is larger, or could not be had.
    """
    stored = await _files(claude)

    async def read() -> bytes:
        parts: list[bytes] = []
        size = 0
        async with stored.with_streaming_response.download(file_id, timeout=PATIENCE_S) as response:
            async for part in response.iter_bytes(CHUNK):
                size += len(part)
                if size > limit:
                    raise Refused(f"The file is larger than {limit:,} bytes.", kind="too_large")
                parts.append(part)
        return b"".join(parts)

    return await _done(claude, read)


async def upload(claude: Claude, name: str, data: bytes, mime_type: str, expires_s: int) -> str:
    """Store a file with Anthropic for so many seconds; its id.

    Raises:
        Failure: It could not be stored.
    """
    stored = await _files(claude)
    file = (plain(name) or "file", data, mime_type)
    kept = await _done(claude, lambda: stored.upload(file=file, expires_in_seconds=expires_s, timeout=PATIENCE_S))
    file_id: object = getattr(kept, "id", None)
    if not isinstance(file_id, str) or not file_id:
        raise Unavailable("What came back is no file of the Files API. Check the base URL.", kind="protocol")
    return file_id


async def delete(claude: Claude, file_id: str) -> None:
    """Delete a file at Anthropic; one that is gone already is as good.

    Raises:
        Failure: It could not be deleted.
    """
    stored = await _files(claude)
    try:
        await _done(claude, lambda: stored.delete(file_id, timeout=PATIENCE_S))
    except Refused as failure:
        if failure.kind != "not_found":
            raise


def plain(name: str) -> str:
    """A file's name without its directories, and without what would break a line or a header."""
    last = replace_lone_surrogates(name).replace("\\", "/").rpartition("/")[2]
    return "".join(each for each in last if each.isprintable() and each not in '"<>|:*?').strip()[-LONGEST_NAME:]


async def _files(claude: Claude) -> AsyncFiles:
    """The SDK's window to the Files API.

    Raises:
        Failure: There is none on this platform, or no usable key.
    """
    if "files" in claude.platform.lacks:
        raise Refused(f"{claude.platform.title}, where this server asks Claude, has no Files API.", kind="unsupported")
    return (await claude.ready()).files


async def _done(claude: Claude, what: Callable[[], Awaitable[T]]) -> T:
    """What comes of a request, tried again where that may help.

    Raises:
        Failure: It could not be done.
    """
    for left in reversed(range(TRIES)):
        try:
            return await what()
        except Exception as error:
            failure = error if isinstance(error, Failure) else claude.translated(error)
            if failure is None:
                raise
            wait = failure.retry_after_s if failure.retry_after_s is not None else 2.0**-left
            if not left or not failure.retryable or failure.should_retry is False or wait > LONGEST_WAIT_S:
                raise failure from None
            await anyio.sleep(wait)
    raise AssertionError  # the last try returns or raises
