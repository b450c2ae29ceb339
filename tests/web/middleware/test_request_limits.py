"""Requests that are malformed, too large in their head, or without a body, sent as bytes over a socket."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import anyio
import pytest

from mcp_server_claude.web.client_timeouts import BodyTimeoutMiddleware
from support.http_server import RunningHttpServer, http_server_thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import Message, Receive, Scope, Send

    from mcp_server_claude.simulator import Simulator

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningHttpServer]:
    async with http_server_thread(tmp_path_factory.mktemp("limits"), "http://127.0.0.1:9") as server:
        yield server


async def exchange(server: RunningHttpServer, head: str) -> tuple[int, str]:
    """Send a request's bytes and read the response to its end: its status and its body."""
    host, port = server.url.removeprefix("http://").split(":")
    with anyio.fail_after(30):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(head.encode("latin-1"))
        raw = await reader.read()
        writer.close()
    status, _, body = raw.decode().partition("\r\n\r\n")
    return int(status.split(" ")[1]), body


def request(line: str, *headers: str, host: str = "localhost") -> str:
    return "\r\n".join((line, f"Host: {host}", "Connection: close", *headers, "", ""))


@pytest.mark.parametrize("host", ["[::1]evil", "localhost#", "localhost?", "localhost/", "u@localhost", "localhost:x"])
async def test_a_malformed_host_is_rejected(server: RunningHttpServer, host: str) -> None:
    status, _ = await exchange(server, request("GET /healthz HTTP/1.1", host=host))
    assert status in {400, 421}


async def test_a_well_formed_host_is_served(server: RunningHttpServer) -> None:
    for host in ("localhost", "localhost:1234", "[::1]:80", "127.0.0.1"):
        assert (await exchange(server, request("GET /healthz HTTP/1.1", host=host)))[0] == 200


@pytest.mark.parametrize("size", [70_000, 100_000])
async def test_a_head_that_is_too_large_is_rejected(server: RunningHttpServer, size: int) -> None:
    status, _ = await exchange(server, request("GET /healthz HTTP/1.1", f"X-Long: {'x' * size}"))
    assert status in {400, 431}


@pytest.mark.parametrize("count", [101, 5_000])
async def test_too_many_headers_are_rejected(server: RunningHttpServer, count: int) -> None:
    status, _ = await exchange(server, request("GET /healthz HTTP/1.1", *(f"X-{n}: 1" for n in range(count))))
    assert status in {400, 431}


async def test_a_long_target_is_part_of_the_head(server: RunningHttpServer) -> None:
    status, _ = await exchange(server, request(f"GET /healthz?{'x' * 66_000} HTTP/1.1"))
    assert status in {400, 431}


async def test_the_size_of_the_head_is_reported_in_a_sentence(server: RunningHttpServer) -> None:
    status, body = await exchange(server, request("GET /healthz HTTP/1.1", *(f"X-{n}: 1" for n in range(200))))
    assert status == 431
    assert json.loads(body)["error"]["text"] == "The request's head is too large: at most 100 headers and 64 KiB."


@pytest.mark.parametrize("version", ["9.9", "2.0", "0.9", "1.2"])
async def test_other_versions_of_http_are_rejected(server: RunningHttpServer, version: str) -> None:
    status, _ = await exchange(server, request(f"GET /healthz HTTP/{version}"))
    assert status in {400, 505}


async def test_http_1_0_is_served(server: RunningHttpServer) -> None:
    assert (await exchange(server, request("GET /healthz HTTP/1.0")))[0] == 200


@pytest.mark.parametrize("headers", [(), ("Content-Length: 0",), ("Content-Type: text/plain", "Content-Length: 0")])
async def test_a_post_without_a_body_needs_no_content_type(server: RunningHttpServer, headers: tuple[str, ...]) -> None:
    status, body = await exchange(server, request("POST /chat/c_0000000000000000/stop HTTP/1.1", *headers))
    assert (status, json.loads(body)["error"]["kind"]) == (404, "not_found")


async def test_a_post_with_a_body_still_needs_json(server: RunningHttpServer) -> None:
    chunked = request("POST /chat HTTP/1.1", "Transfer-Encoding: chunked") + "2\r\n{}\r\n0\r\n\r\n"
    plain = request("POST /chat HTTP/1.1", "Content-Type: text/plain", "Content-Length: 2") + "{}"
    for head in (chunked, plain):
        assert (await exchange(server, head))[0] == 415


async def test_a_foreign_page_cannot_stop_a_call_without_a_body(server: RunningHttpServer) -> None:
    head = request("POST /chat/c_0000000000000000/stop HTTP/1.1", "Origin: https://evil.example")
    assert (await exchange(server, head))[0] == 403


@pytest.mark.parametrize(
    "line",
    [
        "POST /register HTTP/1.1",
        "GET /register HTTP/1.1",
        "GET /authorize?client_id=x HTTP/1.1",
        "GET /.well-known/oauth-authorization-server HTTP/1.1",
        "GET /.well-known/oauth-authorization-server/mcp HTTP/1.1",
        "GET /.well-known/openid-configuration HTTP/1.1",
        "GET /.well-known/oauth-protected-resource/mcp HTTP/1.1",
    ],
)
async def test_oauth_clients_learn_where_tokens_come_from(server: RunningHttpServer, line: str) -> None:
    status, body = await exchange(server, request(line, "Content-Type: application/json"))
    assert status == 404
    assert '--header "Authorization: Bearer TOKEN"' in json.loads(body)["error"]["text"]


async def test_with_users_oauth_clients_learn_it_before_they_have_a_token(
    upstream: Simulator, tmp_path_factory: pytest.TempPathFactory
) -> None:
    async with http_server_thread(tmp_path_factory.mktemp("users"), upstream.url, users=("ada",)) as server:
        for line in ("POST /register HTTP/1.1", "GET /.well-known/oauth-authorization-server HTTP/1.1"):
            status, body = await exchange(server, request(line))
            assert (status, "user add NAME" in body) == (404, True)


async def test_bytes_that_are_no_http_cost_one_line_in_the_log_and_no_traceback(
    server: RunningHttpServer, caplog: pytest.LogCaptureFixture
) -> None:
    """In a request's head, in a body after the response, and as the wish for another protocol."""
    host, port = server.url.removeprefix("http://").split(":")
    unread_body = "POST /nope HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    with anyio.fail_after(60):
        for _ in range(3):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"\x16\x03\x01 no HTTP")
            assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
            writer.close()
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(unread_body.encode())
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 4")
            writer.write(b"no chunk\r\n")
            await reader.read()
            writer.close()
            upgrade = request("GET /healthz HTTP/1.1", "Upgrade: websocket").replace(
                "Connection: close", "Connection: upgrade, close"
            )
            assert (await exchange(server, upgrade))[0] == 200
    lines = [each for each in caplog.records if each.name != "mcp_server_claude.call"]
    assert {each.name for each in lines} <= {"mcp_server_claude.web.client_timeouts"}
    assert len(lines) <= 1


@pytest.mark.parametrize(
    ("headers", "is_read"),
    [
        ({"content-length": "5"}, True),
        ({"content-length": "65537"}, False),
        ({"content-length": "5", "expect": "100-continue"}, False),
        ({}, False),
    ],
)
async def test_a_short_body_is_read_before_a_response_that_does_not_need_it(
    headers: dict[str, str], *, is_read: bool
) -> None:
    """Answered while the body is on its way, 7 of 800 refusals were lost in Caddy (HTTP/2); so none of 1,600."""
    order: list[str] = []

    async def refuse(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 401, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def receive() -> Message:
        order.append("received")
        return {"type": "http.request", "body": b"hel" if len(order) == 1 else b"lo", "more_body": len(order) == 1}

    async def send(message: Message) -> None:
        order.append(message["type"])

    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await BodyTimeoutMiddleware(refuse, 30)({"type": "http", "headers": raw}, receive, send)
    assert order == [*(["received"] * 2 if is_read else []), "http.response.start", "http.response.body"]


@pytest.mark.parametrize("header", ["Expect: 100-continue", "Content-Type: text/plain"])
async def test_a_refusal_does_not_wait_for_a_body_that_does_not_come(server: RunningHttpServer, header: str) -> None:
    status, _ = await exchange(server, request("POST /chat HTTP/1.1", header, "Content-Length: 5"))
    assert status == 415
