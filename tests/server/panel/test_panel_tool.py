"""The data of the panel: text from an offset on, the latest calls and jobs, dollars of each day, each user's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from mcp_server_claude.server.panel import panel_tool
from mcp_server_claude.server.panel.panel_tool import PANEL_TOOL
from mcp_server_claude.simulator import directive
from support.mcp_session import connect, http_server_in_loop, usage_meta

if TYPE_CHECKING:
    from pathlib import Path

    from mcp import Client

    from mcp_server_claude.simulator import Simulator

pytestmark = pytest.mark.anyio


async def panel_data(client: Client, **arguments: object) -> dict[str, Any]:
    result = await client.call_tool(PANEL_TOOL, arguments)
    assert not result.is_error, result
    return cast("dict[str, Any]", result.structured_content)


async def test_text_is_read_from_an_offset(
    tmp_path: Path, upstream: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(panel_tool, "MAX_TEXT_CHARS", 10)
    async with connect("memory", "auto", tmp_path, base_url=upstream.url) as at:
        result = await at.ask(directive(text="Tea is a drink. It is hot."))
        call_id = str(usage_meta(result)["call_id"])
        first = (await panel_data(at.client, call=call_id))["call"]
        second = (await panel_data(at.client, call=call_id, offset=first["next"]))["call"]
        last = (await panel_data(at.client, call=call_id, offset=26))["call"]

    assert (first["text"], first["next"], first["chars"], first["state"]) == ("Tea is a d", 10, 26, "complete")
    assert second["text"] == "rink. It i"
    assert (last["text"], last["next"]) == ("", 26)
    assert first["cost_usd"] == usage_meta(result)["cost_usd"]


async def test_the_overview_has_calls_jobs_and_dollars_by_day_and_model(tmp_path: Path, upstream: Simulator) -> None:
    async with connect("memory", "auto", tmp_path, base_url=upstream.url) as at:
        costs = {
            model: cast("float", usage_meta(await at.ask(directive(text="Yes."), model=model))["cost_usd"])
            for model in ("claude-haiku-4-5-20251001", "claude-sonnet-4-6")
        }
        await at.ask("In the background.", background=True, model="opus")
        data = await panel_data(at.client, days=7)

    assert len(data["usage"]["days"]) == 7
    spent = {row["model"]: row["usd"] for row in data["usage"]["models"]}
    for model, cost in costs.items():
        assert spent[model][-1] == pytest.approx(cost, abs=1e-6)
        assert spent[model][:-1] == [0] * 6
    assert [job["title"] for job in data["jobs"]] == ["In the background."]
    assert {call["state"] for call in data["calls"]} >= {"complete"}


async def test_each_user_sees_only_their_data(tmp_path: Path, upstream: Simulator) -> None:
    async with http_server_in_loop(data_dir=tmp_path, base_url=upstream.url) as server:
        ada, bo = await server.token("ada", role="operator"), await server.token("bo")
        async with server.client(bo) as client:
            prompt = await client.call_tool("claude_ask", {"prompt": directive(text="A secret.")})
            call_id = str(usage_meta(prompt)["call_id"])
            assert (await panel_data(client, call=call_id))["call"]["text"] == "A secret."
        async with server.client(ada) as client:
            refused = await client.call_tool(PANEL_TOOL, {"call": call_id})
            overview = await panel_data(client)

    assert refused.is_error
    assert (overview["calls"], overview["jobs"], overview["usage"]["requests"]) == ([], [], 0)
