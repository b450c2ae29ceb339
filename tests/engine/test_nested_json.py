"""JSON that is nested deeper than a parser goes: in an event, in a tool's input, in a client's request."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from support.mcp_session import connect, failure_meta, text_blocks, usage_meta
from support.raw_mcp_http import PROTOCOL_VERSIONS, raw_mcp_client
from support.recorded_streams import message_events, sse_bytes
from support.scripted_upstream import scripted_upstream
from support.stdio_process import message_bytes, stdio_process

if TYPE_CHECKING:
    from pathlib import Path

    from mcp_server_claude.simulator import Simulator
    from support.raw_mcp_http import ProtocolVersion

pytestmark = pytest.mark.anyio

DEPTHS = (500, 5_000, 100_000)
each_depth = pytest.mark.parametrize("depth", DEPTHS)


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


@each_depth
async def test_a_deeply_nested_event_is_ignored_or_a_protocol_error_with_its_usage(depth: int, tmp_path: Path) -> None:
    start, *rest = message_events("Hello.")
    event = f'event: future\ndata: {{"type": "future", "x": {nested(depth)}}}\n\n'.encode()
    async with (
        scripted_upstream(sse_bytes(start) + event + sse_bytes(*rest)) as upstream,
        connect("memory", "auto", tmp_path / "data", base_url=upstream.url, max_retries=0) as session,
    ):
        result = await session.ask("x", model="claude-haiku-4-5")
    check_outcome(result, tmp_path / "data")


@each_depth
async def test_a_deeply_nested_tool_input_ends_in_a_known_way_with_its_usage(depth: int, tmp_path: Path) -> None:
    start, *text_events, stop_delta, stop = message_events("Hello.")
    tool: dict[str, object] = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}
    delta = {"type": "input_json_delta", "partial_json": f'{{"query": {nested(depth)}}}'}
    events = [
        {"type": "content_block_start", "index": 1, "content_block": tool},
        {"type": "content_block_delta", "index": 1, "delta": delta},
        {"type": "content_block_stop", "index": 1},
    ]
    async with (
        scripted_upstream(sse_bytes(start, *text_events, *events, stop_delta, stop)) as upstream,
        connect("memory", "auto", tmp_path / "data", base_url=upstream.url, max_retries=0) as session,
    ):
        result = await session.ask("x", model="claude-haiku-4-5", tools=["web"])
    check_outcome(result, tmp_path / "data")


def check_outcome(result: Any, data_dir: Path) -> None:
    """Complete with its text, or failed by a kind that says who sent it, with its id in the journal."""
    call_id = str(usage_meta(result)["call_id"])
    with closing(sqlite3.connect(data_dir / "store.db")) as connection:
        (end,) = connection.execute("select end from call where id = ?", (call_id,)).fetchone()
    if result.is_error:
        assert failure_meta(result)["kind"] in {"protocol", "internal"}
        assert call_id in text_blocks(result)[0]
        assert end == "failed"
    else:
        assert text_blocks(result)[0] == "Hello."
        assert end == "complete"


@each_depth
async def test_a_deeply_nested_request_over_stdio_is_answered_as_is_the_next_one(
    depth: int, upstream: Simulator, tmp_path: Path
) -> None:
    arguments = f'{{"prompt": "x", "schema": {{"enum": {nested(depth)}}}}}'
    line = (
        f'{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"claude_ask","arguments":{arguments}}}}}\n'
    )
    async with stdio_process(tmp_path / "data", base_url=upstream.url) as stdio:
        await stdio.initialize()
        await stdio.send(line.encode())
        await stdio.send(message_bytes({"jsonrpc": "2.0", "id": 2, "method": "ping"}))
        await stdio.read_response(2)
        stdio.close_stdin()
        assert await stdio.wait_for_exit() == 0
    answers = [each for each in stdio.received if each.get("id") in {1, None} and "method" not in each]
    assert answers
    assert "Traceback" not in stdio.stderr.read_text()


@pytest.mark.parametrize("version", PROTOCOL_VERSIONS)
@each_depth
async def test_a_deeply_nested_request_over_http_is_answered_as_is_the_next_one(
    depth: int, version: ProtocolVersion, upstream: Simulator, tmp_path: Path
) -> None:
    from support.http_server import http_server_thread

    async with (
        http_server_thread(tmp_path / "data", upstream.url) as server,
        raw_mcp_client(server.url, version) as client,
    ):
        body = json.dumps(
            client.message("tools/call", {"name": "claude_ask", "arguments": {"prompt": "x", "schema": 0}})
        )
        deep = body.replace('"schema": 0', f'"schema": {{"enum": {nested(depth)}}}')
        response = await client.http.post(
            f"{server.url}/mcp", headers=client.headers("tools/call", "claude_ask"), content=deep
        )
        assert response.status_code < 500
        chat = f'{{"message": "x", "schema": {{"enum": {nested(depth)}}}}}'
        headers = {"content-type": "application/json"}
        response = await client.http.post(f"{server.url}/chat", headers=headers, content=chat)
        assert response.status_code < 500
        assert (await client.post("tools/list")).status_code == 200
