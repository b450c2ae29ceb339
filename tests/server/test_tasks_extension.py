"""The protocol of the Tasks extension, with tools and tasks made for tests."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp.types import MISSING_REQUIRED_CLIENT_CAPABILITY, TextContent

from support.conformance_server import conformance_server
from support.mcp_tasks import TASKS, TasksClient, call_for_task, get_task, poll_task, update_task
from support.raw_mcp_http import raw_mcp_client

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    import httpx2

pytestmark = pytest.mark.anyio
HEADER_MISMATCH = -32020


@asynccontextmanager
async def tasks_client(data_dir: Path) -> AsyncGenerator[Client]:
    with anyio.fail_after(60):
        async with (
            conformance_server(data_dir) as url,
            Client(streamable_http_client(url), extensions=[TasksClient()]) as client,
        ):
            yield client


async def test_a_task_asks_its_client_and_continues_with_each_answer(tmp_path: Path) -> None:
    async with tasks_client(tmp_path / "data") as client:
        task = await call_for_task(client, "multi_input", {})
        while (asking := await get_task(client, task.task_id)).status == "working":
            pass
        first, second = (asking.input_requests or {}).keys()
        await update_task(client, task.task_id, {first: {"action": "accept", "content": {"name": "Ada"}}})
        still = await get_task(client, task.task_id)
        await update_task(client, task.task_id, {second: {"action": "decline"}, "unknown": {}})
        ended = await poll_task(client, task.task_id)
    assert asking.status == "input_required"
    assert (still.status, list(still.input_requests or {})) == ("input_required", [second])
    assert ended.status == "completed"
    assert ended.result is not None
    assert isinstance(ended.result.content[0], TextContent)
    assert "Ada" in ended.result.content[0].text


async def test_a_protocol_error_fails_a_task_and_a_tool_error_completes_it(tmp_path: Path) -> None:
    async with tasks_client(tmp_path / "data") as client:
        failed = await poll_task(client, (await call_for_task(client, "protocol_error_job", {})).task_id)
        completed = await poll_task(client, (await call_for_task(client, "failing_job", {})).task_id)
    assert (failed.status, failed.result) == ("failed", None)
    assert failed.error == {"code": -32603, "message": "It ended with an error."}
    assert completed.status == "completed"
    assert completed.result is not None
    assert completed.result.is_error


async def test_a_tool_that_needs_tasks_rejects_a_client_without_them(tmp_path: Path) -> None:
    async with conformance_server(tmp_path / "data") as url, Client(streamable_http_client(url)) as client:
        with pytest.raises(MCPError) as refused:
            await client.call_tool("failing_job", {})
    assert refused.value.error.code == MISSING_REQUIRED_CLIENT_CAPABILITY
    assert refused.value.error.data["requiredCapabilities"]["extensions"] == {TASKS: {}}


@pytest.mark.parametrize("name", ["", "another"])
async def test_a_routing_header_that_is_not_the_id_of_the_task_is_rejected(tmp_path: Path, name: str) -> None:
    async with (
        conformance_server(tmp_path / "data") as url,
        raw_mcp_client(url.removesuffix("/mcp"), "2026-07-28") as client,
    ):
        body = client.message("tasks/get", {"taskId": "one"})
        body["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"] = {"extensions": {TASKS: {}}}
        response = await client.http.post(url, headers=client.headers("tasks/get", name), json=body)
        matching = await client.http.post(url, headers=client.headers("tasks/get", "one"), json=body)
    assert (response.status_code, error_code(response)) == (400, HEADER_MISMATCH)
    assert (matching.status_code, error_code(matching)) == (400, -32602)


async def test_a_subscription_to_tasks_needs_a_client_that_declares_them(tmp_path: Path) -> None:
    async with (
        conformance_server(tmp_path / "data") as url,
        raw_mcp_client(url.removesuffix("/mcp"), "2026-07-28") as client,
    ):
        response = await client.post("subscriptions/listen", {"notifications": {"taskIds": ["one"]}})
    assert (response.status_code, error_code(response)) == (400, MISSING_REQUIRED_CLIENT_CAPABILITY)


async def test_clients_of_2025_are_offered_no_tasks(tmp_path: Path) -> None:
    async with conformance_server(tmp_path / "data") as url:
        async with Client(streamable_http_client(url), mode="legacy", extensions=[TasksClient()]) as old:
            result = await old.call_tool("slow_compute", {"seconds": 0.01, "label": "one"})
            offered = old.server_capabilities.extensions
        async with Client(streamable_http_client(url)) as new:
            offered_now = new.server_capabilities.extensions
    assert isinstance(result.content[0], TextContent)
    assert result.content[0].text.startswith("one took")
    assert not offered
    assert (offered_now or {})[TASKS] == {}


def error_code(response: httpx2.Response) -> int:
    return response.json()["error"]["code"]
