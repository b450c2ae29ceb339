from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.file_tree import png
from support.mcp_session import connect, failure_meta, text_blocks, usage_meta

if TYPE_CHECKING:
    from pathlib import Path

    from mcp_server_claude.simulator import Simulator

pytestmark = pytest.mark.anyio


async def test_images_of_a_thread_count_towards_the_limit_of_a_request(
    upstream: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    for n in range(25):
        (project / f"shot-{n:02}.png").write_bytes(png(2_500, 40))
    names = [f"shot-{n:02}.png" for n in range(25)]
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        first = await session.ask("Describe them.", files=names[:15])
        thread = usage_meta(first)["thread"]
        sent = len(upstream.requests)
        second = await session.ask("And these.", files=names[15:], thread=thread)
        assert second.is_error
        assert failure_meta(second)["kind"] == "too_large"
        assert "among 25 in the request and its thread" in text_blocks(second)[0]
        assert len(upstream.requests) == sent
        third = await session.ask("And this one.", files=names[15:16], thread=thread)
        assert not third.is_error
