"""What code has made while Claude answered: written down with the call, and fetched from the Files API when asked for.

The files lie at Anthropic, never here. What is kept is whose they are and what they are called.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from secrets import token_hex
from typing import TYPE_CHECKING, cast

import anyio

from mcp_server_claude.anthropic_api import files_api
from mcp_server_claude.call_types import Produced
from mcp_server_claude.errors import Failure, Misconfigured, Refused
from mcp_server_claude.store import StoreError, output_file_records

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mcp_server_claude.anthropic_api import ClaudeClient
    from mcp_server_claude.anthropic_api.files_api import FileMetadata
    from mcp_server_claude.call_types import Block, Call
    from mcp_server_claude.store import Store
    from mcp_server_claude.store.output_file_records import OutputFileRecord

LARGEST = 30_000_000
"""Bytes of a file that is fetched: all of it is in memory at once, and in an MCP result as base64."""
MOST = 100
"""Files of one call that are written down."""
PATIENCE_S = 10.0
"""Seconds that an answer waits at most for the names of its files."""
SILENT = "(Claude made files and said nothing.)"


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file with its content."""

    file: Produced
    data: bytes


class Products:
    """The files that calls have made, each for its own user."""

    def __init__(self, claude: ClaudeClient, store: Store) -> None:
        self._claude = claude
        self._store = store

    async def record(self, call: Call, blocks: Sequence[Block]) -> tuple[Produced, ...]:
        """Write down the files that stand in an answer's blocks, with the names that the API has for them.

        None where they cannot be written down, which the store tells: then they could not be fetched either.
        """
        ids = file_ids(blocks)[:MOST]
        if not ids:
            return ()
        told: dict[str, FileMetadata] = {}
        with anyio.move_on_after(PATIENCE_S):
            async with anyio.create_task_group() as tasks:
                for file_id in ids:
                    tasks.start_soon(self._look, file_id, told)
        now = time.time()
        made = [_file(call, file_id, told.get(file_id), now) for file_id in ids]
        try:
            await self._store.write(output_file_records.record_output_files, made)
        except StoreError:
            return ()
        return tuple(map(_told, made))

    async def of(self, call_id: str, user: str) -> tuple[Produced, ...]:
        """What a user's call has made.

        Raises:
            Misconfigured: It could not be read.
        """
        try:
            return tuple(map(_told, await self._store.write(output_file_records.output_files_of_call, call_id, user)))
        except StoreError as error:
            raise _unread(error) from error

    async def fetch(self, name: str, user: str, limit: int = LARGEST) -> Fetched:
        """A user's file with its content, by our id.

        Raises:
            Refused: There is none, it is no longer at Anthropic, or larger than `limit` bytes.
            Failure: It could not be had.
        """
        try:
            file = await self._store.write(output_file_records.find_output_file, name, user)
        except StoreError as error:
            raise _unread(error) from error
        if file is None:
            raise Refused("There is no file of that id.", kind="not_found")
        if file.bytes is not None and file.bytes > limit:
            raise Refused(f"The file is {file.bytes:,} bytes large; at most {limit:,} are fetched.", kind="too_large")
        try:
            data = await files_api.download_file(self._claude, file.file_id, limit)
        except Refused as failure:
            if failure.kind != "not_found":
                raise
            raise Refused("The file is no longer at Anthropic.", kind="not_found") from None
        return Fetched(_told(file), data)

    async def forget(self, before: float) -> None:
        """Delete files made before then (unix seconds), and those whose text was forgotten, at Anthropic and here.

        What cannot be deleted now is tried the next time.
        """
        try:
            for file in await self._store.write(output_file_records.expired_output_files, before):
                await files_api.delete_file(self._claude, file.file_id)
                await self._store.write(output_file_records.delete_output_file, file.id)
        except (Failure, StoreError):
            return

    async def _look(self, file_id: str, told: dict[str, FileMetadata]) -> None:
        try:
            told[file_id] = await files_api.get_metadata(self._claude, file_id)
        except Failure:
            return  # it is listed by its id then


def file_ids(blocks: Sequence[Block]) -> list[str]:
    """The ids of the files in the results of server tools, each once.

    An output block of any tool is meant (`bash_code_execution_output`, `code_execution_output`, and what may follow).
    """
    found: dict[str, None] = {}
    for block in blocks:
        result = block.get("content")
        if not str(block.get("type")).endswith("_tool_result") or not isinstance(result, dict):
            continue
        outputs = cast("Mapping[str, object]", result).get("content")
        for output in cast("list[object]", outputs) if isinstance(outputs, list) else []:
            file_id = cast("Mapping[str, object]", output).get("file_id") if isinstance(output, dict) else None
            if isinstance(file_id, str) and file_id:
                found[file_id] = None
    return list(found)


def _file(call: Call, file_id: str, about: FileMetadata | None, now: float) -> OutputFileRecord:
    return output_file_records.OutputFileRecord(
        id=f"f_{token_hex(8)}",
        call_id=call.id,
        user=call.user,
        file_id=file_id,
        name=about.name if about else file_id,
        mime_type=about.mime_type if about else files_api.DEFAULT_MIME_TYPE,
        bytes=about.size_bytes if about else None,
        created_at=now,
    )


def _told(file: OutputFileRecord) -> Produced:
    return Produced(id=file.id, name=file.name, mime_type=file.mime_type, bytes=file.bytes)


def _unread(error: StoreError) -> Misconfigured:
    return Misconfigured(f"The files could not be read: {error}", kind="ledger")
