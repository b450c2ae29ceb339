"""Content blocks of the Messages API (`anthropic.types.*BlockParam`, SDK 2.11), and what they weigh.

A text file is a text block between tags: `<file index="3" path="src/a.py">` … `</file>`. Its content could hold such
tags itself, by chance or to deceive; then the tag's name carries a hash of the content, which the content cannot hold
(it is checked). The name is made from the content, not by chance, so that the same file is the same block in the next
call and the prompt cache is hit. The path is escaped, so it ends neither the tag nor the line.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from hashlib import sha256
from html import escape
from typing import TYPE_CHECKING, Literal, cast

from mcp_server_claude.call_types import CHARS_PER_TOKEN, Block
from mcp_server_claude.files.content_types import image_dimensions
from mcp_server_claude.lone_surrogates import replace_lone_surrogates

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mcp_server_claude.files.content_types import ImageFile

MAX_DOCUMENT_TITLE_CHARS = 500
DEFAULT_IMAGE_TOKENS = 1_600
"""What an image of unknown size weighs, and the most that one weighs on models that scale it to 1,568 pixels."""
PIXELS_PER_TOKEN = 750  # platform.claude.com/docs, "Vision", calculate image costs
TOKENS_PER_PAGE = 3_000  # its text (1,500 to 3,000) and its picture; platform.claude.com/docs, "PDF support"
BYTES_PER_PAGE = 60_000
DEFAULT_DOCUMENT_TOKENS = 10 * TOKENS_PER_PAGE

_FILE_TAG = re.compile(r"</?file", re.IGNORECASE)
_PDF_PAGE = re.compile(rb"/Type\s*/Page(?![A-Za-z])")


def text_block(content: str, *, index: int, path: str) -> Block:
    """A text file with a numbered header."""
    tag = _file_tag(content)
    end = "" if content.endswith("\n") else "\n"
    return {"type": "text", "text": f'<{tag} index="{index}" path="{escape_attribute(path)}">\n{content}{end}</{tag}>'}


def label_block(*, index: int, path: str) -> Block:
    """What stands before an image, which has no title of its own."""
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
    """A file for code alone; its bytes stand here until they are uploaded."""
    return {"type": "container_upload", "data": data}


def escape_attribute(path: str) -> str:
    """A path between quotes in a tag: escaped, on one line, without characters that cannot be seen."""
    seen = "".join(each if each.isprintable() else f"\\u{{{ord(each):x}}}" for each in replace_lone_surrogates(path))
    return escape(seen, quote=True)


def document_title(path: str) -> str:
    return "".join(each if each.isprintable() else "\ufffd" for each in replace_lone_surrogates(path))[
        -MAX_DOCUMENT_TITLE_CHARS:
    ]


def encoded_size(block: Block) -> int:
    """The bytes of a block as it is sent: UTF-8 JSON, or what is uploaded."""
    if isinstance(data := block.get("data"), bytes):
        return len(data)
    return len(json.dumps(block, ensure_ascii=False, separators=(",", ":")).encode())


def estimate_block_tokens(blocks: Sequence[Block]) -> int:
    """Roughly how many tokens these blocks are; `count_tokens` knows exactly."""
    return sum(map(_block_tokens, blocks))


def _file_tag(content: str) -> str:
    if not _FILE_TAG.search(content):
        return "file"
    digest = sha256(content.encode()).hexdigest()
    return next(tag for n in range(12, 65) if (tag := f"file-{digest[:n]}") not in content)


def _block_tokens(block: Block) -> int:
    source = cast("Mapping[str, object]", block.get("source", {}))
    data = source.get("data")
    match block.get("type"):
        case "text":
            return int(len(str(block.get("text", ""))) / CHARS_PER_TOKEN) + 1
        case "image":
            return _image_tokens(data) if isinstance(data, str) else DEFAULT_IMAGE_TOKENS
        case "document":
            return _pdf_pages(data) * TOKENS_PER_PAGE if isinstance(data, str) else DEFAULT_DOCUMENT_TOKENS
        case _:
            return encoded_size(block) // 4


def _image_tokens(data: str) -> int:
    width, height = image_dimensions(b64decode(data[: 1 << 18]))  # a JPEG's frame comes after its thumbnail
    return min(-(-width * height // PIXELS_PER_TOKEN), DEFAULT_IMAGE_TOKENS) or DEFAULT_IMAGE_TOKENS


def _pdf_pages(data: str) -> int:
    """Pages that are told in the open, else by size: newer PDFs compress that too."""
    raw = b64decode(data)
    return len(_PDF_PAGE.findall(raw)) or -(-len(raw) // BYTES_PER_PAGE)
