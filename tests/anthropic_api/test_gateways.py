from __future__ import annotations

import os
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import anyio
import pytest

from mcp_server_claude.simulator import Pace, Simulator, directive
from support.loopback_server import loopback_server
from support.mcp_session import FAKE_KEY, McpSession, connect, failure_meta, text_blocks, usage_meta
from support.recorded_streams import message_events, sse_bytes
from support.scripted_upstream import ScriptedUpstream, scripted_upstream
from support.simulator_requests import message_requests

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from mcp_server_claude.simulator import ModelList

pytestmark = pytest.mark.anyio
FAST = Pace(ttft_s=0, tokens_per_s=0)
HELLO = sse_bytes(*message_events("hello"))


@pytest.fixture(autouse=True)
def _no_proxy_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@dataclass
class Counting:
    """A gateway that counts the connections it was given, and leaves each open for `requests` requests."""

    url: str = ""
    connections: int = 0
    request_heads: list[bytes] = field(default_factory=list[bytes])


@asynccontextmanager
async def counting(*, requests: int) -> AsyncGenerator[Counting]:
    """Answers every message with `hello`, and closes the connection after so many requests."""
    found = Counting()
    reply = (
        f"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {len(HELLO)}\r\n\r\n".encode() + HELLO
    )
    absent = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found.connections += 1
        for _ in range(requests):
            head = await reader.readuntil(b"\r\n\r\n")
            lengths = [
                status_line_of
                for status_line_of in head.lower().split(b"\r\n")
                if status_line_of.startswith(b"content-length")
            ]
            await reader.readexactly(int(lengths[0].split(b":")[1]) if lengths else 0)
            found.request_heads.append(head)
            writer.write(reply if head.startswith(b"POST") else absent)
            await writer.drain()

    async with loopback_server(serve) as found.url:
        yield found


def status_line_of(upstream: ScriptedUpstream, number: int = -1) -> bytes:
    """The first line of a request."""
    return upstream.requests[number].split(b"\r\n")[0]


# --------------------------------------------------------------------- keys and headers


async def test_a_gateway_that_reads_only_x_api_key_gets_the_key_there_and_no_bearer_token(
    upstream: Simulator, tmp_path: Path
) -> None:
    """For every request: the list of models, the count of the input, the message, and its continuation."""
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url, auth_header="x-api-key") as session:
        result = await session.ask(f"Tell me. {directive(fault='eof', times=1)}", max_usd=1)
    assert usage_meta(result)["complete"] is True
    paths = {record.path for record in upstream.requests}
    assert paths == {"/v1/models", "/v1/messages", "/v1/messages/count_tokens"}
    assert {record.credential_header for record in upstream.requests} == {"x-api-key"}


async def test_a_key_is_sent_as_a_bearer_token_by_default(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        await session.ask("x")
    assert {record.credential_header for record in upstream.requests} == {"bearer"}


async def test_headers_for_a_gateway_are_read_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", FAKE_KEY)
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "X-Portkey-Provider: anthropic\nX-Team: tea: black")
    async with (
        scripted_upstream(HELLO) as upstream,
        connect("memory", "auto", tmp_path / "data", base_url=upstream.url, api_key="") as session,
    ):
        assert text_blocks(await session.ask("x"))[0] == "hello"
    for each in upstream.requests:
        head = each.lower()  # the names of headers have no case (RFC 9110, section 5.1)
        assert b"\r\nx-portkey-provider: anthropic\r\n" in head
        assert b"\r\nx-team: tea: black\r\n" in head


async def test_a_base_url_may_have_a_path_and_a_slash_at_its_end(tmp_path: Path) -> None:
    async with scripted_upstream(HELLO) as upstream:
        for n, path in enumerate(("/anthropic", "/anthropic/", "/")):
            async with connect("memory", "auto", tmp_path / str(n), base_url=upstream.url + path) as session:
                assert text_blocks(await session.ask("x"))[0] == "hello"
    posted = [each.split(b"\r\n")[0] for each in upstream.requests if each.startswith(b"POST")]
    assert posted == [
        b"POST /anthropic/v1/messages HTTP/1.1",
        b"POST /anthropic/v1/messages HTTP/1.1",
        b"POST /v1/messages HTTP/1.1",
    ]


# --------------------------------------------------------------------- connections


async def test_one_connection_serves_several_calls_in_turn(tmp_path: Path) -> None:
    async with counting(requests=100) as gateway:
        async with connect("memory", "auto", tmp_path / "data", base_url=gateway.url) as session:
            for _ in range(6):
                assert text_blocks(await session.ask("x"))[0] == "hello"
        assert len(gateway.request_heads) == 1 + 6
        assert gateway.connections == 1


async def test_a_connection_that_a_gateway_closed_between_calls_is_opened_again(tmp_path: Path) -> None:
    async with (
        counting(requests=1) as gateway,
        connect("memory", "auto", tmp_path / "data", base_url=gateway.url) as session,
    ):
        with anyio.fail_after(60):
            for _ in range(3):
                assert text_blocks(await session.ask("x"))[0] == "hello"
    assert gateway.connections >= 4


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
async def test_a_proxy_of_the_environment_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    async with scripted_upstream(HELLO) as proxy:
        monkeypatch.setenv(name, proxy.url)
        async with connect("memory", "auto", tmp_path / "data", base_url="http://gateway.test/claude") as session:
            with anyio.fail_after(30):
                result = await session.ask("x")
    assert text_blocks(result)[0] == "hello"
    assert status_line_of(proxy) == b"POST http://gateway.test/claude/v1/messages HTTP/1.1"


async def test_a_proxy_for_tls_gets_a_connect_request_and_its_rejection_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scripted_upstream(b"") as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        async with connect(
            "memory", "auto", tmp_path / "data", base_url="https://gateway.test", max_retries=0
        ) as session:
            with anyio.fail_after(30):
                result = await session.ask("x")
    assert status_line_of(proxy) == b"CONNECT gateway.test:443 HTTP/1.1"
    assert FAKE_KEY.encode() not in b"".join(proxy.requests)
    assert failure_meta(result)["class"] in {"temporary_error", "configuration_error"}
    assert "Messages API" in text_blocks(result)[0]


async def test_hosts_of_no_proxy_are_reached_directly(
    upstream: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scripted_upstream(b"") as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
            assert usage_meta(await session.ask("x"))["complete"] is True
    assert not proxy.requests


# --------------------------------------------------------------------- other lists of models


async def asked_for(session: McpSession, gateway: Simulator, model: str) -> object:
    gateway.reset()
    result = await session.ask("x", model=model, effort="high", max_tokens=500)
    assert not result.is_error
    (request,) = message_requests(gateway)
    return cast("dict[str, object]", request.body)["model"]


@pytest.mark.parametrize("models", ["missing", "foreign", "empty"])
async def test_model_ids_are_passed_on_where_the_list_of_models_is_missing_or_has_other_ids(
    models: ModelList, tmp_path: Path
) -> None:
    async with (
        Simulator(pace=FAST, models=models) as gateway,
        connect("memory", "auto", tmp_path / "data", base_url=gateway.url) as session,
    ):
        for name in ("openai/gpt-oss:120b", "Claude-Custom", "us.anthropic.claude-opus-9-v1:0"):
            assert await asked_for(session, gateway, name) == name
        assert await asked_for(session, gateway, "opus") == "claude-opus-5-5"
        assert "The API gave no list of models" in await session.info(about="models")


async def test_a_broken_answer_of_an_unknown_model_is_continued_with_a_continue_prompt(tmp_path: Path) -> None:
    """Nothing is known of it; a plea is understood by all, while prefill is refused by many."""
    async with (
        Simulator(pace=FAST, models="missing") as gateway,
        connect("memory", "auto", tmp_path / "data", base_url=gateway.url) as session,
    ):
        result = await session.ask(f"Tell me. {directive(fault='eof', times=1)}", model="llama-9")
        first, second = message_requests(gateway)
        assert isinstance(first.body, dict)
        assert text_blocks(result)[0] == gateway.answer_to(first.body)
    messages = cast("list[dict[str, object]]", cast("dict[str, object]", second.body)["messages"])
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    assert usage_meta(result)["cost_usd"] is None


async def test_a_gateway_that_cannot_count_tokens_still_serves_under_a_budget(tmp_path: Path) -> None:
    """It answers whatever is posted with an event stream; the input is then estimated, never too low."""
    async with (
        scripted_upstream(HELLO) as upstream,
        connect("memory", "auto", tmp_path / "data", base_url=upstream.url, budget_usd_per_day=1) as session,
    ):
        result = await session.ask("x " * 1000, model="claude-haiku-5-5")
        (held,) = [cast("int", entry["held_micros"]) for entry in session.ledger_rows()]
    assert text_blocks(result)[0] == "hello"
    assert held > 0
