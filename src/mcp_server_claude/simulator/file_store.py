"""What lies at the API between requests: files, uploaded or made by code, and the containers in which code ran."""

from __future__ import annotations

import mimetypes
import re
from base64 import b64decode
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from typing import TYPE_CHECKING

from mcp_server_claude.simulator import json_responses
from mcp_server_claude.simulator.api_errors import Problem, RefusedError, refuse, whole
from mcp_server_claude.simulator.json_body import blocks, items, obj, text, turns
from mcp_server_claude.simulator.server_tool_state import CODE, pending

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mcp_server_claude.simulator.http_connection import Connection, Request
    from mcp_server_claude.simulator.json_body import Json, Object
    from mcp_server_claude.simulator.request_log import Record

SHORTEST_S, LONGEST_S = 3600, 7_776_000
"""Between an hour and ninety days: what an upload's `expires_in_seconds` may be."""
CONTAINER_S = 300
"""What `expires_at` of a container tells: a shorter, rolling time than the 30 days that one lasts."""
UNKNOWN = "application/octet-stream"
PIXEL = b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")
_NAME = re.compile(rb'\bname="([^"]*)"')
_FILENAME = re.compile(rb'\bfilename="([^"]*)"')


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file with what the API says of it; only what a tool has made can be downloaded."""

    id: str
    name: str
    mime_type: str
    data: bytes
    downloadable: bool
    created: datetime
    expires: datetime | None = None

    def as_json(self) -> Object:
        """The file as `GET /v1/files/{id}` tells it."""
        return {
            "type": "file",
            "id": self.id,
            "filename": self.name,
            "mime_type": self.mime_type,
            "size_bytes": len(self.data),
            "created_at": _moment(self.created),
            "downloadable": self.downloadable,
            "expires_at": _moment(self.expires) if self.expires else None,
        }


class Shelf:
    """The files and containers of one API."""

    def __init__(self) -> None:
        self._files: dict[str, File] = {}
        self._containers: set[str] = set()

    def answer(self, request: Request, place: str, record: Record, line: Connection) -> None:
        """Answer one request of the Files API; `place` is what stands after `/v1/files/`.

        Raises:
            RefusedError: There is no such file, or no such request.
        """
        file_id, _, rest = place.partition("/")
        match request.method, file_id, rest:
            case "POST", "", "":
                record.body = self.upload(request.headers.get("content-type", ""), whole(request.body)).as_json()
                json_responses.reply(record.body, record, line)
            case "GET", "", "":
                json_responses.reply(self.listed(), record, line)
            case "GET", _, "":
                json_responses.reply(self.find(file_id).as_json(), record, line)
            case "GET", _, "content":
                file = self.content(file_id)
                json_responses.send(file.data, file.mime_type, record, line)
            case "DELETE", _, "":
                json_responses.reply(self.delete(file_id), record, line)
            case _:
                raise refuse("Not Found", status=404)

    def upload(self, content_type: str, body: bytes) -> File:
        """Keep what a `multipart/form-data` body holds.

        Raises:
            RefusedError: It holds no file, or a wrong expiry.
        """
        fields = {name: (filename, kind, data) for name, filename, kind, data in _parts(content_type, body)}
        if "file" not in fields:
            raise refuse("file: Field required")
        filename, kind, data = fields["file"]
        name = filename.replace("\\", "/").rpartition("/")[2] or f"unnamed{mimetypes.guess_extension(kind) or ''}"
        expires = None
        if "expires_in_seconds" in fields:
            told = fields["expires_in_seconds"][2].decode()
            if not told.isdigit() or not SHORTEST_S <= int(told) <= LONGEST_S:
                raise refuse(f"expires_in_seconds: Input should be between {SHORTEST_S} and {LONGEST_S}")
            expires = datetime.now(UTC) + timedelta(seconds=int(told))
        return self._keep(name, kind or _kind(name), data, downloadable=False, expires=expires)

    def make(self, name: str) -> str:
        """Keep a file that code has made, holding what its name's ending says; its id."""
        data = PIXEL if _kind(name).startswith("image/") else f"made,{name}\n1,2\n".encode()
        return self._keep(name, _kind(name), data, downloadable=True).id

    def find(self, file_id: str) -> File:
        """The file of that id.

        Raises:
            RefusedError: There is none, or it has expired.
        """
        file = self._files.get(file_id)
        if file is None:
            raise refuse(f"File not found: {file_id}", status=404)
        if file.expires is not None and file.expires <= datetime.now(UTC):
            details: Object = {"error_code": "file_expired"}
            raise RefusedError(Problem(status=404, message=f"File has expired: {file_id}", details=details))
        return file

    def content(self, file_id: str) -> File:
        """The file of that id, for download.

        Raises:
            RefusedError: There is none, or it was uploaded.
        """
        file = self.find(file_id)
        if not file.downloadable:
            details: Object = {"error_code": "file_not_downloadable"}
            raise RefusedError(Problem(status=400, message=f"File is not downloadable: {file_id}", details=details))
        return file

    def delete(self, file_id: str) -> Object:
        """Forget a file.

        Raises:
            RefusedError: There is none.
        """
        self.find(file_id)
        del self._files[file_id]
        return {"type": "file_deleted", "id": file_id}

    def listed(self) -> Object:
        """The page of all files, newest first."""
        data: list[Json] = [file.as_json() for file in reversed(self._files.values())]
        return {"data": data, "next_page": None}

    def lose(self, thing: str) -> None:
        """Let a file or a container expire now."""
        self._containers.discard(thing)
        if thing in self._files:
            self._files[thing] = replace(self._files[thing], expires=datetime.now(UTC))

    def check(self, body: Object, *, counting: bool = False) -> None:
        """Pass a request whose files and container are here; `count_tokens` knows no containers.

        Raises:
            RefusedError: One is not, or the container is missing that has code running in it.
        """
        for file_id in _named(body):
            self.find(file_id)
        if counting:
            return
        container = body.get("container")
        if container is not None and not isinstance(container, str):
            raise refuse("container: Input should be a valid string")
        if container and container not in self._containers:
            raise refuse(f"container: '{container}' has expired or does not exist", status=404)
        if not container and any(text(use.get("name")) in CODE for use in pending(turns(body))):
            raise refuse("container_id is required when there are pending tool uses generated by code execution.")

    def container(self, asked: Json) -> Object:
        """The container in which code runs: the one that was asked for, else a new one."""
        name = asked if isinstance(asked, str) and asked else f"container_011{token_hex(10)}"
        self._containers.add(name)
        return {"id": name, "expires_at": _moment(datetime.now(UTC) + timedelta(seconds=CONTAINER_S))}

    def _keep(self, name: str, kind: str, data: bytes, *, downloadable: bool, expires: datetime | None = None) -> File:
        file = File(
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


def _named(body: Object) -> Iterator[str]:
    """The ids of files that a request's messages name."""
    for message in turns(body):
        for block in blocks(message.get("content")):
            source = obj(block.get("source"))
            if source.get("type") == "file":
                yield text(source.get("file_id"))
            elif block.get("type") == "container_upload":
                yield text(block.get("file_id"))


def offers_code(body: Object) -> bool:
    """Whether code can run for this request, by itself or to filter what was found on the web."""
    kinds = [text(obj(tool).get("type")) for tool in items(body.get("tools"))]
    return any(kind.startswith(("code_execution", "web_search_2026", "web_fetch_2026")) for kind in kinds)


def _parts(content_type: str, body: bytes) -> Iterator[tuple[str, str, str, bytes]]:
    """Name, filename, type and content of each part of a multipart body (RFC 7578)."""
    _, _, boundary = content_type.partition("boundary=")
    if not content_type.startswith("multipart/form-data") or not boundary:
        raise refuse("The request must be multipart/form-data")
    for part in body.split(b"--" + boundary.strip('"').encode())[1:-1]:
        head, _, data = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        name, filename = _NAME.search(head), _FILENAME.search(head)
        kind = next((line[13:] for line in head.split(b"\r\n") if line.lower().startswith(b"content-type:")), b"")
        yield (
            name[1].decode() if name else "",
            filename[1].decode() if filename else "",
            kind.decode().strip(),
            data.removesuffix(b"\r\n"),
        )


def _kind(name: str) -> str:
    return mimetypes.guess_type(name)[0] or UNKNOWN


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"
