"""What is passed on by reference or comes inline: https URLs, file ids, `data:` URIs. Nothing is ever fetched here."""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Literal, TypeAlias
from urllib.parse import unquote, urlsplit

from mcp_server_claude.errors import Refused
from mcp_server_claude.files.content_types import Image, Other, Pdf, Text, kind
from mcp_server_claude.files.name_quoting import TAKEN, shown, size

if TYPE_CHECKING:
    from mcp_server_claude.files.content_types import Kind
    from mcp_server_claude.files.roots import Rules

Sort: TypeAlias = Literal["image", "document"]

LONGEST_URL = 2_000
FILE_ID = re.compile(r"(file_[A-Za-z0-9]{12,64})(#image|#document)?")
"""An id of the Files API. It is sent as a document unless it ends with `#image`."""

IMAGES = (".png", ".jpg", ".jpeg", ".gif", ".webp")
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://|(data|file|blob|javascript|mailto):", re.IGNORECASE)
_DATA = re.compile(r"data:([a-z0-9.+/-]*)((?:;[a-z0-9-]+=[^;,]*)*)(;base64)?,", re.IGNORECASE)
_NAME = re.compile(r";name=([^;]+)", re.IGNORECASE)
_LONGEST_HEAD = 4_000
_INLINE_TEXT = ("text/", "application/json", "application/xml", "application/yaml", "application/javascript")
_LOCAL = (".local", ".localhost", ".internal", ".lan", ".home.arpa")


@dataclass(frozen=True, slots=True)
class Url:
    url: str
    sort: Sort


@dataclass(frozen=True, slots=True)
class FileId:
    id: str
    sort: Sort


@dataclass(frozen=True, slots=True)
class Inline:
    """The content of a `data:` URI; `path` is what it is called in headers: its parameter `name`, if it has one."""

    content: Kind
    path: str


Reference: TypeAlias = Url | FileId | Inline


def reference(name: str, rules: Rules) -> Reference | None:
    """What a name refers to, None when it is a path.

    Raises:
        Refused: it is a URL of a kind that is not passed on.
    """
    if found := FILE_ID.fullmatch(name):
        return FileId(found[1], "image" if found[2] == "#image" else "document")
    scheme = _SCHEME.match(name)
    if not scheme:
        return None
    match (scheme[1] or scheme[2]).lower():
        case "https":
            return _url(name)
        case "data":
            return _inline(name, rules)
        case "http":
            raise Refused("Only https URLs are passed on, this one is http.")
        case "file":
            raise Refused("Name a file by its path, without file:.")
        case other:
            raise Refused(f"URLs are passed on when they are https; {shown(other, 20)} is not.")


def _url(name: str) -> Url:
    if len(name) > LONGEST_URL:
        raise Refused(f"The URL is {len(name):,} characters long; at most {LONGEST_URL:,} are passed on.")
    if any(each.isspace() or not each.isprintable() or each in '\\"<>`{}|^' for each in name):
        raise Refused("The URL holds characters that a URL cannot; percent-encode them.")
    try:
        parts = urlsplit(name)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise Refused("The URL is not well-formed.") from None
    if "@" in parts.netloc:
        raise Refused("A URL with a user name or password is not passed on; use one without.")
    if not host or port == 0:
        raise Refused("The URL has no host.")
    if _private(host):
        raise Refused(f"Anthropic fetches the URL and cannot reach {shown(host, 60)}; name a local file by its path.")
    path = parts.path.lower()
    if parts.fragment in {"image", "document"}:
        return Url(name.rpartition("#")[0], "image" if parts.fragment == "image" else "document")
    return Url(name, "image" if path.endswith(IMAGES) else "document")


def _private(host: str) -> bool:
    try:
        return not ip_address(host.strip("[]")).is_global
    except ValueError:
        return "." not in host.rstrip(".") or host.rstrip(".").lower().endswith(_LOCAL)


def _inline(name: str, rules: Rules) -> Inline:
    head = _DATA.match(name[:_LONGEST_HEAD])
    if not head or not head[3]:
        raise Refused("A data: URI is data:<media type>;base64,<data>; this one is not.")
    media_type = head[1].lower()
    length = (len(name) - head.end()) * 3 // 4
    if length > rules.max_file_bytes:
        raise Refused(f"The data: URI holds {size(length)}; at most {size(rules.max_file_bytes)}.", kind="too_large")
    try:
        data = b64decode(name[head.end() :], validate=True)
    except (binascii.Error, ValueError):
        raise Refused("What stands after ;base64, in the data: URI is not base64 (no spaces, padded with =).") from None
    content = kind(data)
    if isinstance(content, Other) and not (rules.for_code and content.data):
        raise Refused(f"The data: URI holds {content.name}. {TAKEN}{rules.hint}" if data else "The data: URI is empty.")
    # Of a file with a name a browser guesses the media type by that name (`.ts` is video to it), so only bytes count.
    called = _NAME.search(head[2])
    if called is None and not isinstance(content, Other) and not _fits(content, media_type):
        said = shown(media_type, 60) if media_type else "no media type"
        raise Refused(f"The data: URI says {said} and holds {_held(content)}. {TAKEN}")
    return Inline(content, unquote(called[1]) if called else f"data:{media_type}")


def _held(content: Text | Pdf | Image) -> str:
    match content:
        case Image(media_type=actual):
            return actual
        case Pdf():
            return "application/pdf"
        case Text():
            return "text"


def _fits(content: Text | Pdf | Image, media_type: str) -> bool:
    """Whether the bytes are what the URI says."""
    return media_type.startswith(_INLINE_TEXT) if isinstance(content, Text) else media_type == _held(content)
