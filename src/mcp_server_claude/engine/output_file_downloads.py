"""Files that code wrote while Claude answered: recorded with the call, and downloaded from the Files API on request.

Their content stays with Anthropic. The store keeps only their owners and names.
"""

from __future__ import annotations

import time
from contextlib import suppress
from secrets import token_hex
from typing import TYPE_CHECKING, cast

import anyio

from mcp_server_claude.anthropic_api import files_api
from mcp_server_claude.call_types import OutputFile
from mcp_server_claude.errors import CallError, RequestError
from mcp_server_claude.files import url_references
from mcp_server_claude.frozen_dataclass import frozen_dataclass
from mcp_server_claude.store import StoreError, output_file_records, store_errors_as

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mcp_server_claude.anthropic_api.client import ClaudeClient
    from mcp_server_claude.anthropic_api.files_api import FileMetadata
    from mcp_server_claude.call_types import Block, Call
    from mcp_server_claude.store import Store
    from mcp_server_claude.store.output_file_records import OutputFileRecord

MAX_DOWNLOAD_BYTES = 30_000_000
"""Bytes of a download: all of it is in memory at once, and in an MCP result as base64."""
MAX_FILES_PER_CALL = 100
"""Files that are recorded for one call."""
MAX_DELETIONS_PER_BATCH = 100
METADATA_TIMEOUT_S = 10.0
"""Seconds that an answer waits for the names of its files."""
READ_FAILURE = "The files could not be read"
NO_TEXT_NOTE = "(Claude wrote files and no text.)"


@frozen_dataclass()
class DownloadedFile:
    """A file with its content."""

    file: OutputFile
    data: bytes


class OutputFiles:
    """The output files of all calls, each for its own user."""

    def __init__(self, claude: ClaudeClient, store: Store) -> None:
        self._claude = claude
        self._store = store

    async def record_files(self, call: Call, blocks: Sequence[Block]) -> tuple[OutputFile, ...]:
        """Record the files in an answer's blocks, with their names from the API.

        Returns:
            The files; none if the store cannot be written, since they could not be downloaded later either.
        """
        ids = output_file_ids(blocks)[:MAX_FILES_PER_CALL]
        if not ids:
            return ()
        metadata: dict[str, FileMetadata] = {}
        with anyio.move_on_after(METADATA_TIMEOUT_S):
            async with anyio.create_task_group() as tasks:
                for file_id in ids:
                    tasks.start_soon(self._load_metadata, file_id, metadata)
        now = time.time()
        records = [_new_record(call, file_id, metadata.get(file_id), now) for file_id in ids]
        try:
            await self._store.write(output_file_records.record_output_files, records)
        except StoreError:
            return ()
        return tuple(map(_to_output_file, records))

    async def files_of_call(self, call_id: str, user: str) -> tuple[OutputFile, ...]:
        """The output files of a user's call.

        Raises:
            ConfigurationError: The store could not be read.
        """
        with store_errors_as(READ_FAILURE):
            records = await self._store.write(output_file_records.output_files_of_call, call_id, user)
        return tuple(map(_to_output_file, records))

    async def latest_files(self, user: str, limit: int) -> tuple[OutputFile, ...]:
        """A user's newest output files.

        Raises:
            ConfigurationError: The store could not be read.
        """
        with store_errors_as(READ_FAILURE):
            records = await self._store.write(output_file_records.latest_output_files, user, limit)
        return tuple(map(_to_output_file, records))

    async def find_file(self, name: str, user: str) -> OutputFileRecord:
        """The record of a user's file, by our id.

        Raises:
            RequestError: There is none.
        """
        with store_errors_as(READ_FAILURE):
            file = await self._store.write(output_file_records.find_output_file, name, user)
        if file is None:
            raise RequestError("There is no file with that id.", kind="not_found")
        return file

    async def download(self, name: str, user: str, limit: int = MAX_DOWNLOAD_BYTES) -> DownloadedFile:
        """A user's file with its content, by our id.

        Raises:
            RequestError: There is none, it is no longer at Anthropic, or larger than `limit` bytes.
            CallError: It could not be had.
        """
        return await self._download(await self.find_file(name, user), limit)

    async def replace_names(self, names: Sequence[str], user: str, max_bytes: int) -> tuple[str, ...]:
        """Entries of `files` in which those that name a user's output file are what is sent for it.

        That is the id of the Files API for an image or a PDF, and a `data:` URI with the content for other files, of
        which the API accepts only plain text by id.

        Raises:
            CallError: There is none of that id, it is larger than `max_bytes`, or it could not be downloaded.
        """
        return tuple([await self._replace_name(name, user, max_bytes) for name in names])

    async def _replace_name(self, name: str, user: str, max_bytes: int) -> str:
        output_file_id = url_references.output_file_id(name)
        if output_file_id is None:
            return name
        file = await self.find_file(output_file_id, user)
        if entry := url_references.file_id_entry(file.file_id, name, file.mime_type):
            return entry
        downloaded = await self._download(file, max_bytes)
        return url_references.data_uri(file.name, downloaded.data)

    async def _download(self, file: OutputFileRecord, limit: int) -> DownloadedFile:
        if file.bytes is not None and file.bytes > limit:
            raise RequestError(
                f"The file is {file.bytes:,} bytes large; at most {limit:,} are fetched.", kind="too_large"
            )
        try:
            data = await files_api.download_file(self._claude, file.file_id, limit)
        except RequestError as failure:
            if failure.kind != "not_found":
                raise
            raise RequestError("The file is no longer at Anthropic.", kind="not_found") from None
        return DownloadedFile(_to_output_file(file), data)

    async def delete_expired(self, before: float) -> None:
        """Delete files made before then (unix seconds), and those whose text was forgotten, at Anthropic and here.

        What cannot be deleted now is tried the next time. A file that the API refuses does not hold up the others.
        """
        refused: set[str] = set()
        with suppress(CallError, StoreError):
            while files := await self._expired_files(before, refused):
                for file in files:
                    try:
                        await files_api.delete_file(self._claude, file.file_id)
                    except RequestError:
                        refused.add(file.id)
                    else:
                        await self._store.write(output_file_records.delete_output_file, file.id)

    async def _expired_files(self, before: float, refused: set[str]) -> list[OutputFileRecord]:
        """The next files to delete, without those that the API has refused to."""
        limit = MAX_DELETIONS_PER_BATCH + len(refused)
        files = await self._store.write(output_file_records.expired_output_files, before, limit)
        return [file for file in files if file.id not in refused]

    async def _load_metadata(self, file_id: str, metadata: dict[str, FileMetadata]) -> None:
        try:
            metadata[file_id] = await files_api.get_metadata(self._claude, file_id)
        except CallError:
            return  # it is listed by its id then


def output_file_ids(blocks: Sequence[Block]) -> list[str]:
    """The ids of the files in the results of server tools, each once.

    Output blocks of every tool count (`bash_code_execution_output`, `code_execution_output`, and future ones).
    """
    ids: dict[str, None] = {}
    for block in blocks:
        result = block.get("content")
        if not str(block.get("type")).endswith("_tool_result") or not isinstance(result, dict):
            continue
        outputs = cast("Mapping[str, object]", result).get("content")
        for output in cast("list[object]", outputs) if isinstance(outputs, list) else []:
            file_id = cast("Mapping[str, object]", output).get("file_id") if isinstance(output, dict) else None
            if isinstance(file_id, str) and file_id:
                ids[file_id] = None
    return list(ids)


def _new_record(call: Call, file_id: str, metadata: FileMetadata | None, now: float) -> OutputFileRecord:
    return output_file_records.OutputFileRecord(
        id=f"f_{token_hex(8)}",
        call_id=call.id,
        user=call.user,
        file_id=file_id,
        name=metadata.name if metadata else file_id,
        mime_type=metadata.mime_type if metadata else files_api.DEFAULT_MIME_TYPE,
        bytes=metadata.size_bytes if metadata else None,
        created_at=now,
    )


def _to_output_file(file: OutputFileRecord) -> OutputFile:
    return OutputFile(id=file.id, name=file.name, mime_type=file.mime_type, bytes=file.bytes)
