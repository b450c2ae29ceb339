from __future__ import annotations

import os
from typing import TYPE_CHECKING, cast

import anyio
import pytest

from mcp_server_claude.anthropic_api.models.model_capabilities import ClaudeModel
from mcp_server_claude.engine import file_tools
from mcp_server_claude.files import FilePolicy
from mcp_server_claude.simulator import directive
from support.mcp_session import ProgressUpdate, connect, text_blocks, usage_meta

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mcp_server_claude.call_types import Block, CallEvent
    from mcp_server_claude.simulator import Simulator

pytestmark = pytest.mark.anyio


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small project that the server stands in."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "tea.md").write_text("".join(f"line {number}\n" for number in range(1, 30)), encoding="utf-8")
    monkeypatch.chdir(folder)
    return folder


def bodies(api: Simulator) -> list[dict[str, object]]:
    return [cast("dict[str, object]", record.body) for record in api.requests if record.path == "/v1/messages"]


def result_in(body: dict[str, object]) -> dict[str, object]:
    """The result of the one tool call, in the last user turn."""
    (result,) = cast("list[dict[str, object]]", cast("list[dict[str, object]]", body["messages"])[-1]["content"])
    return result


@pytest.mark.usefixtures("project")
async def test_claude_reads_a_file_through_a_tool_and_answers_from_it(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        updates: list[ProgressUpdate] = []
        prompt = f"tea.md {directive(stop='tool_use', tool='read')}"
        result = await session.ask(prompt, tools=["read"], updates=updates, style="text")
        first, second = bodies(upstream)
        names = [tool["name"] for tool in cast("list[dict[str, str]]", first["tools"])]
        assert names == ["list", "glob", "grep", "read"]
        assert "line 7" in str(result_in(second)["content"])
        assert usage_meta(result)["complete"]
        assert usage_meta(result)["attempts"] == 2
        assert usage_meta(result)["retries"] == 0
        assert "".join(each.message or "" for each in updates) == text_blocks(result)[0]
        assert len(session.ledger_rows()) == 2


@pytest.mark.usefixtures("project")
async def test_an_unreadable_file_is_returned_to_claude_as_a_tool_error(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        await session.ask(f"/etc/passwd {directive(stop='tool_use', tool='read')}", tools=["read"])
        result = result_in(bodies(upstream)[-1])
        assert result["is_error"]
        assert "root:" not in str(result["content"])


@pytest.mark.usefixtures("project")
async def test_the_status_names_the_file_being_read(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        updates: list[ProgressUpdate] = []
        slowly = f"tea.md {directive(stop='tool_use', tool='grep', ttft=0.7)}"
        await session.ask(slowly, tools=["read"], updates=updates, style="status")
        assert any("searching files: tea.md" in (each.message or "") for each in updates)


async def test_claude_gets_images_and_pdf_as_far_as_the_model_accepts_them(
    upstream: Simulator, tmp_path: Path, project: Path
) -> None:
    (project / "dot.gif").write_bytes(b"GIF89a\1\0\1\0\0\0\0;")
    (project / "plan.pdf").write_bytes(b"%PDF-1.7 /Type /Page %%EOF")
    (project / "huge.pdf").write_bytes(b"%PDF-1.7" + b" " * 1_000_000)
    (project / "program").write_bytes(b"\x7fELF" + bytes(range(256)))
    looked: dict[str, dict[str, object]] = {}
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        for name in ("dot.gif", "plan.pdf", "huge.pdf", "program", "../plan.pdf", "https://example.com/plan.pdf"):
            prompt = f"{name} {directive(stop='tool_use', tool='read')}"
            assert not (await session.ask(prompt, tools=["read"])).is_error
            looked[name] = result_in(bodies(upstream)[-1])
    shown = [
        [block["type"] for block in cast("list[dict[str, object]]", looked[name]["content"])]
        for name in ("dot.gif", "plan.pdf")
    ]
    assert shown == [["text", "image"], ["document"]]
    assert looked["huge.pdf"]["content"] == '"huge.pdf" has 1.0 MB; at most 1.0 MB can be shown.'
    for name in ("program", "../plan.pdf", "https://example.com/plan.pdf"):
        assert looked[name]["is_error"], name
        assert isinstance(looked[name]["content"], str)


@pytest.mark.usefixtures("project")
async def test_without_permission_a_call_has_no_file_tools(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        await session.ask("tea.md")
        assert "tools" not in bodies(upstream)[0]


@pytest.mark.usefixtures("project")
async def test_a_thread_continues_after_claude_has_used_file_tools(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        first = await session.ask(f"tea.md {directive(stop='tool_use', tool='list')}", tools=["read"])
        second = await session.ask("And?", thread=usage_meta(first)["thread"])
        assert not second.is_error
        answer = cast("list[dict[str, list[dict[str, str]]]]", bodies(upstream)[-1]["messages"])[1]
        assert answer["content"] == [{"type": "text", "text": text_blocks(first)[0]}]


@pytest.mark.usefixtures("project")
async def test_each_use_of_a_file_tool_counts_towards_the_cost_limit_of_the_call(
    upstream: Simulator, tmp_path: Path
) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        prompt = f"tea.md {directive(stop='tool_use', tool='read')}"
        await session.ask(prompt, tools=["read"], max_usd=0.01, model="opus")
        first, second = (cast("int", body["max_tokens"]) for body in bodies(upstream))
        assert second < first < 500


def tool_uses(*inputs: Mapping[str, str], name: str = "grep") -> list[Block]:
    return [{"type": "tool_use", "id": f"t{n}", "name": name, "input": each} for n, each in enumerate(inputs)]


async def test_the_tools_of_one_turn_share_a_time_limit(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_tools, "TOOL_ROUND_TIMEOUT_S", 1.5)
    (project / "slow.txt").write_text("a" * 60 + "!\n", encoding="utf-8")
    tools = file_tools.FileTools(FilePolicy(roots=(project,)), ClaudeModel(id="claude-test"))
    with anyio.fail_after(30):
        results = await tools.run_tool_uses(
            tool_uses(*[{"pattern": "(a+)+$", "path": "slow.txt"}] * 10), lambda _: None
        )
    assert len(results) == 10
    assert "stopped after" in str(results[0]["content"])
    assert results[-1]["is_error"]
    assert "have used up their" in str(results[-1]["content"])


async def test_a_turn_with_very_many_tool_uses_runs_the_first_ones(project: Path) -> None:
    tools = file_tools.FileTools(FilePolicy(roots=(project,)), ClaudeModel(id="claude-test"))
    results = await tools.run_tool_uses(tool_uses(*[{"path": "."}] * 200, name="list"), lambda _: None)
    assert [result["tool_use_id"] for result in results] == [f"t{n}" for n in range(200)]
    assert [n for n, result in enumerate(results) if "is_error" not in result] == list(range(file_tools.MAX_TOOL_USES))


async def test_a_cancelled_call_ends_its_search_process(project: Path) -> None:
    (project / "slow.txt").write_text("a" * 60 + "!\n", encoding="utf-8")
    tools = file_tools.FileTools(FilePolicy(roots=(project,)), ClaudeModel(id="claude-test"))
    started = anyio.Event()

    def listener(event: CallEvent) -> None:
        del event
        started.set()

    async with anyio.create_task_group() as task_group:
        task_group.start_soon(tools.run_tool_uses, tool_uses({"pattern": "(a+)+$", "path": "slow.txt"}), listener)
        await started.wait()
        await wait_for_grep_workers(1)
        task_group.cancel_scope.cancel()
    await wait_for_grep_workers(0)


async def wait_for_grep_workers(count: int) -> None:
    """Wait until this process has so many children that run the grep worker."""
    with anyio.fail_after(5):  # less than a search may take
        while True:
            found = await anyio.run_process(["pgrep", "-P", str(os.getpid()), "-f", "grep_worker"], check=False)
            if len(found.stdout.split()) == count:
                return
