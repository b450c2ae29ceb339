"""The Files API: what was uploaded for Claude, and what its code has made (general, no beta, since August 2026)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar, cast

import anyio

from mcp_server_claude.errors import CallError, RequestError, TemporaryError
from mcp_server_claude.lone_surrogates import replace_lone_surrogates

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from anthropic.resources.files import AsyncFiles

    from mcp_server_claude.anthropic_api.client import ClaudeClient

T = TypeVar("T")

TRANSFER_TIMEOUT_S = 60.0
"""Seconds without a byte after which a transfer counts as broken."""
MAX_ATTEMPTS = 3
MAX_RETRY_AFTER_S = 10.0
"""Seconds that the API may ask to wait before another try; asked for more, a file fails."""
CHUNK_BYTES = 1 << 16
DEFAULT_MIME_TYPE = "application/octet-stream"
MAX_FILE_NAME_CHARS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class FileMetadata:
    """What the API says of a file."""

    name: str
    mime_type: str
    size_bytes: int | None


async def get_metadata(claude: ClaudeClient, file_id: str) -> FileMetadata:
    """Name, type and size of a file.

    Raises:
        CallError: The API does not tell.
    """
    stored = await _files_resource(claude)
    told = await _with_retries(claude, lambda: stored.retrieve_metadata(file_id, timeout=TRANSFER_TIMEOUT_S))
    # A gateway may answer with anything, and the SDK hands on what it cannot parse.
    name, kind, size = (cast("object", getattr(told, field, None)) for field in ("filename", "mime_type", "size_bytes"))
    return FileMetadata(
        name=safe_file_name(name) if isinstance(name, str) and safe_file_name(name) else file_id,
        mime_type=kind
        if isinstance(kind, str) and kind.isascii() and kind.isprintable() and kind
        else DEFAULT_MIME_TYPE,
        size_bytes=size if isinstance(size, int) and not isinstance(size, bool) else None,
    )


async def download_file(claude: ClaudeClient, file_id: str, max_bytes: int) -> bytes:
    """The bytes of a file, at most `limit`.

    Raises:
        CallError: It is larger, or could not be had.
    """
    stored = await _files_resource(claude)

    async def read() -> bytes:
        parts: list[bytes] = []
        size = 0
        async with stored.with_streaming_response.download(file_id, timeout=TRANSFER_TIMEOUT_S) as response:
            async for part in response.iter_bytes(CHUNK_BYTES):
                size += len(part)
                if size > max_bytes:
                    raise RequestError(f"The file is larger than {max_bytes:,} bytes.", kind="too_large")
                parts.append(part)
        return b"".join(parts)

    return await _with_retries(claude, read)


async def upload_file(claude: ClaudeClient, name: str, data: bytes, mime_type: str, expires_s: int) -> str:
    """Store a file with Anthropic for so many seconds; its id.

    Raises:
        CallError: It could not be stored.
    """
    stored = await _files_resource(claude)
    file = (safe_file_name(name) or "file", data, mime_type)
    kept = await _with_retries(
        claude, lambda: stored.upload(file=file, expires_in_seconds=expires_s, timeout=TRANSFER_TIMEOUT_S)
    )
    file_id: object = getattr(kept, "id", None)
    if not isinstance(file_id, str) or not file_id:
        raise TemporaryError("What came back is no file of the Files API. Check the base URL.", kind="protocol")
    return file_id


async def delete_file(claude: ClaudeClient, file_id: str) -> None:
    """Delete a file at Anthropic; one that is gone already is as good.

    Raises:
        CallError: It could not be deleted.
    """
    stored = await _files_resource(claude)
    try:
        await _with_retries(claude, lambda: stored.delete(file_id, timeout=TRANSFER_TIMEOUT_S))
    except RequestError as failure:
        if failure.kind != "not_found":
            raise


def safe_file_name(name: str) -> str:
    """A file's name without its directories, and without what would break a line or a header."""
    last = replace_lone_surrogates(name).replace("\\", "/").rpartition("/")[2]
    return "".join(each for each in last if each.isprintable() and each not in '"<>|:*?').strip()[-MAX_FILE_NAME_CHARS:]


async def _files_resource(claude: ClaudeClient) -> AsyncFiles:
    """The SDK's window to the Files API.

    Raises:
        CallError: There is none on this platform, or no usable key.
    """
    if "files" in claude.platform.unsupported:
        raise RequestError(f"{claude.platform.title}, which this server uses, has no Files API.", kind="unsupported")
    return (await claude.get_client()).files


async def _with_retries(claude: ClaudeClient, request: Callable[[], Awaitable[T]]) -> T:
    """What comes of a request, tried again where that may help.

    Raises:
        CallError: It could not be done.
    """
    for left in reversed(range(MAX_ATTEMPTS)):
        try:
            return await request()
        except Exception as error:
            failure = error if isinstance(error, CallError) else claude.classify_error(error)
            if failure is None:
                raise
            wait = failure.retry_after_s if failure.retry_after_s is not None else 2.0**-left
            if not left or not failure.retryable or failure.should_retry is False or wait > MAX_RETRY_AFTER_S:
                raise failure from None
            await anyio.sleep(wait)
    raise AssertionError  # the last try returns or raises
