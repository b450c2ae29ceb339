"""A call that takes long becomes a task of its client, and the task is the job that outlives the call."""

from __future__ import annotations

import json
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from mcp.shared.exceptions import MCPError
from mcp.types import INVALID_PARAMS, METHOD_NOT_FOUND, MISSING_REQUIRED_CLIENT_CAPABILITY, TextContent

from mcp_server_claude.simulator import Simulator, directive
from support.mcp_session import (
    FAILURE_META,
    McpSession,
    Transport,
    connect,
    http_server_in_loop,
    text_blocks,
    usage_meta,
)
from support.mcp_tasks import (
    TasksClient,
    call_for_task,
    cancel_task,
    get_task,
    poll_task,
    update_task,
)
from support.simulator_requests import message_requests

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from mcp.types import CallToolResult

pytestmark = pytest.mark.anyio
STALLED = directive(tokens=400, fault="stall", at=90)
GRACE_S = 0.05
SLOW = "What is tea? [[sim: tokens=40 think=0 pace=60]]"
"""A question whose answer takes longer than `GRACE_S`."""
SERVER_INFO_META = "io.modelcontextprotocol/serverInfo"


@asynccontextmanager
async def tasks_session(
    api: Simulator, tmp_path: Path, transport: Transport = "memory", **fields: Any
) -> AsyncGenerator[McpSession]:
    api.reset()
    fields = {"base_url": api.url, "detach_after_s": GRACE_S, "project_dir": str(tmp_path)} | fields
    with anyio.fail_after(300):
        async with connect(transport, "auto", tmp_path / "data", extensions=[TasksClient()], **fields) as session:
            yield session


@pytest.mark.parametrize("transport", ["memory", "stdio", "http"])
async def test_a_long_call_becomes_a_task_whose_result_is_the_answer(
    api: Simulator, tmp_path: Path, transport: Transport
) -> None:
    async with tasks_session(api, tmp_path, transport) as session:
        task = await call_for_task(session.client, "claude_ask", {"prompt": SLOW})
        assert task.status == "working"
        assert task.task_id.startswith("j_")
        assert task.ttl_ms is None
        assert (await get_task(session.client, task.task_id)).task_id == task.task_id
        ended = await poll_task(session.client, task.task_id)
    assert (ended.status, ended.created_at) == ("completed", task.created_at)
    assert ended.ttl_ms is not None
    assert ended.ttl_ms >= 30 * 86_400_000
    assert ended.result is not None
    (request,) = message_requests(api)
    answer, footer = text_blocks(ended.result)
    assert answer == request.text
    assert str(usage_meta(ended.result)["call_id"]) in footer
    assert usage_meta(ended.result)["complete"] is True


async def test_a_short_call_of_a_client_with_tasks_returns_its_answer(api: Simulator, tmp_path: Path) -> None:
    async with tasks_session(api, tmp_path, detach_after_s=3600) as session:
        result = await session.ask("What is tea?")
    assert text_blocks(result)[0] == message_requests(api)[0].text


async def test_a_call_never_becomes_a_task_where_calls_are_not_detached(api: Simulator, tmp_path: Path) -> None:
    async with tasks_session(api, tmp_path, detach_after_s=0) as session:
        result = await session.ask("What is tea? [[sim: tokens=40 think=0 pace=100]]")
    assert text_blocks(result)[0] == message_requests(api)[0].text


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_client_without_tasks_gets_the_text_so_far(api: Simulator, tmp_path: Path, mode: Any) -> None:
    api.reset()
    extensions = [TasksClient()] if mode == "legacy" else []  # 2025-11-25 has none, even if a client declares them
    async with connect(
        "memory", mode, tmp_path / "data", extensions=extensions, base_url=api.url, detach_after_s=GRACE_S
    ) as session:
        result = await session.ask(f"What is tea? {STALLED}")
        with pytest.raises(MCPError) as refused:
            await get_task(session.client, "j_0")
    assert text_blocks(result)[-1].startswith("INCOMPLETE: it is still being written.")
    expected = METHOD_NOT_FOUND if mode == "legacy" else MISSING_REQUIRED_CLIENT_CAPABILITY
    assert refused.value.error.code == expected


async def test_the_message_of_a_working_task_is_the_status_line(api: Simulator, tmp_path: Path) -> None:
    async with tasks_session(api, tmp_path) as session:
        task = await call_for_task(session.client, "claude_ask", {"prompt": f"What is tea? {STALLED}"})
        while "tokens" not in (message := (await get_task(session.client, task.task_id)).status_message):
            pass
        await cancel_task(session.client, task.task_id)
    model, stage, tokens, cost, *_ = message.split(" · ")
    assert model.startswith("sonnet")
    assert stage == "writing"
    assert tokens.endswith(" tokens")
    assert cost.startswith("$")


async def test_a_cancelled_task_is_stopped_upstream_and_its_text_is_kept(api: Simulator, tmp_path: Path) -> None:
    async with tasks_session(api, tmp_path) as session:
        task = await call_for_task(session.client, "claude_ask", {"prompt": f"What is tea? {STALLED}"})
        while not any(request.text for request in message_requests(api)):
            await get_task(session.client, task.task_id)
        await cancel_task(session.client, task.task_id)
        ended = await poll_task(session.client, task.task_id)
        await cancel_task(session.client, task.task_id)  # Claude Code sends it twice
        await api.wait_until_idle()
        read = await session.client.call_tool("claude_jobs", {"id": task.task_id})
    assert (ended.status, ended.result) == ("cancelled", None)
    assert task.task_id in ended.status_message
    (request,) = message_requests(api)
    assert request.end == "disconnected"
    assert text_blocks(read)[0] == request.text


async def test_an_error_of_the_api_is_the_result_of_a_completed_task(api: Simulator, tmp_path: Path) -> None:
    async with tasks_session(api, tmp_path) as session:
        prompt = f"What is tea? {directive(status=400, ttft=0.5)}"
        ended = await poll_task(
            session.client, (await call_for_task(session.client, "claude_ask", {"prompt": prompt})).task_id
        )
    assert ended.status == "completed"
    assert ended.result is not None
    assert ended.result.is_error
    assert ended.result.meta is not None
    assert ended.result.meta[FAILURE_META]["kind"] == "invalid_request"


async def test_the_result_of_a_task_with_a_schema_is_structured(api: Simulator, tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    async with tasks_session(api, tmp_path) as session:
        arguments = {"prompt": "Name a tea. [[sim: ttft=0.5]]", "schema": schema}
        ended = await poll_task(session.client, (await call_for_task(session.client, "claude_ask", arguments)).task_id)
    assert ended.result is not None
    assert ended.result.structured_content["data"].keys() == {"name"}


def without_ids(result: CallToolResult) -> dict[str, Any]:
    """A result without what differs between two equal calls, ids and durations, and without the SDK's envelope."""
    result = result.model_copy(update={"meta": {k: v for k, v in (result.meta or {}).items() if k != SERVER_INFO_META}})
    text = json.dumps(result.model_dump(by_alias=True, mode="json", exclude_none=True))
    text = re.sub(r"\b([ct]|req)_\w+", "ID", text)
    text = re.sub(r'"(duration_s|ttft_s|trace_id)": [^,}]+', r'"\1": 0', text)
    values: dict[str, Any] = json.loads(re.sub(r"\d+(\.\d+)? s\b", "0 s", text))
    return values


@pytest.mark.parametrize(
    "arguments",
    [
        {"prompt": "Search for tea. [[sim: search=2 ttft=0.5]]", "tools": ["web"], "max_usd": 1},
        {
            "prompt": "Name a tea. [[sim: ttft=0.5]]",
            "schema": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
        },
        {"prompt": "What is tea? [[sim: tokens=90 ttft=0.5 at=40 stop=max_tokens]]", "max_tokens": 50},
    ],
    ids=["citations and notes", "schema", "incomplete"],
)
async def test_the_result_of_a_task_is_that_of_the_same_call_without_a_task(
    api: Simulator, tmp_path: Path, arguments: dict[str, Any]
) -> None:
    async with tasks_session(api, tmp_path, detach_after_s=0) as session:
        direct = await session.client.call_tool("claude_ask", arguments)
    async with tasks_session(api, tmp_path) as session:
        task = await call_for_task(session.client, "claude_ask", arguments)
        ended = await poll_task(session.client, task.task_id)
    assert ended.result is not None
    assert without_ids(ended.result) == without_ids(direct)
    if "tools" in arguments:
        assert direct.meta is not None
        assert direct.meta["mcp-server-claude/citations"]
        assert "the spending limit has room for" in text_blocks(direct)[1]


async def test_one_prompt_over_many_items_becomes_a_task(api: Simulator, tmp_path: Path) -> None:
    async with tasks_session(api, tmp_path) as session:
        arguments = {"prompt": "Name {item}. [[sim: tokens=20 think=0 pace=60]]", "items": ["tea", "milk", "rye"]}
        task = await call_for_task(session.client, "claude_map", arguments)
        assert task.status_message.startswith("0 of 3")
        ended = await poll_task(session.client, task.task_id)
        stopped = await call_for_task(
            session.client, "claude_map", {"prompt": f"Name {{item}}. {STALLED}", "items": ["a", "b"]}
        )
        await cancel_task(session.client, stopped.task_id)
        cancelled = await poll_task(session.client, stopped.task_id)
    assert ended.status_message.startswith("3 of 3")
    assert ended.result is not None
    digest = ended.result.content[0]
    assert isinstance(digest, TextContent)
    assert digest.text.startswith(f"{task.task_id}: complete · 3 of 3 answered")
    assert cancelled.status == "cancelled"


async def test_a_task_is_read_from_another_server_after_the_first_has_ended(api: Simulator, tmp_path: Path) -> None:
    async with tasks_session(api, tmp_path, "stdio") as session:
        task = await call_for_task(session.client, "claude_ask", {"prompt": SLOW})
    async with connect("memory", "auto", tmp_path / "data", extensions=[TasksClient()], base_url=api.url) as session:
        with anyio.fail_after(60):
            ended = await poll_task(session.client, task.task_id)
    assert ended.result is not None
    assert text_blocks(ended.result)[0] == message_requests(api)[-1].text


async def test_unknown_tasks_are_rejected_and_responses_without_a_request_ignored(
    api: Simulator, tmp_path: Path
) -> None:
    async with tasks_session(api, tmp_path) as session:
        task = await call_for_task(session.client, "claude_ask", {"prompt": SLOW})
        await update_task(session.client, task.task_id, {"unknown": {"action": "accept"}})
        for request in (get_task, cancel_task):
            with pytest.raises(MCPError, match="no task with that id") as refused:
                await request(session.client, "j_00000000")
            assert refused.value.error.code == INVALID_PARAMS
        with pytest.raises(MCPError, match="no task with that id"):
            await update_task(session.client, "j_00000000", {})


async def test_a_task_is_not_found_by_another_user(api: Simulator, tmp_path: Path) -> None:
    api.reset()
    fields: dict[str, Any] = {"data_dir": tmp_path / "data", "base_url": api.url, "detach_after_s": GRACE_S}
    async with http_server_in_loop(**fields) as server:
        tokens = [await server.token(name) for name in ("ada", "bob")]
        with anyio.fail_after(60):
            async with (
                server.client(tokens[0], extensions=[TasksClient()]) as ada,
                server.client(tokens[1], extensions=[TasksClient()]) as bob,
            ):
                task = await call_for_task(ada, "claude_ask", {"prompt": f"What is tea? {STALLED}"})
                for request in (get_task, cancel_task):
                    with pytest.raises(MCPError, match="no task with that id") as refused:
                        await request(bob, task.task_id)
                    assert refused.value.error.code == INVALID_PARAMS
                with pytest.raises(MCPError, match="no task with that id"):
                    await update_task(bob, task.task_id, {})
                assert (await get_task(ada, task.task_id)).status == "working"
                await cancel_task(ada, task.task_id)
