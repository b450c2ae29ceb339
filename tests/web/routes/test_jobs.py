"""`/jobs`: each user's own jobs, their progress as events, and their answers as a download."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from mcp.types import TextResourceContents

from mcp_server_claude.simulator import Simulator, directive
from support.http_server import http_server_thread
from support.mcp_session import McpSession, connect, failure_meta

if TYPE_CHECKING:
    from pathlib import Path

    from mcp.types import CallToolResult

pytestmark = pytest.mark.anyio


def job(result: CallToolResult) -> dict[str, Any]:
    assert result.meta is not None
    return result.meta["mcp-server-claude/job"]


async def resource_text(desk: McpSession, address: str) -> str:
    (contents,) = (await desk.client.read_resource(address)).contents
    assert isinstance(contents, TextResourceContents)
    return contents.text


async def test_a_map_over_http_is_listed_read_and_downloaded(api: Simulator, tmp_path: Path) -> None:
    api.reset()
    items = ["tea", f"milk {directive(status=400)}"]
    async with connect("http", "auto", tmp_path / "data", base_url=api.url) as desk:
        with anyio.fail_after(60):
            arguments: dict[str, Any] = {"prompt": "Name {item}. [[sim: tokens=6]]", "items": items}
            result = await desk.client.call_tool("claude_map", arguments)
            refused = await desk.client.call_tool("claude_map", {**arguments, "output": "out.jsonl"})
            whole = await resource_text(desk, f"claude://jobs/{job(result)['id']}/output")
            page = await resource_text(desk, f"claude://jobs/{job(result)['id']}/output?first=1")
    assert job(result)["output"] == ""
    assert "path on the server's machine" in str(refused.content[0])
    assert failure_meta(refused)["class"] == "request_error"
    lines = [json.loads(line) for line in whole.splitlines()]
    assert [(line["input"], line["state"]) for line in lines] == [("tea", "done"), (items[1], "failed")]
    assert [json.loads(page)] == lines[1:]
    async with http_server_thread(tmp_path / "data", api.url) as server, server.client() as client:
        listed = (await client.get("/jobs")).json()["jobs"]
        assert [(each["id"], each["state"], each["done"], each["failed"]) for each in listed] == [
            (job(result)["id"], "incomplete", 1, 1)
        ]
        assert (await client.get(f"/jobs/{listed[0]['id']}")).json() == listed[0]
        download = await client.get(f"/jobs/{listed[0]['id']}/output")
        assert [json.loads(line) for line in download.text.splitlines()] == lines
        assert listed[0]["id"] in download.headers["content-disposition"]
        table = await client.get(f"/jobs/{listed[0]['id']}/output?format=csv")
        assert table.text.splitlines()[0].startswith("item,input,state,answer")
        stopped = await client.post(f"/jobs/{listed[0]['id']}/stop")
        assert stopped.json() == {"stopping": False}
        async with client.stream("GET", f"/jobs/{listed[0]['id']}", headers={"accept": "text/event-stream"}) as events:
            text = (await events.aread()).decode()
        assert text.startswith("event: done\ndata: {")


async def test_the_jobs_of_others_are_not_found(api: Simulator, tmp_path: Path) -> None:
    api.reset()
    async with connect("memory", "auto", tmp_path / "data", base_url=api.url) as desk:
        result = await desk.client.call_tool("claude_ask", {"prompt": "What is tea?", "background": True})
        job_id = job(result)["id"]
        await desk.client.call_tool("claude_jobs", {"id": job_id, "wait": 60})
    async with (
        http_server_thread(tmp_path / "data", api.url, users=("ada",)) as server,
        server.client("ada") as client,
    ):
        assert (await client.get("/jobs")).json() == {"jobs": []}
        for path in (f"/jobs/{job_id}", f"/jobs/{job_id}/output"):
            assert (await client.get(path)).status_code == 404
        assert (await client.post(f"/jobs/{job_id}/stop")).status_code == 404
