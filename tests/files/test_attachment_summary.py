"""What a person is shown of the files that went with a question."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from mcp_server_claude.files import FileSummary, summarize_files
from support.file_tree import pdf, png

if TYPE_CHECKING:
    from support.file_tree import FileTree


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
def test_each_file_is_listed_by_its_name_whatever_its_kind(tree: FileTree) -> None:
    (tree.root / 'a"b<c>.txt').write_text("some words")
    (tree.root / "paper.pdf").write_bytes(pdf())
    (tree.root / "cat.png").write_bytes(png())
    gathered = tree.attach('a"b<c>.txt', "paper.pdf", "cat.png")

    files = summarize_files(gathered.blocks)

    assert sorted((each.name, each.kind) for each in files) == [
        ('a"b<c>.txt', "text"),
        ("cat.png", "image"),
        ("paper.pdf", "document"),
    ]
    assert all(each.size for each in files)


def test_a_prompt_that_quotes_a_file_tag_is_not_a_file() -> None:
    assert summarize_files([{"type": "text", "text": "what is <file index=1>?"}]) == []


def test_a_file_that_was_only_referenced_has_no_size() -> None:
    url = {"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}}
    by_id = {"type": "document", "source": {"type": "file", "file_id": "file_1"}}
    assert summarize_files([url, by_id]) == [
        FileSummary(name="https://example.com/a.pdf", kind="document"),
        FileSummary(name="file_1", kind="document"),
    ]
