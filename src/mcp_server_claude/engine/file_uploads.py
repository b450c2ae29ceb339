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

from mcp_server_claude.anthropic_api import files_api
from mcp_server_claude.call_types import Waiting
from mcp_server_claude.errors import Failure

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mcp_server_claude.anthropic_api import ClaudeClient
    from mcp_server_claude.call_types import Block, Call, Listen
    from mcp_server_claude.files import Attachments, FilePolicy
    from mcp_server_claude.settings import Settings

LEAST_BYTES = 100_000
"""A smaller file costs less to send along than to upload."""
AT_ONCE = 4
DAY_S = 86_400
KEPT_S = 90 * DAY_S
"""How long Anthropic keeps an upload: the longest that can be asked for, since a thread goes on with it for as long as
it is used. Where nothing is to be kept here, a day."""


class Uploads:
    """Uploads what a call's blocks hold, and remembers by its content what was uploaded already, in this process."""

    def __init__(self, settings: Settings, claude: ClaudeClient) -> None:
        self._claude = claude
        self._on = settings.uploads and "files" not in claude.platform.unsupported
        self._kept_s = KEPT_S if settings.retention_days else DAY_S
        self._known: dict[tuple[str, bytes], tuple[str, float]] = {}

    def rules(self, rules: FilePolicy, call: Call) -> FilePolicy:
        """What this call may read: for code data files too, where they can be uploaded."""
        if "code" not in call.tools:
            return rules
        if self._on:
            return replace(rules, for_code=True)
        return replace(rules, hint=" Code could read it, but this server uploads no files (MCP_CLAUDE_UPLOADS).")

    async def placed(self, gathered: Attachments, call: Call, listen: Listen | None) -> tuple[Block, ...]:
        """The blocks as they are sent, what is large uploaded. Without `listen` nothing is sent, nor uploaded.

        Raises:
            Failure: A file could not be uploaded.
        """
        for_code = "code" in call.tools
        todo = [(n, name) for n, name in enumerate(gathered.block_paths) if self._wants(gathered.blocks[n], for_code)]
        if listen is None or not todo:
            return tuple(block for block in gathered.blocks if not isinstance(block.get("data"), bytes))
        listen(Waiting(f"uploading {len(todo)} {'file' if len(todo) == 1 else 'files'}"))
        ids: dict[int, str] = {}
        failures: list[Failure] = []
        limiter = anyio.CapacityLimiter(AT_ONCE)

        async def one(place: int, name: str) -> None:
            async with limiter:
                try:
                    ids[place] = await self._upload(gathered.blocks[place], name)
                except Failure as failure:
                    failures.append(_of(failure, name))
                    tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            for place, name in todo:
                tasks.start_soon(one, place, name)
        if failures:
            raise failures[0]
        return tuple(_by_id(gathered.blocks, ids, for_code=for_code))

    def forget(self) -> None:
        """A file is not there any more, whichever it was: each is uploaded again when it is named."""
        self._known.clear()

    def _wants(self, block: Block, for_code: bool) -> bool:  # noqa: FBT001
        """Whether a block's content is uploaded."""
        if not self._on:
            return False
        data = block.get("data") or _source(block).get("data")
        return isinstance(data, bytes) or (isinstance(data, str) and (for_code or len(data) * 3 // 4 >= LEAST_BYTES))

    async def _upload(self, block: Block, name: str) -> str:
        """The id of a block's content, uploaded where it is not yet."""
        data, digest = await anyio.to_thread.run_sync(_content, block)
        key = (files_api.safe_file_name(name), digest)
        file_id, uploaded = self._known.get(key, ("", 0.0))
        if file_id and time.time() - uploaded < self._kept_s / 2:  # a thread that begins now is to last for a while
            return file_id
        kind = str(_source(block).get("media_type") or mimetypes.guess_type(name)[0] or files_api.DEFAULT_MIME_TYPE)
        file_id = await files_api.upload_file(self._claude, name, data, kind, self._kept_s)
        self._known[key] = (file_id, time.time())
        return file_id


def _by_id(blocks: Iterable[Block], ids: Mapping[int, str], *, for_code: bool) -> Iterable[Block]:
    for place, block in enumerate(blocks):
        file_id = ids.get(place)
        if file_id is None:
            yield block
            continue
        if "source" in block:
            yield {**block, "source": {"type": "file", "file_id": file_id}}
        if for_code:
            yield {"type": "container_upload", "file_id": file_id}


def _content(block: Block) -> tuple[bytes, bytes]:
    """A block's bytes, and what tells them from others."""
    held = block.get("data")
    data = held if isinstance(held, bytes) else b64decode(cast("str", _source(block)["data"]))
    return data, sha256(data).digest()


def _source(block: Block) -> Mapping[str, object]:
    return cast("Mapping[str, object]", block.get("source") or {})


def _of(failure: Failure, name: str) -> Failure:
    """The failure, saying which file it was."""
    told = type(failure)(
        f"{files_api.safe_file_name(name) or 'A file'} could not be uploaded. {failure}",
        kind=failure.kind,
        retry_after_s=failure.retry_after_s,
        request_id=failure.request_id,
        status=failure.status,
    )
    told.should_retry = failure.should_retry
    return told
