"""Parses entries of `files` that are no paths: https URLs, file ids and `data:` URIs. Nothing is fetched here."""

from __future__ import annotations

import binascii
import re
from base64 import b64decode, b64encode
from ipaddress import ip_address
from typing import TYPE_CHECKING, Literal, TypeAlias
from urllib.parse import quote, unquote, urlsplit

from mcp_server_claude.errors import RequestError
from mcp_server_claude.files.content_types import ImageFile, PdfFile, TextFile, UnsupportedFile, detect_content
from mcp_server_claude.files.name_quoting import SUPPORTED_TYPES, format_bytes, quote_name
from mcp_server_claude.frozen_dataclass import frozen_dataclass

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcp_server_claude.files.content_types import FileContent
    from mcp_server_claude.files.roots import FilePolicy

BlockType: TypeAlias = Literal["image", "document"]

MAX_URL_CHARS = 2_000
FILE_ID = re.compile(r"(file_[A-Za-z0-9]{12,64})(#image|#document)?")
"""An id of the Files API, sent as a document unless `#image` follows it."""
OUTPUT_FILE_ID = re.compile(r"(?:claude://files/)?(f_[0-9a-f]{16})(#image|#document)?")
"""An id of a file that code made in an earlier call, or the address of its resource."""

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".webp")
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://|(data|file|blob|javascript|mailto):", re.IGNORECASE)
_DATA_URI = re.compile(r"data:([a-z0-9.+/-]*)((?:;[a-z0-9-]+=[^;,]*)*)(;base64)?,", re.IGNORECASE)
_NAME_PARAMETER = re.compile(r";name=([^;]+)", re.IGNORECASE)
_MAX_DATA_URI_HEADER_CHARS = 4_000
_TEXT_MEDIA_TYPES = ("text/", "application/json", "application/xml", "application/yaml", "application/javascript")
_LOCAL_HOST_SUFFIXES = (".local", ".localhost", ".internal", ".lan", ".home.arpa")


@frozen_dataclass()
class UrlReference:
    url: str
    block_type: BlockType


@frozen_dataclass()
class FileIdReference:
    id: str
    block_type: BlockType


@frozen_dataclass()
class InlineContent:
    """The content of a `data:` URI or a file; `path` is the name for its header."""

    content: FileContent
    path: str


Reference: TypeAlias = UrlReference | FileIdReference | InlineContent


def parse_reference(name: str, policy: FilePolicy) -> Reference | None:
    """The reference of an entry, None for a path or a `file:` URI.

    Raises:
        RequestError: It is a URL of a scheme or host that is not passed on.
    """
    if file_id := FILE_ID.fullmatch(name):
        return FileIdReference(file_id[1], "image" if file_id[2] == "#image" else "document")
    scheme = _SCHEME.match(name)
    if not scheme:
        return None
    match (scheme[1] or scheme[2]).lower():
        case "https":
            return _parse_url(name)
        case "data":
            return _parse_data_uri(name, policy)
        case "http":
            raise RequestError("Only https URLs are passed on; this one is http.")
        case "file":
            return None
        case "claude":
            raise RequestError(
                "Of the resources of this server only files (claude://files/f_…) can be sent. Read any other one, and "
                "put its text into the prompt."
            )
        case other:
            raise RequestError(f"Only https URLs are passed on; this one is {quote_name(other, 20)}.")


def named_file_ids(names: Sequence[str]) -> tuple[str, ...]:
    """The ids of the Files API among the entries of `files`."""
    return tuple(found[1] for name in names if (found := FILE_ID.fullmatch(name)))


def output_file_id(name: str) -> str | None:
    """Our id (`f_…`) of a file that code made, which an entry of `files` names; None for any other entry."""
    return found[1] if (found := OUTPUT_FILE_ID.fullmatch(name.strip())) else None


def file_id_entry(file_id: str, name: str, mime_type: str) -> str | None:
    """The entry for an image or a PDF in the Files API, with the block type that `name` asks for after `#`.

    None for other types: the API takes them only as text.
    """
    is_image = mime_type.startswith("image/")
    if not is_image and mime_type != "application/pdf":
        return None
    return file_id + (f"#{name.rpartition('#')[2].strip()}" if "#" in name else "#image" if is_image else "")


def data_uri(name: str, data: bytes) -> str:
    """Data with a name in the form that `files` takes; its type is detected by its bytes."""
    return f"data:application/octet-stream;name={quote(name, safe='')};base64,{b64encode(data).decode()}"


def _parse_url(name: str) -> UrlReference:
    if len(name) > MAX_URL_CHARS:
        raise RequestError(f"The URL is {len(name):,} characters long; at most {MAX_URL_CHARS:,} are passed on.")
    if any(each.isspace() or not each.isprintable() or each in '\\"<>`{}|^' for each in name):
        raise RequestError("The URL has characters that a URL cannot have; percent-encode them.")
    try:
        parts = urlsplit(name)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise RequestError("The URL is not well-formed.") from None
    if "@" in parts.netloc:
        raise RequestError("A URL with a user name or password is not passed on; use one without.")
    if not host or port == 0:
        raise RequestError("The URL has no host.")
    if _is_private_host(host):
        raise RequestError(
            f"Anthropic fetches the URL and cannot reach {quote_name(host, 60)}; name a local file by its path."
        )
    path = parts.path.lower()
    if parts.fragment in {"image", "document"}:
        return UrlReference(name.rpartition("#")[0], "image" if parts.fragment == "image" else "document")
    return UrlReference(name, "image" if path.endswith(IMAGE_SUFFIXES) else "document")


def _is_private_host(host: str) -> bool:
    try:
        return not ip_address(host.strip("[]")).is_global
    except ValueError:
        return "." not in host.rstrip(".") or host.rstrip(".").lower().endswith(_LOCAL_HOST_SUFFIXES)


def _parse_data_uri(uri: str, policy: FilePolicy) -> InlineContent:
    head = _DATA_URI.match(uri[:_MAX_DATA_URI_HEADER_CHARS])
    if not head or not head[3]:
        raise RequestError("A data: URI is data:<media type>;base64,<data>; this one is not.")
    media_type = head[1].lower()
    parameter = _NAME_PARAMETER.search(head[2])
    name = unquote(parameter[1]) if parameter else ""
    subject = quote_name(name) if name else "The data: URI"
    length = (len(uri) - head.end()) * 3 // 4
    if length > policy.max_file_bytes:
        size, limit = format_bytes(length), format_bytes(policy.max_file_bytes)
        raise RequestError(f"{subject} has {size}; at most {limit} can be sent.", kind="too_large")
    try:
        data = b64decode(uri[head.end() :], validate=True)
    except (binascii.Error, ValueError):
        raise RequestError("The data: URI is not base64 after ;base64, (no spaces, padded with =).") from None
    content = detect_content(data)
    if isinstance(content, UnsupportedFile) and not (policy.for_code and content.data):
        hint = f" {SUPPORTED_TYPES}{policy.hint}" if data else ""
        raise RequestError(f"{subject} is {content.description}.{hint}")
    # For a file with a name browsers guess the media type by that name (`.ts` is video to them): only the bytes count.
    if not name and not isinstance(content, UnsupportedFile) and not _matches_media_type(content, media_type):
        declared = quote_name(media_type, 60) if media_type else "no media type"
        raise RequestError(f"The data: URI declares {declared} and holds {_media_type(content)}. {SUPPORTED_TYPES}")
    return InlineContent(content, name or f"data:{media_type}")


def _media_type(content: TextFile | PdfFile | ImageFile) -> str:
    match content:
        case ImageFile(media_type=actual):
            return actual
        case PdfFile():
            return "application/pdf"
        case TextFile():
            return "text"


def _matches_media_type(content: TextFile | PdfFile | ImageFile, media_type: str) -> bool:
    """True if the bytes are of the declared media type."""
    return (
        media_type.startswith(_TEXT_MEDIA_TYPES)
        if isinstance(content, TextFile)
        else media_type == _media_type(content)
    )
