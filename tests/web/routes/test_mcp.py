"""MCP over HTTP, on a real socket: what a client does there that it cannot do over stdio."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import socket
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

import anyio
import httpx2
import pytest
from mcp.server.auth.middleware.auth_context import get_access_token

from mcp_server_claude.simulator import directive
from mcp_server_claude.web.routes import mcp
from support.mcp_session import ProgressUpdate, connect, http_server_in_loop, text_blocks
from support.raw_mcp_http import (
    PROTOCOL_VERSIONS,
    jsonrpc_messages,
    jsonrpc_result,
    raw_connection,
    raw_mcp_client,
    request_head,
    result_text,
)
from support.simulator_requests import message_requests

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from mcp_server_claude.simulator import Simulator
    from support.mcp_session import HttpServerInLoop, ProtocolMode, Transport
    from support.raw_mcp_http import ProtocolVersion, RawMcpClient

pytestmark = pytest.mark.anyio

STALLED = "Tell me. [[sim: tokens=400 fault=stall at=90]]"


@pytest.fixture(autouse=True)
def _no_bug(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing here may be logged as an error or with a traceback."""
    yield
    assert [record for record in caplog.records if record.levelno >= logging.ERROR or record.exc_info] == []


@pytest.fixture
async def server(upstream: Simulator, tmp_path: Path) -> AsyncIterator[HttpServerInLoop]:
    async with http_server_in_loop(data_dir=tmp_path / "data", base_url=upstream.url) as server:
        yield server


@pytest.fixture(params=PROTOCOL_VERSIONS)
async def client(request: pytest.FixtureRequest, server: HttpServerInLoop) -> AsyncIterator[RawMcpClient]:
    """A client of each era at a server without users."""
    async with raw_mcp_client(server.url, cast("ProtocolVersion", request.param)) as client:
        yield client


# --------------------------------------------------------------------- a client that goes


async def test_a_client_that_disconnects_ends_its_call(
    server: HttpServerInLoop, client: RawMcpClient, upstream: Simulator
) -> None:
    async with raw_connection(server.url) as connection:
        await connection.send_request(*client.ask_request(STALLED))
        await connection.read_until(b'"message":')
    with anyio.fail_after(30):
        await upstream.wait_until_idle()
    assert [record.end for record in message_requests(upstream)] == ["disconnected"]
    (call,) = await (await server.services.open()).calls.latest_calls("local")
    assert (call.state, call.end) == ("closed", "cancelled")


async def test_a_client_that_disconnects_stops_waiting_for_another_call(
    client: RawMcpClient, server: HttpServerInLoop, upstream: Simulator
) -> None:
    async with raw_connection(server.url) as asking, raw_connection(server.url) as waiting:
        await asking.send_request(*client.ask_request(STALLED))
        await asking.read_until(b'"message":')
        (call,) = await (await server.services.open()).calls.latest_calls("local")
        before = len(asyncio.all_tasks())
        await waiting.send_request(*client.tool_request("claude_jobs", 2, id=call.id, wait=3600))
        await waiting.read_until(b'"progress":')
        assert len(asyncio.all_tasks()) > before
        waiting.writer.close()
        with anyio.fail_after(30):
            while len(asyncio.all_tasks()) > before:
                await anyio.wait_all_tasks_blocked()
        assert [record.end for record in message_requests(upstream)] == ["open"]


async def test_a_cancelled_call_of_a_session_ends_and_is_answered(
    server: HttpServerInLoop, upstream: Simulator
) -> None:
    """2025-11-25; in 2026-07-28 a client cancels by going."""
    async with raw_mcp_client(server.url, "2025-11-25") as client, raw_connection(server.url) as connection:
        await connection.send_request(*client.ask_request(STALLED, identity=7))
        await connection.read_until(b'"message":')
        cancel = client.message("notifications/cancelled", {"requestId": 7})
        del cancel["id"]
        answer = await client.http.post(f"{server.url}/mcp", headers=client.headers(""), json=cancel)
        assert answer.status_code == 202
        assert b"-32800" in await connection.read_until(b"0\r\n\r\n")
        await upstream.wait_until_idle()
    assert [record.end for record in message_requests(upstream)] == ["disconnected"]


# --------------------------------------------------------------------- a client that does not read


async def test_a_client_that_does_not_read_delays_neither_the_upstream_nor_its_other_calls(
    client: RawMcpClient, server: HttpServerInLoop, upstream: Simulator
) -> None:
    async with raw_connection(server.url, receive_buffer=16384) as deaf:
        transport = cast("asyncio.Transport", deaf.writer.transport)
        transport.pause_reading()
        await deaf.send_request(*client.ask_request("Tell me all. [[sim: fault=huge]]"))
        with anyio.fail_after(30):
            await upstream.wait_for_requests(2)  # the list of models, and the message
            await upstream.wait_until_idle()
            assert message_requests(upstream)[0].end == "complete"
            for identity in range(2, 30):
                assert result_text(await client.call_tool("claude_info", identity, about="usage"))
            assert result_text(await client.call_tool("claude_ask", 30, prompt=directive(text="heard"))) == "heard"
        transport.resume_reading()
        received = await deaf.read_until(b"0\r\n\r\n")
    *_, last = [each for each in received.decode().split("data: ") if each.startswith("{")]
    assert result_text(json.loads(last.splitlines()[0])["result"]) == message_requests(upstream)[0].text


async def test_a_client_that_never_reads_is_disconnected(upstream: Simulator, tmp_path: Path) -> None:
    async with http_server_in_loop(data_dir=tmp_path / "data", base_url=upstream.url, write_timeout_s=0.2) as server:
        async with (
            raw_mcp_client(server.url, "2025-11-25") as client,
            raw_connection(server.url, receive_buffer=16384) as deaf,
        ):
            cast("asyncio.Transport", deaf.writer.transport).pause_reading()
            await deaf.send_request(*client.ask_request("Tell me all. [[sim: fault=huge]]"))
            with anyio.fail_after(30):
                await upstream.wait_for_requests(2)
                while server.server.server_state.tasks:
                    await anyio.wait_all_tasks_blocked()
        assert message_requests(upstream)[0].end == "complete"


# --------------------------------------------------------------------- requests that do not come


async def test_a_body_that_does_not_arrive_is_answered_408(
    client: RawMcpClient, upstream: Simulator, tmp_path: Path
) -> None:
    async with http_server_in_loop(data_dir=tmp_path / "slow", base_url=upstream.url, body_timeout_s=0.1) as server:
        for path in ("/mcp", "/chat"):
            async with raw_connection(server.url) as connection:
                headers = client.headers("tools/list") | {"content-length": "1000"}
                await connection.send(request_head(headers, path=path), b'{"jsonrpc"')
                received = await connection.read_to_end()
            assert received.startswith(b"HTTP/1.1 408 "), path
            assert b"arrived too slowly" in received


async def test_a_body_that_nobody_reads_and_that_does_not_arrive_is_answered_408_without_an_error(
    upstream: Simulator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with http_server_in_loop(data_dir=tmp_path / "slow", base_url=upstream.url, body_timeout_s=1) as server:
        async with httpx2.AsyncClient(base_url=server.url, timeout=60) as http:
            asked = await http.post("/chat", json={"message": "Hello."})
        async with raw_connection(server.url) as connection:
            head = {"content-type": "application/json", "content-length": "10"}
            await connection.send(request_head(head, path=f"/chat/{asked.headers['call-id']}", method="GET"))
            received = await connection.read_to_end()
    assert received.startswith(b"HTTP/1.1 408 ")
    assert received.count(b"HTTP/1.1") == 1
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_body_that_is_too_large_and_comes_after_the_response_has_begun_is_passed_over(
    upstream: Simulator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        http_server_in_loop(data_dir=tmp_path / "small", base_url=upstream.url, max_body_bytes=2_000) as server,
        httpx2.AsyncClient(base_url=server.url, timeout=60) as http,
        http.stream("POST", "/chat", json={"message": directive(tokens=100, pace=2)}) as asked,
        raw_connection(server.url) as connection,
    ):
        head = {"accept": "text/event-stream", "transfer-encoding": "chunked", "connection": "close"}
        path = f"/chat/{asked.headers['call-id']}"
        await connection.send(request_head(head, path=path, method="GET"))
        await connection.read_until(b"event: start")
        await connection.send((b"3e8\r\n" + b"x" * 1_000 + b"\r\n") * 5)
        await anyio.wait_all_tasks_blocked()
        upstream.skip_delays()
        rest = await connection.read_to_end()
        assert b"event: done" in rest
        assert b"HTTP/1.1" not in rest
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_head_that_does_not_arrive_times_out(server: HttpServerInLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.server.config, "head_timeout_s", 0.1)
    async with (
        raw_connection(server.url) as silent,
        raw_connection(server.url) as slow,
        raw_connection(server.url) as second,
    ):
        await slow.send(b"POST /mcp HTTP/1.1\r\nhost:")
        await second.send(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
        await second.read_until(b"\r\n\r\n")
        await second.send(b"POST /mcp HTTP/1.1\r\nhost:")
        for connection in (silent, slow, second):
            assert b"408" not in await connection.read_to_end()


async def test_a_client_that_disconnects_in_mid_request_causes_no_error(
    server: HttpServerInLoop, client: RawMcpClient
) -> None:
    async with raw_connection(server.url) as connection:
        await connection.send(request_head(client.headers("tools/list") | {"content-length": "1000"}), b"{")
    assert (await client.post("tools/list")).status_code == 200


async def test_a_body_over_the_limit_is_answered_413(client: RawMcpClient, upstream: Simulator, tmp_path: Path) -> None:
    async with http_server_in_loop(data_dir=tmp_path / "small", base_url=upstream.url, max_body_bytes=2000) as server:
        client.url, client.session = server.url, ""
        await client.initialize()
        headers, body = client.ask_request("x" * 2000)
        response = await client.http.post(f"{server.url}/mcp", headers=headers, content=body)
        assert response.status_code == 413
        assert (await client.post("tools/list")).status_code == 200


async def test_a_body_of_several_megabytes_is_accepted(client: RawMcpClient, upstream: Simulator) -> None:
    prompt = "é" * 3_000_000
    assert result_text(await client.call_tool("claude_ask", prompt=prompt, model="opus"))
    assert cast("dict[str, object]", message_requests(upstream)[0].body)["messages"] == [
        {"role": "user", "content": prompt}
    ]


# --------------------------------------------------------------------- the messages


async def test_no_cache_or_proxy_may_store_or_change_a_stream(server: HttpServerInLoop, client: RawMcpClient) -> None:
    headers, body = client.ask_request("What is tea?")
    response = await client.http.post(f"{server.url}/mcp", headers=headers, content=body)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-cache, no-transform"
    assert response.headers["x-accel-buffering"] == "no"
    assert "server" not in response.headers
    notifications = [each for each in jsonrpc_messages(response) if each.get("method") == "notifications/progress"]
    joined = "".join(str(each["params"].get("message", "")) for each in notifications)
    assert joined == result_text(jsonrpc_result(response))


async def test_a_lone_surrogate_is_answered(client: RawMcpClient, upstream: Simulator) -> None:
    assert result_text(await client.call_tool("claude_ask", prompt="half \ud83d of it"))
    assert "half \ufffd of it" in str(message_requests(upstream)[0].body)
    strange = await client.call_tool("claude_ask", 2, prompt="x", **{"\ude00": "\ud83d"})
    assert strange["isError"] is True
    assert "surrogate" not in result_text(strange)
    assert result_text(await client.call_tool("claude_ask", prompt="a pair \U0001f600 stays"))
    assert "a pair \U0001f600 stays" in str(message_requests(upstream)[1].body)


NOT_UTF_8 = [
    b'{"jsonrpc":"2.0","id":"\xed\xa0\xbd","method":5}',
    '{"jsonrpc":"2.0","id":"\\ud83d","method":5}'.encode("utf-16-le"),
]
"""Bodies that Python's JSON parser takes, with half a surrogate pair in the id."""


@pytest.mark.parametrize(
    "text", [b"not json", b'{"jsonrpc":"2.0"', b"\xff\xfe", b"[" * 100_000, b"7", b"[]", *NOT_UTF_8]
)
async def test_a_body_that_is_no_message_is_rejected(
    server: HttpServerInLoop, client: RawMcpClient, text: bytes
) -> None:
    response = await client.http.post(f"{server.url}/mcp", headers=client.headers("ping"), content=text)
    assert response.status_code == 400
    assert response.json()["error"]["code"] in {-32700, -32600, -32602}
    assert (await client.post("tools/list")).status_code == 200


@pytest.mark.parametrize("key", [b'"id"', b'"\\u0069d"'])
@pytest.mark.parametrize("identity", [b"null", b"1.5", b"true", b"[1]", b"1e400"])
async def test_a_request_with_an_invalid_id_is_rejected(
    server: HttpServerInLoop, client: RawMcpClient, identity: bytes, key: bytes
) -> None:
    body = json.dumps(client.message("tools/list", {})).encode().replace(b'"id": 1', key + b": " + identity)
    response = await client.http.post(f"{server.url}/mcp", headers=client.headers("tools/list"), content=body)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == -32600
    assert (await client.call_tool("claude_jobs", id=""))["content"]


@pytest.mark.parametrize("identity", [None, 7, "seven"])
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"jsonrpc": "1.0", "method": "ping"},
        {"method": "ping"},
        {"jsonrpc": "2.0", "method": 5},
        {"jsonrpc": "2.0", "method": "ping", "params": [1]},
        {"jsonrpc": "2.0", "method": "ping", "params": "half \ud83d"},
    ],
)
async def test_json_that_is_no_message_is_rejected_in_one_sentence_with_its_id(
    server: HttpServerInLoop, client: RawMcpClient, fields: dict[str, object], identity: object
) -> None:
    body = json.dumps(fields | ({} if identity is None else {"id": identity}))
    response = await client.http.post(f"{server.url}/mcp", headers=client.headers("ping"), content=body.encode())
    assert response.status_code == 400
    message = "Invalid Request: not a JSON-RPC 2.0 message."
    assert response.json() == {"jsonrpc": "2.0", "id": identity, "error": {"code": -32600, "message": message}}


@pytest.mark.parametrize("body", [b"[]", b' [{"jsonrpc":"2.0","id":1,"method":"ping"}]', b"[" * 1000])
async def test_a_batch_is_rejected_in_one_sentence(server: HttpServerInLoop, client: RawMcpClient, body: bytes) -> None:
    response = await client.http.post(f"{server.url}/mcp", headers=client.headers("ping"), content=body)
    assert response.status_code == 400
    assert response.json()["error"] == {"code": -32600, "message": "Invalid Request: batches are not taken."}


async def test_an_unknown_prompt_is_an_error_of_the_client_and_no_crash(client: RawMcpClient) -> None:
    (notifications,) = jsonrpc_messages(await client.post("prompts/get", {"name": "no-such-prompt"}))
    assert notifications["error"]["code"] == -32602
    assert "no-such-prompt" in notifications["error"]["message"]


async def test_the_address_is_answered_without_a_redirect_and_only_by_the_methods_of_the_protocol(
    server: HttpServerInLoop,
) -> None:
    async with raw_mcp_client(server.url, "2026-07-28") as client:
        assert (
            await client.http.put(f"{server.url}/mcp", headers=client.headers("x"), content=b"{}")
        ).status_code == 405
        assert (await client.http.get(f"{server.url}/mcp", headers=client.headers("x"))).status_code == 405
        plain = client.headers("tools/list") | {"content-type": "text/plain"}
        assert (await client.http.post(f"{server.url}/mcp", headers=plain, content=b"{}")).status_code == 415


# --------------------------------------------------------------------- sessions and users


async def test_sessions_above_the_limit_are_rejected_and_open_ones_continue(
    upstream: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mcp, "MAX_SESSIONS", 2)
    async with (
        http_server_in_loop(data_dir=tmp_path / "data", base_url=upstream.url) as server,
        raw_mcp_client(server.url, "2025-11-25") as one,
        raw_mcp_client(server.url, "2025-11-25") as two,
    ):
        hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}
        session, two.session = two.session, ""
        assert (await two.post("initialize", hello)).status_code == 503
        two.session = session
        await two.http.delete(f"{server.url}/mcp", headers=two.headers(""))
        assert (await two.post("tools/list")).status_code == 404
        two.session = ""
        assert (await two.post("initialize", hello)).status_code == 200
        assert (await one.post("tools/list")).status_code == 200


async def test_a_session_belongs_to_its_user(server: HttpServerInLoop) -> None:
    ann, bob = await server.token("ann"), await server.token("bob")
    async with (
        raw_mcp_client(server.url, "2025-11-25", ann) as hers,
        raw_mcp_client(server.url, "2025-11-25", bob) as his,
    ):
        assert (await hers.post("tools/list")).status_code == 200
        his.session = hers.session
        assert (await his.post("tools/list")).status_code == 404
        assert (await his.http.delete(f"{server.url}/mcp", headers=his.headers(""))).status_code == 404
        his.token = ""
        assert (await his.post("tools/list")).status_code == 401
        his.token = "mcpc_wrong"
        assert (await his.post("tools/list")).status_code == 401
        assert (await hers.post("tools/list")).status_code == 200


@pytest.mark.parametrize("era", PROTOCOL_VERSIONS)
async def test_calls_threads_and_spend_belong_to_their_user(
    server: HttpServerInLoop, era: ProtocolVersion, upstream: Simulator
) -> None:
    ann, bob, eve = (await server.token("ann"), await server.token("bob"), await server.token("eve", role="operator"))
    async with (
        raw_mcp_client(server.url, era, ann) as hers,
        raw_mcp_client(server.url, era, bob) as his,
        raw_mcp_client(server.url, era, eve) as operators,
    ):
        result = await hers.call_tool("claude_ask", prompt="Ann's secret", model="haiku")
        used = result["_meta"]["mcp-server-claude/usage"]
        assert used["user"] == "ann"
        call, thread = used["call_id"], used["thread"]
        await his.call_tool("claude_ask", prompt="Bob's", model="opus")

        for other in (his, operators):
            for strange in (
                await other.call_tool("claude_jobs", id=call),
                await other.call_tool("claude_jobs", id=call, wait=60),
                await other.call_tool("claude_jobs", id=thread),
                await other.call_tool("claude_jobs", id=call, cancel=True),
                await other.call_tool("claude_ask", prompt="go on", thread=thread),
            ):
                assert strange["isError"] is True
                assert strange["_meta"]["mcp-server-claude/failure"]["kind"] == "not_found"
            assert "error" in await other.read_resource(f"claude://calls/{call}")
            assert "error" in await other.read_resource(f"claude://threads/{thread}")
            assert "Ann's secret" not in result_text(await other.call_tool("claude_jobs"))
        assert "Ann's secret" in result_text(await hers.call_tool("claude_jobs"))
        assert "Ann's secret" in str(await hers.read_resource(f"claude://threads/{thread}"))

        for notifications in (
            result_text(await his.call_tool("claude_info")),
            str(await his.read_resource("claude://usage")),
        ):
            assert "opus" in notifications
            assert "haiku" not in notifications
        for notifications in (
            result_text(await operators.call_tool("claude_info")),
            str(await operators.read_resource("claude://usage")),
        ):
            assert all(word in notifications for word in ("opus", "haiku", "ann", "bob"))
    assert len(message_requests(upstream)) == 2


async def test_a_user_sees_their_budget_and_an_operator_all_budgets(upstream: Simulator, tmp_path: Path) -> None:
    async with http_server_in_loop(data_dir=tmp_path / "data", base_url=upstream.url, budget_usd_per_day=10) as server:
        ann, bob = await server.token("ann", usd_per_day=1.0), await server.token("bob")
        eve = await server.token("eve", role="operator")
        async with server.client(ann) as hers, server.client(bob) as his, server.client(eve) as operators:
            (notifications,) = text_blocks(await hers.call_tool("claude_info", {"about": "budget"}))
            assert notifications.startswith("$1.00 of $1.00 is left for today")
            assert "10.00" not in notifications
            (notifications,) = text_blocks(await his.call_tool("claude_info", {"about": "budget"}))
            assert "10.00" not in notifications
            (notifications,) = text_blocks(await operators.call_tool("claude_info", {"about": "budget"}))
            assert "| everybody | $10.00 | $10.00 |" in notifications
            assert "| ann | $1.00 | $1.00 |" in notifications


async def test_only_an_operator_sees_the_configuration(upstream: Simulator, tmp_path: Path) -> None:
    async with http_server_in_loop(data_dir=tmp_path / "data", base_url=upstream.url) as server:
        ann, eve = await server.token("ann"), await server.token("eve", role="operator")
        async with server.client(ann) as hers, server.client(eve) as operators:
            (short,) = text_blocks(await hers.call_tool("claude_info", {"about": "config"}))
            (complete,) = text_blocks(await operators.call_tool("claude_info", {"about": "config"}))
    assert "MCP_CLAUDE_MODEL" in short
    for secret in (str(tmp_path), upstream.url, "API_KEY", "ledger", "key:"):
        assert secret in complete
        assert secret not in short


async def test_the_user_of_the_sdk_context_is_the_authenticated_user(
    server: HttpServerInLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    received: list[str] = []

    async def models(_: object) -> str:
        await anyio.lowlevel.checkpoint()
        token = get_access_token()
        received.append(token.client_id if token else "")
        return "heard"

    monkeypatch.setattr("mcp_server_claude.server.tools.info.models_table", models)
    ann = await server.token("ann")
    for era in PROTOCOL_VERSIONS:
        async with raw_mcp_client(server.url, era, ann) as hers:
            assert result_text(await hers.call_tool("claude_info", about="models")) == "heard"
    assert received == ["ann", "ann"]


# --------------------------------------------------------------------- what others may not do to this machine


async def test_over_http_only_configured_directories_can_be_read(
    upstream: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, shared = tmp_path / "project", tmp_path / "shared"
    for folder in (project, shared):
        folder.mkdir()
        (folder / "notes.txt").write_text("Tea is a drink.")
    monkeypatch.chdir(project)
    async with connect("http", "auto", tmp_path / "one", base_url=upstream.url, project_dir=str(project)) as session:
        result = await session.ask("Summarise.", files=["notes.txt"])
        assert "MCP_CLAUDE_ROOTS" in text_blocks(result)[0]
    assert not message_requests(upstream)
    async with connect("http", "auto", tmp_path / "two", base_url=upstream.url, roots=str(shared)) as session:
        assert not (await session.ask("Summarise.", files=["notes.txt"])).is_error
        assert (await session.ask("Summarise.", files=[str(project / "notes.txt")])).is_error


async def test_the_default_concurrency_of_a_team_exceeds_that_of_one_person(
    upstream: Simulator, tmp_path: Path
) -> None:
    async with (
        connect("http", "auto", tmp_path / "data", base_url=upstream.url) as session,
        anyio.create_task_group() as tasks,
    ):
        for _ in range(20):
            tasks.start_soon(session.ask, STALLED)
        with anyio.fail_after(30):
            await upstream.wait_for_requests(21)  # and the list of models
        tasks.cancel_scope.cancel()
    with anyio.fail_after(30):
        await upstream.wait_until_idle()


# --------------------------------------------------------------------- the same everywhere


async def test_progress_is_reported_as_over_stdio(upstream: Simulator, tmp_path: Path) -> None:
    """Which words come in which message depends on time; all together, their order and the style do not."""
    seen: set[tuple[object, ...]] = set()
    places: list[tuple[Transport, ProtocolMode]] = [("memory", "auto"), ("http", "auto"), ("http", "legacy")]
    for where, mode in places:
        async with connect(where, mode, tmp_path / f"{where}-{mode}", base_url=upstream.url) as session:
            for style in ("text", "status"):
                notifications: list[ProgressUpdate] = []
                await session.ask(
                    "What is tea? [[sim: tokens=100 think=0 pace=400]]", updates=notifications, style=style
                )
                words = "".join(each.message or "" for each in notifications) if style == "text" else ""
                assert [each.progress for each in notifications] == sorted({each.progress for each in notifications})
                seen.add((style, words, re.sub(r"\d+\.\d", "N", notifications[0].message or "")))
    assert len(seen) == 2


# --------------------------------------------------------------------- addresses


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "0.0.0.0", "::"])  # noqa: S104
async def test_the_server_listens_on_the_configured_host(host: str, upstream: Simulator, tmp_path: Path) -> None:
    if ":" in host and not socket.has_ipv6:
        pytest.skip("There is no IPv6 here.")
    async with http_server_in_loop(host, data_dir=tmp_path / "data", base_url=upstream.url) as server:
        port = urlsplit(server.url).port
        names = {"0.0.0.0": ["127.0.0.1"], "::": ["127.0.0.1", "[::1]"]}  # noqa: S104
        for name in names.get(host, [f"[{host}]" if ":" in host else host]):
            async with raw_mcp_client(f"http://{name}:{port}", "2026-07-28") as client:
                assert (await client.post("tools/list")).status_code == 200


def test_json_is_repaired_only_where_necessary() -> None:
    assert json.loads(mcp.repair_json_surrogates(rb'{"a": "\ud83d", "b": "\ud83d\ude00"}')) == {
        "a": "\ufffd",
        "b": "\U0001f600",
    }
    assert mcp.repair_json_surrogates(rb'{"a": "\ud83d"') == rb'{"a": "\ud83d"'
