from __future__ import annotations

import base64
from typing import TYPE_CHECKING, cast

import pytest

from mcp_server_claude.engine.file_uploads import UPLOAD_TTL_S
from mcp_server_claude.simulator import Pace, Simulator
from support.mcp_session import ProgressUpdate, connect, failure_meta, text_blocks, usage_meta

if TYPE_CHECKING:
    from pathlib import Path

    from mcp_server_claude.simulator import LoggedRequest

pytestmark = pytest.mark.anyio

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
PDF = b"%PDF-1.4\n/Type /Page\n" + b"tea " * 50_000
WORKBOOK = b"PK\x03\x04" + bytes(range(256)) * 8
TABLE = "leaf,cups\njasmine,3\n"
SEEN = "Please compute the sum"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small project that the server stands in."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "large.pdf").write_bytes(PDF)
    (folder / "small.pdf").write_bytes(PDF[:300])
    (folder / "picture.png").write_bytes(PIXEL + bytes(200_000))
    (folder / "tiny.png").write_bytes(PIXEL)
    (folder / "sales.csv").write_text(TABLE, encoding="utf-8")
    (folder / "sales.xlsx").write_bytes(WORKBOOK)
    (folder / "lib.so").write_bytes(b"\x7fELF" + bytes(100))
    (folder / "note.txt").write_text("a note", encoding="utf-8")
    monkeypatch.chdir(folder)
    return folder


def requests_to(api: Simulator, path: str = "/v1/messages") -> list[LoggedRequest]:
    return [record for record in api.requests if record.path == path]


def uploads(api: Simulator) -> list[dict[str, object]]:
    return [
        cast("dict[str, object]", record.body) for record in requests_to(api, "/v1/files") if record.method == "POST"
    ]


def touched(api: Simulator) -> list[LoggedRequest]:
    return [record for record in api.requests if record.path.startswith("/v1/files")]


def content(api: Simulator, turn: int = -1) -> list[dict[str, object]]:
    body = cast("dict[str, list[dict[str, object]]]", requests_to(api)[-1].body)
    return cast("list[dict[str, object]]", body["messages"][turn]["content"])


def kinds(blocks: list[dict[str, object]]) -> list[object]:
    return [cast("dict[str, object]", block.get("source") or {}).get("type") or block["type"] for block in blocks]


# --------------------------------------------------------------------- off


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("tools", [[], ["code"]])
async def test_without_the_setting_nothing_is_uploaded(upstream: Simulator, tmp_path: Path, tools: list[str]) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        result = await session.ask(SEEN, files=["large.pdf", "picture.png", "sales.csv"], tools=tools, model="sonnet")
        assert not result.is_error
        assert kinds(content(upstream)) == ["base64", "text", "base64", "text", "text"]
        assert "jasmine" in str(content(upstream)[3])
        assert not touched(upstream)


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("name", ["sales.xlsx", f"data:application/zip;base64,{base64.b64encode(WORKBOOK).decode()}"])
async def test_without_the_setting_a_data_file_is_rejected_with_the_reason(
    upstream: Simulator, tmp_path: Path, name: str
) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        result = await session.ask(SEEN, files=[name], tools=["code"])
        assert failure_meta(result)["class"] == "request_error"
        assert "Office document" in text_blocks(result)[0]
        assert "Code could read it, but this server uploads no files (MCP_CLAUDE_UPLOADS)." in text_blocks(result)[0]
        plain = await session.ask(SEEN, files=[name])
        assert "MCP_CLAUDE_UPLOADS" not in text_blocks(plain)[0]
        assert not requests_to(upstream)
        assert not touched(upstream)


# --------------------------------------------------------------------- on


@pytest.mark.usefixtures("project")
async def test_large_files_are_uploaded_once_and_referenced_by_id_in_every_turn(
    upstream: Simulator, tmp_path: Path
) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url, uploads=True) as session:
        updates: list[ProgressUpdate] = []
        files = ["large.pdf", "picture.png", "small.pdf", "tiny.png", "note.txt"]
        first = await session.ask("What is it?", files=files, updates=updates, style="status", model="sonnet")
        assert not first.is_error
        assert kinds(content(upstream)) == ["file", "text", "file", "base64", "text", "base64", "text", "text"]
        assert content(upstream)[0]["title"] == "large.pdf"
        assert {(file["filename"], file["mime_type"], file["size_bytes"]) for file in uploads(upstream)} == {
            ("large.pdf", "application/pdf", len(PDF)),
            ("picture.png", "image/png", len(PIXEL) + 200_000),
        }
        assert any("uploading 2 files" in (each.message or "") for each in updates)
        second = await session.ask("And?", thread=usage_meta(first)["thread"])
        assert not second.is_error
        assert kinds(content(upstream, 0))[0] == "file"
        third = await session.ask("What is it?", files=["large.pdf"], model="sonnet")
        assert not third.is_error
        assert len(uploads(upstream)) == 2


@pytest.mark.usefixtures("project")
async def test_an_upload_has_an_expiry(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url, uploads=True) as session:
        await session.ask("What is it?", files=["large.pdf"], model="sonnet")
    (file,) = uploads(upstream)
    assert file["expires_at"] is not None
    assert UPLOAD_TTL_S == 90 * 86_400


@pytest.mark.usefixtures("project")
async def test_with_code_every_file_except_plain_text_is_in_the_container(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url, uploads=True) as session:
        inline = f"data:application/zip;name=more.xlsx;base64,{base64.b64encode(WORKBOOK + b'!').decode()}"
        files = ["tiny.png", "sales.csv", "sales.xlsx", "note.txt", inline]
        result = await session.ask(SEEN, files=files, tools=["code"], model="sonnet")
        assert not result.is_error
        blocks = content(upstream)
        assert [block["type"] for block in blocks] == [
            *("text", "image", "container_upload"),
            *("text", "container_upload"),
            *("text", "container_upload"),
            "text",
            *("text", "container_upload"),
            "text",
        ]
        assert cast("dict[str, object]", blocks[1]["source"])["file_id"] == blocks[2]["file_id"]
        assert 'path="sales.csv"/>' in str(blocks[3]["text"])
        assert "a note" in str(blocks[7]["text"])
        assert sorted(str(file["filename"]) for file in uploads(upstream)) == [
            "more.xlsx", "sales.csv", "sales.xlsx", "tiny.png"
        ]  # fmt: skip
        assert "jasmine" not in str(blocks)


@pytest.mark.usefixtures("project")
async def test_a_glob_sends_data_files_to_code_and_skips_the_rest(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url, uploads=True) as session:
        result = await session.ask(SEEN, files=["sales.*", "lib.*", "note.txt"], tools=["code"], model="sonnet")
        assert not result.is_error
        assert '"lib.so" is an ELF program or library' in text_blocks(result)[1]
        assert sorted(str(file["filename"]) for file in uploads(upstream)) == ["sales.csv", "sales.xlsx"]


@pytest.mark.usefixtures("project")
async def test_a_new_container_gets_the_files_of_earlier_turns_again(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url, uploads=True) as session:
        first = await session.ask(SEEN, files=["sales.csv"], tools=["code"], model="sonnet")
        thread = usage_meta(first)["thread"]
        await session.ask(f"{SEEN} again", thread=thread, tools=["code"])
        assert isinstance(content(upstream), str)
        upstream.expire(str(cast("dict[str, object]", requests_to(upstream)[-1].body)["container"]))
        await session.ask(f"{SEEN} once more", thread=thread, tools=["code"])
        assert [block["type"] for block in content(upstream)] == ["container_upload", "text"]
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url, uploads=True) as session:
        await session.ask(f"{SEEN} after a restart", thread=thread, tools=["code"])
        assert [block["type"] for block in content(upstream)] == ["container_upload", "text"]
        assert "container" not in cast("dict[str, object]", requests_to(upstream)[-1].body)


@pytest.mark.usefixtures("project")
async def test_a_dry_run_uploads_nothing(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url, uploads=True) as session:
        files = ["large.pdf", "sales.xlsx"]
        result = await session.ask(SEEN, files=files, tools=["code"], model="sonnet", dry_run=True)
        assert "Nothing was generated" in text_blocks(result)[0]
        assert not touched(upstream)


@pytest.mark.usefixtures("project")
async def test_a_failed_upload_fails_the_call_and_names_the_file(tmp_path: Path) -> None:
    async with (
        Simulator(pace=Pace(ttft_s=0, tokens_per_s=0), key="sk-ant-test-right") as api,
        connect("memory", "auto", tmp_path / "data", base_url=api.url, uploads=True, models_wait_s=0) as session,
    ):
        result = await session.ask("What is it?", files=["large.pdf"], model="sonnet")
        assert failure_meta(result)["kind"] == "authentication"
        assert text_blocks(result)[0].startswith("large.pdf could not be uploaded. ")
        assert not requests_to(api)


@pytest.mark.usefixtures("project")
async def test_an_expired_upload_is_reported_and_uploaded_again_the_next_time(
    upstream: Simulator, tmp_path: Path
) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url, uploads=True) as session:
        await session.ask("What is it?", files=["large.pdf"], model="sonnet")
        upstream.expire(str(uploads(upstream)[0]["id"]))
        result = await session.ask("What is it?", files=["large.pdf"], model="sonnet")
        assert failure_meta(result)["kind"] == "not_found"
        assert "Anthropic has no such file, or it was deleted." in text_blocks(result)[0]
        again = await session.ask("What is it?", files=["large.pdf"], model="sonnet")
        assert not again.is_error
        assert len(uploads(upstream)) == 2
