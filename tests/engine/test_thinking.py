from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from mcp_server_claude.anthropic_api.client import ClaudeClient
from mcp_server_claude.settings import Settings
from mcp_server_claude.simulator import directive
from support.mcp_session import FAKE_KEY, ProgressUpdate, connect, text_blocks
from support.quick_run import slow_beyond

if TYPE_CHECKING:
    from pathlib import Path

    from mcp_server_claude.simulator import Simulator

pytestmark = pytest.mark.anyio

THINKS = f"Think hard. {directive(think=400, pace=300, ttft=0, tokens=20)}"


async def test_thinking_is_reported_with_its_seconds_and_is_not_part_of_the_answer(
    upstream: Simulator, tmp_path: Path
) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        updates: list[ProgressUpdate] = []
        result = await session.ask(THINKS, model="opus", updates=updates, style="status")
        assert any("· thinking " in (each.message or "") for each in updates)
        assert "thinking" not in text_blocks(result)[0]


async def test_tokens_of_hidden_thinking_are_counted_live_where_the_beta_is_requested(
    upstream: Simulator, tmp_path: Path
) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url, thinking_count="on") as session:
        updates: list[ProgressUpdate] = []
        await session.ask(THINKS, model="opus", updates=updates, style="status")
        assert any("· thinking " in (each.message or "") and " tokens · " in (each.message or "") for each in updates)
        (request,) = [record for record in upstream.requests if record.path == "/v1/messages"]
        assert "thinking-token-count" in request.headers["anthropic-beta"]


async def test_the_beta_is_not_requested_of_a_gateway(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        await session.ask("Tea?", model="opus")
        (request,) = [record for record in upstream.requests if record.path == "/v1/messages"]
        assert "thinking-token-count" not in request.headers.get("anthropic-beta", "")


def sent_thinking(upstream: Simulator) -> list[object]:
    records = [record for record in upstream.requests if record.path == "/v1/messages"]
    return [cast("dict[str, object]", record.body).get("thinking") for record in records]


async def test_thinking_on_request_is_requested_where_an_effort_is_given(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        prompt = "Think hard."
        assert not (await session.ask(prompt, model="claude-opus-4-8", effort="low")).is_error
        assert not (await session.ask(prompt, model="claude-opus-4-8")).is_error
        assert not (await session.ask(prompt, model="claude-opus-5-5", effort="low")).is_error
    assert sent_thinking(upstream) == [{"type": "adaptive"}, None, None]


@pytest.mark.parametrize("model", slow_beyond(1, ["sonnet", "opus", "haiku"]))
async def test_the_summary_of_thinking_is_in_the_status_line_where_it_is_requested(
    upstream: Simulator, tmp_path: Path, model: str
) -> None:
    async with connect(
        "memory", "auto", tmp_path / "data", base_url=upstream.url, thinking_display="summarized"
    ) as session:
        updates: list[ProgressUpdate] = []
        result = await session.ask(THINKS, model=model, updates=updates, style="status")
    assert sent_thinking(upstream) == [{"type": "adaptive", "display": "summarized"}]
    lines = [each.message or "" for each in updates if " · thinking " in (each.message or "")]
    assert any(line.count(" · ") >= 5 and not line.endswith(" s") for line in lines), lines
    assert not result.is_error


async def test_by_default_no_summary_is_requested_of_a_gateway(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        await session.ask("Tea?", style="status")
    assert sent_thinking(upstream) == [None]


@pytest.mark.parametrize(("base_url", "is_own"), [("", True), ("https://gateway.example", False)])
async def test_only_the_address_of_anthropic_counts_as_known(tmp_path: Path, base_url: str, is_own: bool) -> None:  # noqa: FBT001
    address = {"base_url": base_url} if base_url else {}
    claude = ClaudeClient(Settings.model_validate({"data_dir": tmp_path, "api_key": FAKE_KEY} | address))
    await claude.get_client()
    assert claude.is_anthropic_address is is_own
    await claude.close()
