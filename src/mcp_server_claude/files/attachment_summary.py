"""Summaries of the files that were attached to a message, read back from its content blocks."""

from __future__ import annotations

import re
from html import unescape
from typing import TYPE_CHECKING, cast

from mcp_server_claude.frozen_dataclass import frozen_dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mcp_server_claude.call_types import Block

# Written by `content_blocks.text_block` and `label_block`.
_HEADER = re.compile(r'^<file[\w-]* index="\d+" path="([^"]*)"(?: lines="([\d-]+) of \d+")?/?>')


@frozen_dataclass(kw_only=True)
class FileSummary:
    """Name, kind and size of a file; `size` in bytes, None where the block does not hold the file."""

    name: str
    kind: str
    size: int | None = None


def summarize_files(blocks: Iterable[Block]) -> list[FileSummary]:
    """The files among the content blocks of a user message, without its prompt."""
    files: list[FileSummary] = []
    label = ""
    for block in blocks:
        match block.get("type"):
            case "text":
                text = str(block.get("text") or "")
                header = _HEADER.match(text)
                if header is None:
                    continue
                label = unescape(header[1]) + (f":{header[2]}" if header[2] else "")
                if not header[0].endswith("/>"):
                    files.append(FileSummary(name=label, kind="text", size=len(text.encode())))
                    label = ""
            case ("image" | "document") as kind:
                name = str(block.get("title") or label or _source_address(block) or kind)
                files.append(FileSummary(name=name, kind=str(kind), size=_source_size(block)))
                label = ""
            case "container_upload" if label:
                files.append(FileSummary(name=label, kind="data"))
                label = ""
            case _:
                pass
    return files


def _block_source(block: Block) -> Mapping[str, object]:
    return cast("Mapping[str, object]", block.get("source") or {})


def _source_address(block: Block) -> str:
    return str(_block_source(block).get("url") or _block_source(block).get("file_id") or "")


def _source_size(block: Block) -> int | None:
    data = _block_source(block).get("data")
    return len(data) * 3 // 4 if isinstance(data, str) else None
