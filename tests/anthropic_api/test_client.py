"""The client of the Messages API: time limits of every request, unusable networks, and betas that are refused."""

from __future__ import annotations

import json
import os
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from mcp_server_claude.anthropic_api import client as client_module
from mcp_server_claude.anthropic_api import files_api
from mcp_server_claude.anthropic_api.client import ClaudeClient, TokenCount
from mcp_server_claude.anthropic_api.message_stream import MessageStream
from mcp_server_claude.errors import CallError, ConfigurationError, TemporaryError
from mcp_server_claude.settings import Settings
from support.certificates import private_certificate
from support.loopback_server import loopback_server
from support.mcp_session import FAKE_KEY, connect, failure_meta, text_blocks
from support.recorded_streams import REQUEST_BODY, message_events, sse_bytes
from support.scripted_upstream import scripted_upstream

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncGenerator
    from pathlib import Path

pytestmark = pytest.mark.anyio

HELLO = sse_bytes(*message_events("hello"))
BODY: dict[str, object] = {**REQUEST_BODY, "model": "claude-sonnet-5-5"}


@pytest.fixture(autouse=True)
def _without_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*os.environ]:
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


def claude_at(url: str, **fields: object) -> ClaudeClient:
    return ClaudeClient(Settings.model_validate({"api_key": FAKE_KEY, "base_url": url, **fields}))


@asynccontextmanager
async def silent_upstream(*, head: bytes = b"") -> AsyncGenerator[str]:
    """An upstream that accepts every request, sends `head`, and then nothing."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head)
        await writer.drain()
        while await reader.read(1 << 16):
            pass

    async with loopback_server(serve) as url:
        yield url


HEADS = [b"", b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n"]


# --------------------------------------------------------------------- time limits


@pytest.mark.parametrize("head", HEADS)
async def test_a_missing_token_count_is_replaced_by_the_estimate(head: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "COUNT_TIMEOUT_S", 0.2)
    async with silent_upstream(head=head) as url:
        claude = claude_at(url)
        with anyio.fail_after(30):
            counted = await claude.count_tokens(BODY)
            with pytest.raises(TemporaryError) as error:
                await claude.count_tokens(BODY, estimate_on_error=False)
        await claude.close()
    assert not counted.exact
    assert counted.tokens > 0
    assert error.value.kind == "timeout"


@pytest.mark.parametrize("tokens", [-1, 0, True, "12", 10**30, 12.5, None])
async def test_an_implausible_token_count_is_replaced_by_the_estimate(tokens: object) -> None:
    async with scripted_upstream(
        json.dumps({"input_tokens": tokens}).encode(), content_type="application/json"
    ) as upstream:
        claude = claude_at(upstream.url)
        counted = await claude.count_tokens(BODY)
        await claude.close()
    assert not counted.exact
    assert 0 < counted.tokens < 1000


async def test_a_count_of_1_is_accepted_for_a_word_and_not_for_a_book() -> None:
    async with scripted_upstream(b'{"input_tokens": 1}', content_type="application/json") as upstream:
        claude = claude_at(upstream.url)
        book = {**BODY, "messages": [{"role": "user", "content": "tea " * 10_000}]}
        assert await claude.count_tokens(BODY) == TokenCount(1)
        assert (await claude.count_tokens(book)).tokens > 10_000
        await claude.close()


@pytest.mark.parametrize("head", HEADS)
async def test_every_request_of_the_files_api_ends_by_the_deadline(head: bytes) -> None:
    async with silent_upstream(head=head) as url:
        claude = claude_at(url, deadline_s=0.2, bytes_timeout_s=30)
        for request in (
            lambda: files_api.upload_file(claude, "a.txt", b"tea", "text/plain", 3600),
            lambda: files_api.download_file(claude, "file_1", 100),
            lambda: files_api.get_metadata(claude, "file_1"),
            lambda: files_api.delete_file(claude, "file_1"),
        ):
            with anyio.fail_after(30), pytest.raises(TemporaryError) as error:
                await request()
            assert error.value.kind == "deadline"
        await claude.close()


async def test_a_transfer_without_a_byte_is_given_up_after_the_byte_timeout() -> None:
    async with silent_upstream() as url:
        claude = claude_at(url, bytes_timeout_s=0.2)
        with anyio.fail_after(60), pytest.raises(TemporaryError) as error:
            await files_api.get_metadata(claude, "file_1")
        await claude.close()
    assert error.value.kind == "timeout"


async def test_a_call_with_a_hanging_count_and_upload_ends_and_frees_its_slot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "COUNT_TIMEOUT_S", 0.2)
    project = tmp_path / "project"
    project.mkdir()
    (project / "a.csv").write_text("a,b\n" * 100)
    settings: dict[str, Any] = {
        "deadline_s": 1,
        "max_retries": 0,
        "max_concurrent": 1,
        "roots": [project],
        "uploads": True,
    }
    async with (
        silent_upstream() as url,
        connect("memory", "auto", tmp_path / "data", base_url=url, **settings) as session,
    ):
        with anyio.fail_after(60):
            calls: list[dict[str, Any]] = [{"max_usd": 1}, {"files": [str(project / "a.csv")], "tools": ["code"]}]
            for arguments in calls:
                result = await session.ask("Tea?", **arguments)
                assert failure_meta(result)["kind"] == "deadline"


# --------------------------------------------------------------------- the environment's network


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALL_PROXY", "socks5://127.0.0.1:1"),
        ("HTTPS_PROXY", "gopher://user:pa55word@127.0.0.1:1"),
        ("SSL_CERT_FILE", "{missing}/ca.pem"),
        ("SSLKEYLOGFILE", "{missing}/keys.log"),
    ],
)
async def test_an_unusable_variable_is_named_in_one_sentence_and_the_server_serves(
    name: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value.format(missing=tmp_path / "missing"))
    async with connect("memory", "auto", tmp_path / "data") as session:
        result = await session.ask("Tea?")
        assert await session.info(about="config")
    assert failure_meta(result)["class"] == "configuration_error"
    assert name in text_blocks(result)[0]
    assert "pa55word" not in text_blocks(result)[0]


async def test_a_profile_of_the_sdk_that_does_not_exist_is_a_configuration_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_PROFILE", "nobodys")
    async with connect("memory", "auto", tmp_path / "data", api_key=None) as session:
        result = await session.ask("Tea?")
    assert (failure_meta(result)["class"], failure_meta(result)["kind"]) == ("configuration_error", "authentication")


async def test_a_certificate_file_without_certificates_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ca.pem").write_text("tea")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with pytest.raises(ConfigurationError, match=r"^SSL_CERT_FILE .* contains no certificates") as error:
        await claude_at("https://gateway.test").get_client()
    assert error.value.kind == "tls"


async def test_an_upstream_with_a_private_authority_is_reached_with_ssl_cert_file_and_the_error_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import asyncio

    chain, key = private_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n" + HELLO)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        claude = claude_at(url)
        with pytest.raises(ConfigurationError, match="SSL_CERT_FILE") as error:
            await claude.stream_message(BODY, MessageStream(lambda _: None))
        await claude.close()
        monkeypatch.setenv("SSL_CERT_FILE", str(chain))
        answer = MessageStream(lambda _: None)
        claude = claude_at(url)
        await claude.stream_message(BODY, answer)
        await claude.close()
    assert error.value.kind == "tls"
    assert answer.text == "hello"


# --------------------------------------------------------------------- betas and routes


BETA_REFUSAL = {
    "type": "error",
    "error": {"type": "invalid_request_error", "message": "Unexpected value(s) for the `anthropic-beta` header."},
}


async def test_a_rejected_thinking_count_is_left_out_of_the_same_request_and_of_later_ones() -> None:
    refusal = json.dumps(BETA_REFUSAL).encode()
    requests: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
            await reader.readexactly(int(length.split(b":")[1]))
            requests.append(head)
            is_refused = b"\r\nanthropic-beta:" in head.lower()
            body = refusal if is_refused else HELLO
            kind = b"application/json" if is_refused else b"text/event-stream"
            status = b"400 X" if is_refused else b"200 OK"
            writer.write(
                b"HTTP/1.1 %b\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n%b" % (status, kind, len(body), body)
            )
            await writer.drain()

    async with loopback_server(serve) as url:
        claude = claude_at(url, thinking_count="on")
        for _ in range(2):
            answer = MessageStream(lambda _: None)
            await claude.stream_message(BODY, answer)
            assert answer.text == "hello"
        await claude.close()
    assert [b"\r\nanthropic-beta:" in head.lower() for head in requests] == [True, False, False]


SIGNATURE = (
    "messages.1.content.0: Invalid `signature` in `thinking` block. The block is bound to a different conversation. "
    'Remove the block, or set `thinking.block_binding.prefix_mismatch_behavior` to "drop_block". That setting requires '
    "the `thinking-binding-controls-2026-08-01` value in the `anthropic-beta` header. The `tools` of the request "
    "differ from those of the request that produced the block: `web_search` was added."
)


async def test_a_rejected_thinking_signature_is_reported_in_full_and_never_taken_for_a_rejected_beta() -> None:
    body = json.dumps({"type": "error", "error": {"type": "invalid_request_error", "message": SIGNATURE}}).encode()
    async with scripted_upstream(body, status=400, content_type="application/json") as upstream:
        claude = claude_at(upstream.url, thinking_count="on")
        for _ in range(2):
            with pytest.raises(CallError) as error:
                await claude.stream_message(BODY, MessageStream(lambda _: None))
            assert error.value.kind == "thinking_signature"
            assert str(error.value).endswith("`web_search` was added.")
        await claude.close()
    assert len(upstream.requests) == 2
    assert all(b"anthropic-beta" in request for request in upstream.requests)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (404, b"404 page not found", "base_url"),
        (404, b'{"detail": "Not Found"}', "base_url"),
        (
            404,
            b'{"error": {"message": "Invalid URL (POST /v1/messages)", "type": "invalid_request_error"}}',
            "base_url",
        ),
        (400, b'{"type": "error", "error": {"type": "invalid_request_error", "message": "model: required"}}', ""),
        (401, b'{"type": "error", "error": {"type": "authentication_error", "message": "no"}}', "authentication"),
    ],
)
async def test_the_route_of_the_messages_api_is_checked_with_an_empty_request(
    status: int, body: bytes, kind: str
) -> None:
    async with scripted_upstream(body, status=status, content_type="application/json") as upstream:
        claude = claude_at(upstream.url)
        if kind:
            with pytest.raises(CallError, match=upstream.url) as error:
                await claude.check_messages_route()
            assert error.value.kind == kind
        else:
            await claude.check_messages_route()
        await claude.close()
    assert upstream.requests[0].endswith(b"{}")
