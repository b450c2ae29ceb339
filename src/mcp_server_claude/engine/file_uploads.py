"""Files that go through the Files API, where that is switched on: once, and not along with each turn of a thread.

That stores them with Anthropic, which is why it is off unless the operator says otherwise. Large PDFs and images then
stand in a request by their id; with code, every file but plain text also lies in the container that it runs in.
"""

from __future__ import annotations

import mimetypes
import time
from base64 import b64decode
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING, cast

import anyio
import anyio.to_thread

from mcp_server_claude import number_formatting
from mcp_server_claude.anthropic_api import files_api
from mcp_server_claude.call_types import Waiting
from mcp_server_claude.errors import CallError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mcp_server_claude.anthropic_api.client import ClaudeClient
    from mcp_server_claude.call_types import Block, Call, Listener
    from mcp_server_claude.files import Attachments, FilePolicy
    from mcp_server_claude.settings import Settings

MIN_UPLOAD_BYTES = 100_000
"""Bytes below which a file is cheaper to send than to upload."""
MAX_CONCURRENT_UPLOADS = 4
SHORT_UPLOAD_TTL_S = 86_400
UPLOAD_TTL_S = 90 * SHORT_UPLOAD_TTL_S
"""Seconds that Anthropic keeps an upload: the longest allowed, since a thread may use it as long as it lives. A
server that retains nothing uses `SHORT_UPLOAD_TTL_S`."""


class FileUploads:
    """Uploads the content of a call's blocks, and remembers in this process which content was uploaded."""

    def __init__(self, settings: Settings, claude: ClaudeClient) -> None:
        self._claude = claude
        self._enabled = settings.uploads and "files" not in claude.platform.unsupported
        self._ttl_s = UPLOAD_TTL_S if settings.retention_days else SHORT_UPLOAD_TTL_S
        self._uploaded: dict[tuple[str, bytes], tuple[str, float]] = {}

    def file_policy_for(self, file_policy: FilePolicy, call: Call) -> FilePolicy:
        """The file policy of a call. With code, data files are allowed too if they can be uploaded."""
        if "code" not in call.tools:
            return file_policy
        if self._enabled:
            return replace(file_policy, for_code=True)
        return replace(file_policy, hint=" Code could read it, but this server uploads no files (MCP_CLAUDE_UPLOADS).")

    async def upload_blocks(self, attachments: Attachments, call: Call, listener: Listener | None) -> tuple[Block, ...]:
        """The blocks to send, with large content uploaded. Without `listener` nothing is uploaded.

        Raises:
            CallError: A file could not be uploaded.
        """
        for_code = "code" in call.tools
        todo = [
            (n, name)
            for n, name in enumerate(attachments.block_paths)
            if self._should_upload(attachments.blocks[n], for_code)
        ]
        if listener is None or not todo:
            return tuple(block for block in attachments.blocks if not isinstance(block.get("data"), bytes))
        listener(Waiting(f"uploading {number_formatting.format_count(len(todo), 'file')}"))
        ids: dict[int, str] = {}
        failures: list[CallError] = []
        limiter = anyio.CapacityLimiter(MAX_CONCURRENT_UPLOADS)

        async def one(place: int, name: str) -> None:
            async with limiter:
                try:
                    ids[place] = await self._upload(attachments.blocks[place], name)
                except CallError as failure:
                    failures.append(_with_file_name(failure, name))
                    tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            for place, name in todo:
                tasks.start_soon(one, place, name)
        if failures:
            raise failures[0]
        return tuple(_with_file_ids(attachments.blocks, ids, for_code=for_code))

    def invalidate(self) -> None:
        """Forget all uploads, since one of them no longer exists: each file is uploaded again at its next use."""
        self._uploaded.clear()

    def _should_upload(self, block: Block, for_code: bool) -> bool:  # noqa: FBT001
        """True if a block's content is to be uploaded."""
        if not self._enabled:
            return False
        data = block.get("data") or _block_source(block).get("data")
        return isinstance(data, bytes) or (
            isinstance(data, str) and (for_code or len(data) * 3 // 4 >= MIN_UPLOAD_BYTES)
        )

    async def _upload(self, block: Block, name: str) -> str:
        """The file id of a block's content, uploaded unless it was before."""
        data, digest = await anyio.to_thread.run_sync(_bytes_and_digest, block)
        key = (files_api.safe_file_name(name), digest)
        file_id, uploaded = self._uploaded.get(key, ("", 0.0))
        if file_id and time.time() - uploaded < self._ttl_s / 2:  # a thread that begins now is to last for a while
            return file_id
        kind = str(
            _block_source(block).get("media_type") or mimetypes.guess_type(name)[0] or files_api.DEFAULT_MIME_TYPE
        )
        file_id = await files_api.upload_file(self._claude, name, data, kind, self._ttl_s)
        self._uploaded[key] = (file_id, time.time())
        return file_id


def _with_file_ids(blocks: Iterable[Block], ids: Mapping[int, str], *, for_code: bool) -> Iterable[Block]:
    for place, block in enumerate(blocks):
        file_id = ids.get(place)
        if file_id is None:
            yield block
            continue
        if "source" in block:
            yield {**block, "source": {"type": "file", "file_id": file_id}}
        if for_code:
            yield {"type": "container_upload", "file_id": file_id}


def _bytes_and_digest(block: Block) -> tuple[bytes, bytes]:
    """A block's bytes and their SHA-256."""
    payload = block.get("data")
    data = payload if isinstance(payload, bytes) else b64decode(cast("str", _block_source(block)["data"]))
    return data, sha256(data).digest()


def _block_source(block: Block) -> Mapping[str, object]:
    return cast("Mapping[str, object]", block.get("source") or {})


def _with_file_name(error: CallError, name: str) -> CallError:
    """The error with the name of the file in its sentence."""
    return error.with_message(f"{files_api.safe_file_name(name) or 'A file'} could not be uploaded. {error}")
