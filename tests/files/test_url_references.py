"""URLs and file ids are passed on, never fetched; data: URIs are what they say or nothing."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING

import pytest

from mcp_server_claude.errors import RequestError
from support.file_tree import FileTree, pdf, png

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("name", "kind", "url"),
    [
        ("https://example.com/a.pdf", "document", "https://example.com/a.pdf"),
        ("HTTPS://example.com/paper", "document", "HTTPS://example.com/paper"),
        ("https://example.com/a.PNG?size=9", "image", "https://example.com/a.PNG?size=9"),
        ("https://example.com/a.webp#top", "image", "https://example.com/a.webp#top"),
        ("https://example.com/render?id=7#image", "image", "https://example.com/render?id=7"),
        ("https://example.com/a.jpg#document", "document", "https://example.com/a.jpg"),
        ("https://8.8.8.8:8443/a.gif", "image", "https://8.8.8.8:8443/a.gif"),
        ("https://exämple.de/ü.pdf", "document", "https://exämple.de/ü.pdf"),
    ],
)
def test_an_https_url_is_passed_on_with_the_type_of_its_suffix(tree: FileTree, name: str, kind: str, url: str) -> None:
    *label, block = tree.attach(name).blocks
    assert block == {"type": kind, "source": {"type": "url", "url": url}}
    assert len(label) == (kind == "image")


@pytest.mark.parametrize(("suffix", "kind"), [("", "document"), ("#image", "image"), ("#document", "document")])
def test_a_file_id_is_a_document_by_default(tree: FileTree, suffix: str, kind: str) -> None:
    name = "file_011CNha8iCJcU1wXNR6q4V8w"
    (block,) = tree.attach(name + suffix).blocks
    assert block == {"type": kind, "source": {"type": "file", "file_id": name}}


def test_references_need_no_root(tree: FileTree) -> None:
    assert tree.attach("https://example.com/a.pdf", "file_011CNha8iCJcU1wXNR6q4V8w", roots=()).file_count == 2


def test_a_file_may_be_named_like_an_id(tree: FileTree) -> None:
    (tree.root / "file_utils").write_text("x")
    assert tree.attached_texts("file_utils")


def test_a_data_uri_is_its_content(tree: FileTree) -> None:
    uris = [
        "data:image/png;base64," + b64encode(png()).decode(),
        "data:application/pdf;base64," + b64encode(pdf()).decode(),
        "data:text/plain;charset=utf-8;base64," + b64encode("Größe".encode()).decode(),
        "DATA:application/json;base64," + b64encode(b'{"a": 1}').decode(),
    ]
    seen = tree.attach(*uris)
    assert [block["type"] for block in seen.blocks] == ["text", "image", "document", "text", "text"]
    assert "Größe" in str(seen.blocks[3]["text"])
    assert 'path="data:application/json"' in str(seen.blocks[4]["text"])


def test_a_rejected_reference_is_quoted_only_in_part(tree: FileTree) -> None:
    secret = "s3cr3t" * 5
    for name in (f"https://u:{secret}@example.com", f"data:image/png;base64,{secret}!", f"ftp://{secret}"):
        with pytest.raises(RequestError) as refused:
            tree.attach(name)
        assert secret not in str(refused.value)


def test_no_network_request_is_made(tree: FileTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    del tmp_path

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("somebody fetches")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    assert tree.attach("https://example.com/a.pdf", "https://example.com/a.png").file_count == 2
