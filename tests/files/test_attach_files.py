from __future__ import annotations

import base64
from typing import TYPE_CHECKING, cast

import pytest

from support.mcp_session import connect, failure_meta, text_blocks, usage_meta

if TYPE_CHECKING:
    from pathlib import Path

    from mcp_server_claude.simulator import Simulator

pytestmark = pytest.mark.anyio

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small project that the server stands in."""
    folder = tmp_path / "project"
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "tea.py").write_text("LEAF = 'jasmine'\n", encoding="utf-8")
    (folder / "src" / "cup.py").write_text("SIZE = 3\n", encoding="utf-8")
    (folder / "picture.bin").write_bytes(PIXEL)
    (folder / "long.txt").write_text("context " * 4000, encoding="utf-8")
    (folder / ".env").write_text("TOKEN=secret\n", encoding="utf-8")
    monkeypatch.chdir(folder)
    return folder


def blocks(api: Simulator, turn: int = -1) -> list[dict[str, object]]:
    body = [record for record in api.requests if record.path == "/v1/messages"][-1].body
    messages = cast("list[dict[str, object]]", cast("dict[str, object]", body)["messages"])
    return cast("list[dict[str, object]]", messages[turn]["content"])


@pytest.mark.usefixtures("project")
async def test_files_precede_the_prompt_each_with_its_detected_type(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        result = await session.ask("What is in there?", files=["src/*.py", "picture.bin"])
        assert not result.is_error
        *_, picture, prompt = blocks(upstream)
        sent = "".join(str(block.get("text") or "") for block in blocks(upstream))
        assert "LEAF = 'jasmine'" in sent
        assert 'path="src/cup.py"' in sent
        assert picture["type"] == "image"
        assert prompt["text"] == "What is in there?"
        assert "matched 2 files" in text_blocks(result)[1]


@pytest.mark.usefixtures("project")
async def test_a_bare_string_is_one_file(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        assert not (await session.ask("What is it?", files="src/tea.py")).is_error
        assert "jasmine" in str(blocks(upstream)[0])


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("/etc/passwd", "outside"),
        ("../data", "outside"),
        (".env", "MCP_CLAUDE_ALLOW_FILES"),
        ("src/tae.py", "src/tea.py"),
        ("http://example.com/x.pdf", "https"),
        ("src", "directory"),
    ],
)
async def test_an_unreadable_file_is_rejected_with_a_helpful_message_and_nothing_is_sent(
    upstream: Simulator, tmp_path: Path, name: str, word: str
) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        result = await session.ask("Read.", files=[name])
        assert failure_meta(result)["class"] == "request_error"
        assert word in text_blocks(result)[0]
        assert not [record for record in upstream.requests if record.path == "/v1/messages"]


@pytest.mark.usefixtures("project")
async def test_an_operator_may_allow_a_name_and_add_a_root(upstream: Simulator, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "note.txt").write_text("a note", encoding="utf-8")
    async with connect(
        "memory", "auto", tmp_path / "data", base_url=upstream.url, roots=[other], allow_files=[".env"]
    ) as session:
        assert not (await session.ask("Read.", files=[".env", str(other / "note.txt")])).is_error


async def test_claude_codes_project_is_a_root_wherever_the_server_started(
    upstream: Simulator, tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url, project_dir=str(project)) as session:
        assert not (await session.ask("Read.", files=["src/tea.py"])).is_error
    async with connect("memory", "auto", tmp_path / "data2", base_url=upstream.url) as session:
        assert (await session.ask("Read.", files=["etc/hostname"])).is_error


@pytest.mark.usefixtures("project")
async def test_another_question_with_the_same_rules_and_files_reads_them_from_the_cache(
    upstream: Simulator, tmp_path: Path
) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        rules = "Be kind. " * 500
        first = usage_meta(await session.ask("What is it?", files=["long.txt"], system=rules, model="opus"))
        second = usage_meta(await session.ask("Whose is it?", files=["long.txt"], system=rules, model="opus"))
        assert second["thread"] != first["thread"]
        assert cast("int", second["cache_read_input_tokens"]) > 5000
        third = usage_meta(await session.ask("And without files?", system=rules, model="opus"))
        assert cast("int", third["cache_read_input_tokens"]) > 1000


async def test_many_files_still_let_the_history_be_read_from_the_cache(
    upstream: Simulator, tmp_path: Path, project: Path
) -> None:
    for number in range(40):
        (project / f"{number}.md").write_text(f"{number}", encoding="utf-8")
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        first = usage_meta(await session.ask("What is it?", files=["long.txt"], model="opus"))
        second = usage_meta(await session.ask("And these?", files=["*.md"], thread=first["thread"]))
        assert cast("int", second["cache_read_input_tokens"]) > 5000


@pytest.mark.usefixtures("project")
async def test_files_are_sent_again_with_the_thread_and_read_from_the_cache(
    upstream: Simulator, tmp_path: Path
) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        first = await session.ask("What is it?", files=["long.txt"], model="opus")
        second = await session.ask("And?", thread=usage_meta(first)["thread"])
        assert "context context" in str(blocks(upstream, 0)[0])
        assert cast("int", usage_meta(second)["cache_read_input_tokens"]) > 5000
