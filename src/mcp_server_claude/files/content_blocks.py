"""Content blocks of the Messages API for files (`anthropic.types.*BlockParam`, SDK 2.11), and their size.

A text file is a text block between tags: `<file index="3" path="src/a.py">` … `</file>`. Where the content itself holds
such tags, by chance or to deceive, the name of the tag carries a hash of the content, and the content is checked not to
hold it. The name depends on the content alone, so the same file is the same block in the next call and hits the prompt
cache. The path is escaped, so it ends neither the tag nor the line.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from hashlib import sha256
from html import escape
from typing import TYPE_CHECKING, Literal

from mcp_server_claude.lone_surrogates import replace_lone_surrogates

if TYPE_CHECKING:
    from mcp_server_claude.call_types import Block
    from mcp_server_claude.files.content_types import ImageFile

MAX_DOCUMENT_TITLE_CHARS = 500

_FILE_TAG = re.compile(r"</?file", re.IGNORECASE)


def text_block(content: str, *, index: int, path: str, lines: str = "") -> Block:
    """A text file between numbered tags; `lines` says which part of the file it is, empty for all."""
    tag = _file_tag(content)
    end = "" if content.endswith("\n") else "\n"
    part = f' lines="{lines}"' if lines else ""
    head = f'<{tag} index="{index}" path="{escape_attribute(path)}"{part}>'
    return {"type": "text", "text": f"{head}\n{content}{end}</{tag}>"}


def label_block(*, index: int, path: str) -> Block:
    """The label before an image or data file, which has no title of its own."""
    return {"type": "text", "text": f'<file index="{index}" path="{escape_attribute(path)}"/>'}


def pdf_block(data: bytes, *, path: str) -> Block:
    source = {"type": "base64", "media_type": "application/pdf", "data": b64encode(data).decode("ascii")}
    return {"type": "document", "source": source, "title": document_title(path)}


def image_block(content: ImageFile) -> Block:
    data = b64encode(content.data).decode("ascii")
    return {"type": "image", "source": {"type": "base64", "media_type": content.media_type, "data": data}}


def url_block(url: str, block_type: Literal["image", "document"]) -> Block:
    return {"type": block_type, "source": {"type": "url", "url": url}}


def file_id_block(file_id: str, block_type: Literal["image", "document"]) -> Block:
    return {"type": block_type, "source": {"type": "file", "file_id": file_id}}


def data_file_block(data: bytes) -> Block:
    """A file for code alone; the block holds its bytes until they are uploaded."""
    return {"type": "container_upload", "data": data}


def escape_attribute(path: str) -> str:
    """A path for an attribute of a tag: escaped, on one line, without invisible characters."""
    visible = "".join(each if each.isprintable() else f"\\u{{{ord(each):x}}}" for each in replace_lone_surrogates(path))
    return escape(visible, quote=True)


def document_title(path: str) -> str:
    return "".join(each if each.isprintable() else "\ufffd" for each in replace_lone_surrogates(path))[
        -MAX_DOCUMENT_TITLE_CHARS:
    ]


def encoded_size(block: Block) -> int:
    """The bytes of a block in the request or upload: UTF-8 JSON, or the data of the file."""
    if isinstance(data := block.get("data"), bytes):
        return len(data)
    return len(json.dumps(block, ensure_ascii=False, separators=(",", ":")).encode())


def _file_tag(content: str) -> str:
    if not _FILE_TAG.search(content):
        return "file"
    digest = sha256(content.encode()).hexdigest()
    return next(tag for n in range(12, 65) if (tag := f"file-{digest[:n]}") not in content)
