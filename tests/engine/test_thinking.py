from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mcp_server_claude.simulator import directive
from support.mcp_session import ProgressUpdate, connect, text_blocks

if TYPE_CHECKING:
    from pathlib import Path

    from mcp_server_claude.simulator import Simulator

pytestmark = pytest.mark.anyio

THINKS = f"Think hard. {directive(think=400, pace=300, ttft=0, tokens=20)}"


async def test_thinking_shows_as_such_with_its_seconds_and_is_no_part_of_the_answer(
    upstream: Simulator, tmp_path: Path
) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as desk:
        told: list[ProgressUpdate] = []
        result = await desk.ask(THINKS, model="opus", updates=told, style="status")
        assert any("· thinking " in (each.message or "") for each in told)
        assert "thinking" not in text_blocks(result)[0]


async def test_where_the_beta_is_asked_for_the_tokens_of_hidden_thinking_are_counted_as_they_come(
    upstream: Simulator, tmp_path: Path
) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url, thinking_count="on") as desk:
        told: list[ProgressUpdate] = []
        await desk.ask(THINKS, model="opus", updates=told, style="status")
        assert any("· thinking " in (each.message or "") and " tokens · " in (each.message or "") for each in told)
        (asked,) = [record for record in upstream.requests if record.path == "/v1/messages"]
        assert "thinking-token-count" in asked.headers["anthropic-beta"]


async def test_a_gateway_is_not_asked_for_the_beta(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as desk:
        await desk.ask("Tea?", model="opus")
        (asked,) = [record for record in upstream.requests if record.path == "/v1/messages"]
        assert "thinking-token-count" not in asked.headers.get("anthropic-beta", "")
