"""The state that the API keeps between requests: uploaded files, files made by code, and containers of code."""

from __future__ import annotations

import mimetypes
import re
from base64 import b64decode
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from typing import TYPE_CHECKING

from mcp_server_claude.simulator import json_responses
from mcp_server_claude.simulator.api_errors import ApiError, RequestRejectedError, complete_body, rejection
from mcp_server_claude.simulator.json_body import as_object, as_text, content_blocks, conversation_turns
from mcp_server_claude.simulator.server_tool_state import CODE_TOOL_NAMES, pending_tool_uses
from mcp_server_claude.simulator.tool_changes import offered_tools

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mcp_server_claude.simulator.http_connection import ClientConnection, HttpRequest
    from mcp_server_claude.simulator.json_body import Json, Object
    from mcp_server_claude.simulator.request_log import LoggedRequest

MIN_FILE_TTL_S, MAX_FILE_TTL_S = 3600, 7_776_000
"""Between an hour and ninety days: what an upload's `expires_in_seconds` may be."""
CONTAINER_TTL_S = 300
"""Seconds until `expires_at` of a container, a rolling time; a container lasts 30 days."""
DEFAULT_MIME_TYPE = "application/octet-stream"
PNG_PIXEL = b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
_PART_NAME = re.compile(rb'\bname="([^"]*)"')
_PART_FILENAME = re.compile(rb'\bfilename="([^"]*)"')


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """A file with what the API says of it; only what a tool has made can be downloaded."""

    id: str
    name: str
    mime_type: str
    data: bytes
    downloadable: bool
    created: datetime
    expires: datetime | None = None

    def metadata(self) -> Object:
        """The file as `GET /v1/files/{id}` describes it."""
        return {
            "type": "file",
            "id": self.id,
            "filename": self.name,
            "mime_type": self.mime_type,
            "size_bytes": len(self.data),
            "created_at": _timestamp(self.created),
            "downloadable": self.downloadable,
            "expires_at": _timestamp(self.expires) if self.expires else None,
        }


class FileStore:
    """The files and containers of one API."""

    def __init__(self) -> None:
        self._files: dict[str, StoredFile] = {}
        self._containers: set[str] = set()

    def handle_request(
        self, request: HttpRequest, path: str, record: LoggedRequest, connection: ClientConnection
    ) -> None:
        """Answer one request of the Files API; `path` is the part after `/v1/files/`.

        Raises:
            RequestRejectedError: There is no such file, or no such request.
        """
        file_id, _, rest = path.partition("/")
        match request.method, file_id, rest:
            case "POST", "", "":
                record.body = self.store_upload(
                    request.headers.get("content-type", ""), complete_body(request.body)
                ).metadata()
                json_responses.send_json(record.body, record, connection)
            case "GET", "", "":
                json_responses.send_json(self.list_files(), record, connection)
            case "GET", _, "":
                json_responses.send_json(self.get_file(file_id).metadata(), record, connection)
            case "GET", _, "content":
                file = self.get_downloadable_file(file_id)
                json_responses.send_file(file.data, file.mime_type, record, connection)
            case "DELETE", _, "":
                json_responses.send_json(self.delete_file(file_id), record, connection)
            case _:
                raise rejection("Not Found", status=404)

    def store_upload(self, content_type: str, body: bytes) -> StoredFile:
        """Keep what a `multipart/form-data` body holds.

        Raises:
            RequestRejectedError: It holds no file, or a wrong expiry.
        """
        fields = {name: (filename, kind, data) for name, filename, kind, data in _multipart_parts(content_type, body)}
        if "file" not in fields:
            raise rejection("file: Field required")
        filename, kind, data = fields["file"]
        name = filename.replace("\\", "/").rpartition("/")[2] or f"unnamed{mimetypes.guess_extension(kind) or ''}"
        expires = None
        if "expires_in_seconds" in fields:
            ttl = fields["expires_in_seconds"][2].decode()
            if not ttl.isdigit() or not MIN_FILE_TTL_S <= int(ttl) <= MAX_FILE_TTL_S:
                raise rejection(f"expires_in_seconds: Input should be between {MIN_FILE_TTL_S} and {MAX_FILE_TTL_S}")
            expires = datetime.now(UTC) + timedelta(seconds=int(ttl))
        return self._store(name, kind or _mime_type(name), data, downloadable=False, expires=expires)

    def store_tool_output(self, name: str) -> str:
        """Keep a file that code has made, holding what its name's ending says; its id."""
        data = PNG_PIXEL if _mime_type(name).startswith("image/") else f"made,{name}\n1,2\n".encode()
        return self._store(name, _mime_type(name), data, downloadable=True).id

    def get_file(self, file_id: str) -> StoredFile:
        """The file of that id.

        Raises:
            RequestRejectedError: There is none, or it has expired.
        """
        file = self._files.get(file_id)
        if file is None:
            raise rejection(f"File not found: {file_id}", status=404)
        if file.expires is not None and file.expires <= datetime.now(UTC):
            details: Object = {"error_code": "file_expired"}
            raise RequestRejectedError(ApiError(status=404, message=f"File has expired: {file_id}", details=details))
        return file

    def get_downloadable_file(self, file_id: str) -> StoredFile:
        """The file of that id, for download.

        Raises:
            RequestRejectedError: There is none, or it was uploaded.
        """
        file = self.get_file(file_id)
        if not file.downloadable:
            details: Object = {"error_code": "file_not_downloadable"}
            raise RequestRejectedError(
                ApiError(status=400, message=f"File is not downloadable: {file_id}", details=details)
            )
        return file

    def delete_file(self, file_id: str) -> Object:
        """Forget a file.

        Raises:
            RequestRejectedError: There is none.
        """
        self.get_file(file_id)
        del self._files[file_id]
        return {"type": "file_deleted", "id": file_id}

    def list_files(self) -> Object:
        """The page of all files, newest first."""
        data: list[Json] = [file.metadata() for file in reversed(self._files.values())]
        return {"data": data, "next_page": None}

    def expire(self, resource_id: str) -> None:
        """Let a file or a container expire now."""
        self._containers.discard(resource_id)
        if resource_id in self._files:
            self._files[resource_id] = replace(self._files[resource_id], expires=datetime.now(UTC))

    def check_references(self, body: Object, *, counting: bool = False) -> None:
        """Pass a request whose files and container are here; `count_tokens` knows no containers.

        Raises:
            RequestRejectedError: One is not, or the container is missing that has code running in it.
        """
        for file_id in _referenced_file_ids(body):
            self.get_file(file_id)
        if counting:
            return
        container = body.get("container")
        if container is not None and not isinstance(container, str):
            raise rejection("container: Input should be a valid string")
        if container and container not in self._containers:
            raise rejection(f"container: '{container}' has expired or does not exist", status=404)
        if not container and any(
            as_text(use.get("name")) in CODE_TOOL_NAMES for use in pending_tool_uses(conversation_turns(body))
        ):
            raise rejection("container_id is required when there are pending tool uses generated by code execution.")

    def open_container(self, container_id: Json) -> Object:
        """The container in which code runs: the one that was asked for, else a new one."""
        name = container_id if isinstance(container_id, str) and container_id else f"container_011{token_hex(10)}"
        self._containers.add(name)
        return {"id": name, "expires_at": _timestamp(datetime.now(UTC) + timedelta(seconds=CONTAINER_TTL_S))}

    def _store(
        self, name: str, kind: str, data: bytes, *, downloadable: bool, expires: datetime | None = None
    ) -> StoredFile:
        file = StoredFile(
            id=f"file_011{token_hex(10)}",
            name=name,
            mime_type=kind,
            data=data,
            downloadable=downloadable,
            created=datetime.now(UTC),
            expires=expires,
        )
        self._files[file.id] = file
        return file


def _referenced_file_ids(body: Object) -> Iterator[str]:
    """The ids of files that a request's messages name."""
    for message in conversation_turns(body):
        for block in content_blocks(message.get("content")):
            source = as_object(block.get("source"))
            if source.get("type") == "file":
                yield as_text(source.get("file_id"))
            elif block.get("type") == "container_upload":
                yield as_text(block.get("file_id"))


def offers_code_execution(body: Object) -> bool:
    """True when code can run for this request, by itself or to filter results of the web."""
    kinds = [as_text(tool.get("type")) for tool in offered_tools(body)]
    return any(kind.startswith(("code_execution", "web_search_2026", "web_fetch_2026")) for kind in kinds)


def _multipart_parts(content_type: str, body: bytes) -> Iterator[tuple[str, str, str, bytes]]:
    """Name, filename, type and content of each part of a multipart body (RFC 7578)."""
    _, _, boundary = content_type.partition("boundary=")
    if not content_type.startswith("multipart/form-data") or not boundary:
        raise rejection("The request must be multipart/form-data")
    for part in body.split(b"--" + boundary.strip('"').encode())[1:-1]:
        head, _, data = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        name, filename = _PART_NAME.search(head), _PART_FILENAME.search(head)
        kind = next((line[13:] for line in head.split(b"\r\n") if line.lower().startswith(b"content-type:")), b"")
        yield (
            name[1].decode() if name else "",
            filename[1].decode() if filename else "",
            kind.decode().strip(),
            data.removesuffix(b"\r\n"),
        )


def _mime_type(name: str) -> str:
    return mimetypes.guess_type(name)[0] or DEFAULT_MIME_TYPE


def _timestamp(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"
