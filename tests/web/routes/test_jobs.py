"""`/jobs`: each user's own jobs, their progress as events, and their answers as a download."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from mcp.shared._httpx_utils import create_mcp_http_client
from mcp.shared.exceptions import MCPError
from mcp.types import TextResourceContents

from mcp_server_claude.simulator import Simulator, directive
from support.http_server import http_server_thread
from support.mcp_session import McpSession, connect, failure_meta, http_server_in_loop

if TYPE_CHECKING:
    from pathlib import Path

    from mcp import Client
    from mcp.types import CallToolResult

pytestmark = pytest.mark.anyio


def job(result: CallToolResult) -> dict[str, Any]:
    assert result.meta is not None
    return result.meta["mcp-server-claude/job"]


async def resource_text(session: McpSession, address: str) -> str:
    (contents,) = (await session.client.read_resource(address)).contents
    assert isinstance(contents, TextResourceContents)
    return contents.text


async def test_a_map_over_http_is_listed_read_and_downloaded(api: Simulator, tmp_path: Path) -> None:
    api.reset()
    items = ["tea", f"milk {directive(status=400)}"]
    async with connect("http", "auto", tmp_path / "data", base_url=api.url) as session:
        with anyio.fail_after(60):
            arguments: dict[str, Any] = {"prompt": "Name {item}. [[sim: tokens=6]]", "items": items}
            result = await session.client.call_tool("claude_map", arguments)
            refused = await session.client.call_tool("claude_map", {**arguments, "output": "out.jsonl"})
            complete = await resource_text(session, f"claude://jobs/{job(result)['id']}/output")
            page = await resource_text(session, f"claude://jobs/{job(result)['id']}/output?first=1")
    assert job(result)["output"] == ""
    assert "path on the server's machine" in str(refused.content[0])
    assert failure_meta(refused)["class"] == "request_error"
    lines = [json.loads(line) for line in complete.splitlines()]
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
    async with connect("memory", "auto", tmp_path / "data", base_url=api.url) as session:
        result = await session.client.call_tool("claude_ask", {"prompt": "What is tea?", "background": True})
        job_id = job(result)["id"]
        await session.client.call_tool("claude_jobs", {"id": job_id, "wait": 60})
    async with (
        http_server_thread(tmp_path / "data", api.url, users=("ada",)) as server,
        server.client("ada") as client,
    ):
        assert (await client.get("/jobs")).json() == {"jobs": []}
        for path in (f"/jobs/{job_id}", f"/jobs/{job_id}/output"):
            assert (await client.get(path)).status_code == 404
        assert (await client.post(f"/jobs/{job_id}/stop")).status_code == 404


async def test_usage_is_filtered_by_job(api: Simulator, tmp_path: Path) -> None:
    api.reset()
    async with connect("memory", "auto", tmp_path / "data", base_url=api.url, project_dir=str(tmp_path)) as session:
        await session.ask("What is tea?")
        with anyio.fail_after(60):
            result = await session.client.call_tool("claude_map", {"prompt": "Name {item}.", "items": ["tea", "milk"]})
    job_id = job(result)["id"]
    async with http_server_thread(tmp_path / "data", api.url) as server, server.client() as operator:
        usage = (await operator.get("/usage.json", params={"job": job_id})).json()
        none = (await operator.get("/usage.json", params={"job": "j_0"})).json()
        foreign = (await operator.get("/usage.json", params={"job": job_id, "user": "ada"})).json()
        table = (await operator.get("/usage.csv", params={"job": job_id})).text.splitlines()
    assert (usage["totals"]["requests"], usage["totals"]["calls"]) == (2, 2)
    assert [each["tool"] for each in usage["byTool"]] == ["claude_map"]
    assert none["totals"]["requests"] == foreign["totals"]["requests"] == 0
    assert len(table) == 2
    assert table[1].split(",")[3] == "claude_map"


async def read_text(client: Client, **arguments: object) -> str:
    """All that `claude_jobs` returns."""
    return str((await client.call_tool("claude_jobs", arguments)).content)


async def test_no_id_gives_access_to_data_of_another_user(api: Simulator, tmp_path: Path) -> None:
    api.reset()
    async with http_server_in_loop(data_dir=tmp_path / "data", base_url=api.url) as server:
        tokens = [await server.token(name) for name in ("ada", "bob")]
        async with server.client(tokens[0]) as ada, server.client(tokens[1]) as bob:
            with anyio.fail_after(60):
                arguments = {
                    "prompt": f"What is tea? {directive(tokens=400, fault='stall', at=90)}",
                    "background": True,
                }
                job_id = job(await ada.call_tool("claude_ask", arguments))["id"]
                while not (named := re.search("c_[0-9a-f]+", await read_text(ada, id=job_id))):
                    pass
                call_id = named[0]
                for arguments in (
                    {"id": job_id},
                    {"id": job_id, "wait": 1},
                    {"id": job_id, "cancel": True},
                    {"id": call_id},
                    {"id": call_id, "wait": 1},
                    {"id": call_id, "cancel": True},
                ):
                    assert failure_meta(await bob.call_tool("claude_jobs", arguments))["kind"] == "not_found"
                for address in (f"claude://jobs/{job_id}/output", f"claude://calls/{call_id}"):
                    with pytest.raises(MCPError, match="There is no"):
                        await bob.read_resource(address)
                assert job_id not in await read_text(bob)
                headers = {"Authorization": f"Bearer {tokens[1]}"}
                async with create_mcp_http_client(headers=headers) as http:
                    assert (await http.get(f"{server.url}/jobs")).json() == {"jobs": []}
                    events = {"Accept": "text/event-stream"}
                    assert (await http.get(f"{server.url}/jobs/{job_id}", headers=events)).status_code == 404
                    assert (await http.get(f"{server.url}/jobs/{job_id}/output")).status_code == 404
                    assert (await http.post(f"{server.url}/jobs/{job_id}/stop")).status_code == 404
                assert "running" in await read_text(ada, id=job_id)
                await ada.call_tool("claude_jobs", {"id": job_id, "cancel": True})
