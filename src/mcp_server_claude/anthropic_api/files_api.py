"""The Files API: uploads for Claude, and the files that its code has made (general availability since August 2026)."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, cast

import anyio

from mcp_server_claude.errors import CallError, RequestError, TemporaryError
from mcp_server_claude.frozen_dataclass import frozen_dataclass
from mcp_server_claude.lone_surrogates import replace_lone_surrogates

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from anthropic.resources.files import AsyncFiles

    from mcp_server_claude.anthropic_api.client import ClaudeClient

T = TypeVar("T")

TRANSFER_TIMEOUT_S = 60.0
"""Seconds without a byte after which a transfer counts as broken, if `MCP_CLAUDE_BYTES_TIMEOUT_S` is not shorter."""
MAX_ATTEMPTS = 3
MAX_RETRY_AFTER_S = 10.0
"""Seconds that the API may ask to wait before another try; if it asks for more, the request fails."""
CHUNK_BYTES = 1 << 16
DEFAULT_MIME_TYPE = "application/octet-stream"
MAX_FILE_NAME_CHARS = 200


@frozen_dataclass(kw_only=True)
class FileMetadata:
    """The metadata of a file; `size_bytes` is None if the API does not report it."""

    name: str
    mime_type: str
    size_bytes: int | None


async def get_metadata(claude: ClaudeClient, file_id: str) -> FileMetadata:
    """The name, type and size of a file.

    Raises:
        CallError: The API does not report it.
    """
    files = await _files_resource(claude)
    timeout_s = _bytes_timeout_s(claude)
    found = await _with_retries(
        claude, lambda: files.retrieve_metadata(file_id, timeout=timeout_s, extra_headers=_beta_header(claude))
    )
    # A gateway may answer with anything, and the SDK passes on what it cannot parse.
    name, kind, size = (
        cast("object", getattr(found, field, None)) for field in ("filename", "mime_type", "size_bytes")
    )
    is_type = isinstance(kind, str) and kind.isascii() and kind.isprintable() and bool(kind)
    return FileMetadata(
        name=safe_file_name(name) if isinstance(name, str) and safe_file_name(name) else file_id,
        mime_type=cast("str", kind) if is_type else DEFAULT_MIME_TYPE,
        size_bytes=size if isinstance(size, int) and not isinstance(size, bool) else None,
    )


async def download_file(claude: ClaudeClient, file_id: str, max_bytes: int) -> bytes:
    """The content of a file.

    Raises:
        CallError: The file is larger than `max_bytes`, or the download failed.
    """
    files = await _files_resource(claude)
    timeout_s = _bytes_timeout_s(claude)

    async def download() -> bytes:
        parts: list[bytes] = []
        size = 0
        opening = files.with_streaming_response.download(file_id, timeout=timeout_s, extra_headers=_beta_header(claude))
        async with opening as response:
            async for part in response.iter_bytes(CHUNK_BYTES):
                size += len(part)
                if size > max_bytes:
                    raise RequestError(f"The file is larger than {max_bytes:,} bytes.", kind="too_large")
                parts.append(part)
        return b"".join(parts)

    return await _with_retries(claude, download)


async def upload_file(claude: ClaudeClient, name: str, data: bytes, mime_type: str, expires_s: int) -> str:
    """Upload a file that Anthropic deletes after `expires_s` seconds; returns its id.

    Raises:
        CallError: The upload failed.
    """
    files = await _files_resource(claude)
    timeout_s = _bytes_timeout_s(claude)
    file = (safe_file_name(name) or "file", data, mime_type)
    uploaded = await _with_retries(
        claude,
        lambda: files.upload(
            file=file, expires_in_seconds=expires_s, timeout=timeout_s, extra_headers=_beta_header(claude)
        ),
    )
    file_id: object = getattr(uploaded, "id", None)
    if not isinstance(file_id, str) or not file_id:
        raise TemporaryError("The response is not a file of the Files API. Check the base URL.", kind="protocol")
    return file_id


async def delete_file(claude: ClaudeClient, file_id: str) -> None:
    """Delete a file at Anthropic. A file that no longer exists is no error.

    Raises:
        CallError: The file could not be deleted.
    """
    files = await _files_resource(claude)
    timeout_s = _bytes_timeout_s(claude)
    try:
        await _with_retries(
            claude, lambda: files.delete(file_id, timeout=timeout_s, extra_headers=_beta_header(claude))
        )
    except RequestError as error:
        if error.kind != "not_found":
            raise


def safe_file_name(name: str) -> str:
    """A file's name without its directories, and without characters that would break a line or a header."""
    last = replace_lone_surrogates(name).replace("\\", "/").rpartition("/")[2]
    return "".join(each for each in last if each.isprintable() and each not in '"<>|:*?').strip()[-MAX_FILE_NAME_CHARS:]


async def _files_resource(claude: ClaudeClient) -> AsyncFiles:
    """The SDK's resource for the Files API.

    Raises:
        CallError: The platform has no Files API, or there is no usable key.
    """
    if "files" in claude.platform.unsupported:
        raise RequestError(f"{claude.platform.title}, which this server uses, has no Files API.", kind="unsupported")
    return (await claude.get_client()).files


def _beta_header(claude: ClaudeClient) -> dict[str, str]:
    return {"anthropic-beta": claude.platform.files_beta} if claude.platform.files_beta else {}


def _bytes_timeout_s(claude: ClaudeClient) -> float:
    return min(TRANSFER_TIMEOUT_S, claude.settings.bytes_timeout_s)


async def _with_retries(claude: ClaudeClient, request: Callable[[], Awaitable[T]]) -> T:
    """The result of a request, which is tried `MAX_ATTEMPTS` times where that may help, within a call's deadline.

    Raises:
        CallError: The request failed.
    """
    deadline_s = claude.settings.deadline_s
    with anyio.move_on_after(deadline_s):
        for attempts_left in reversed(range(MAX_ATTEMPTS)):
            try:
                return await request()
            except Exception as error:
                call_error = error if isinstance(error, CallError) else claude.classify_error(error)
                if call_error is None:
                    raise
                delay_s = call_error.retry_after_s if call_error.retry_after_s is not None else 2.0**-attempts_left
                may_retry = call_error.retryable and call_error.should_retry is not False
                if not attempts_left or not may_retry or delay_s > MAX_RETRY_AFTER_S:
                    raise call_error from None
                await anyio.sleep(delay_s)
    raise TemporaryError("The Files API did not answer within the deadline. Try again.", kind="deadline")
