"""Promises of both HTTP backends: proxies, certificates, redirects, lost connections, cancelling, keep-alive."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import ssl
import zlib
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, cast

import anthropic
import anyio
import anyio.lowlevel
import httpx2
import pytest

from mcp_server_claude.anthropic_api import aiohttp_connector, http_client
from mcp_server_claude.anthropic_api.client import ClaudeClient
from mcp_server_claude.anthropic_api.http_client import HttpBackend, build_http_client
from mcp_server_claude.anthropic_api.message_stream import MessageStream
from mcp_server_claude.call_types import TextDelta
from mcp_server_claude.errors import ConfigurationError, RequestError, TemporaryError
from mcp_server_claude.settings import Settings
from support.certificates import private_certificate
from support.cloud_upstream import (
    BEDROCK_STREAM,
    CannedResponse,
    bedrock_exception,
    bedrock_stream,
    cloud_upstream,
)
from support.loopback_server import loopback_server
from support.mcp_session import FAKE_KEY
from support.recorded_streams import REQUEST_BODY, message_events, sse_bytes
from support.recording_proxy import recording_proxy

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from mcp_server_claude.call_types import CallEvent

pytestmark = pytest.mark.anyio

HELLO = sse_bytes(*message_events("hel", "lo"))
BODY: dict[str, object] = {**REQUEST_BODY, "model": "claude-sonnet-5-5"}
SSE_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"


class ClientAt(Protocol):
    """Makes a client of the tested backend for an upstream's URL."""

    def __call__(self, url: str, **fields: object) -> AbstractAsyncContextManager[ClaudeClient]: ...


@pytest.fixture(params=["aiohttp", "httpx"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> HttpBackend:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return request.param


@pytest.fixture
def client_at(backend: HttpBackend) -> ClientAt:
    @asynccontextmanager
    async def make(url: str, **fields: object) -> AsyncGenerator[ClaudeClient]:
        claude = ClaudeClient(
            Settings.model_validate({"api_key": FAKE_KEY, "base_url": url, "http_backend": backend, **fields})
        )
        try:
            yield claude
        finally:
            await claude.close()

    return make


async def answer_of(claude: ClaudeClient) -> MessageStream:
    stream = MessageStream(lambda _: None)
    with anyio.fail_after(60):
        await claude.stream_message(BODY, stream)
    return stream


async def read_request(reader: asyncio.StreamReader) -> bytes:
    """A request's head; its body is read too."""
    head = await reader.readuntil(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")]
    await reader.readexactly(int(lengths[0].split(b":")[1]))
    return head


def chunked(*pieces: bytes, trailers: bytes = b"") -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n" + trailers + b"\r\n"


class Upstream:
    """Answers every request of every connection with the same bytes, and counts connections and their ends."""

    def __init__(self, response: bytes) -> None:
        self.response = response
        self.heads: list[bytes] = []
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while True:
            self.heads.append(await read_request(reader))
            writer.write(self.response)
            await writer.drain()


def test_the_setting_chooses_the_client_of_the_sdk(backend: HttpBackend) -> None:
    expected = {"aiohttp": anthropic.DefaultAioHttpClient, "httpx": anthropic.DefaultAsyncHttpxClient}[backend]
    assert isinstance(build_http_client(backend), expected)


@pytest.mark.parametrize(
    ("url", "proxy", "loads"),
    [
        ("http://127.0.0.1:1", "", False),
        ("http://127.0.0.1:1", "http://127.0.0.1:2", False),
        ("http://127.0.0.1:1", "https://127.0.0.1:2", True),
        ("https://127.0.0.1:1", "", True),
        ("", "", True),
    ],
)
def test_certificates_are_loaded_for_tls_alone(
    backend: HttpBackend, url: str, proxy: str, *, loads: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy)
    contexts: list[ssl.SSLContext] = []
    load = ssl.SSLContext.load_verify_locations

    def note_load(context: ssl.SSLContext, cafile: str | None, capath: str | None = None) -> None:
        contexts.append(context)
        load(context, cafile, capath)

    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", note_load)
    build_http_client(backend, base_url=url)
    assert bool(contexts) == loads


async def test_a_client_without_certificates_trusts_no_server(backend: HttpBackend, tmp_path: Path) -> None:
    chain, key = private_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    upstream = Upstream(SSE_HEAD + b"content-length: 0\r\n\r\n")
    async with (
        loopback_server(upstream.serve, context=context) as url,
        build_http_client(backend, base_url="http://127.0.0.1:1") as client,
    ):
        with pytest.raises(httpx2.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            await client.get(url)


def test_aiohttp_is_the_default() -> None:
    assert Settings().http_backend == "aiohttp"


def test_a_socks_proxy_is_left_to_httpx(backend: HttpBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    del backend
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1")
    with pytest.raises(ConfigurationError, match=r"ALL_PROXY .*socksio"):  # the package is not installed here
        build_http_client("aiohttp")


# --------------------------------------------------------------------- proxies and certificates


async def test_a_proxy_of_the_environment_carries_requests_but_not_to_hosts_of_no_proxy(
    client_at: ClientAt,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    upstream = Upstream(SSE_HEAD + b"content-length: %d\r\n\r\n" % len(HELLO) + HELLO)
    async with loopback_server(upstream.serve) as url, recording_proxy(url) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url.replace("http://", "http://user:pa55word@"))
        async with client_at("http://api.test") as claude:
            assert (await answer_of(claude)).text == "hello"
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        async with client_at(url) as claude:
            assert (await answer_of(claude)).text == "hello"
    (head,) = proxy.heads
    assert head.startswith(b"POST http://api.test/v1/messages HTTP/1.1\r\n")
    assert b"\r\nproxy-authorization: basic dxnlcjpwytu1d29yza==\r\n" in head.lower()
    assert upstream.connections == 2


async def test_https_goes_through_a_tunnel_of_the_proxy_and_is_checked_against_a_private_authority(
    client_at: ClientAt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain, key = private_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    upstream = Upstream(SSE_HEAD + b"content-length: %d\r\n\r\n" % len(HELLO) + HELLO)
    async with loopback_server(upstream.serve, context=context) as url, recording_proxy(url) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        async with client_at(url) as claude:
            with pytest.raises(ConfigurationError, match="SSL_CERT_FILE") as error:
                await answer_of(claude)
        assert error.value.kind == "tls"
        monkeypatch.setenv("SSL_CERT_FILE", str(chain))
        async with client_at(url) as claude:
            assert (await answer_of(claude)).text == "hello"
            assert (await answer_of(claude)).text == "hello"
    assert len(proxy.heads) == 2  # the second answer came over the tunnel of the first
    assert all(head.startswith(f"CONNECT {url.removeprefix('https://')} ".encode()) for head in proxy.heads)
    assert not any(FAKE_KEY.encode() in head for head in proxy.heads)


@pytest.mark.parametrize(("response", "kinds"), [(b"407 Proxy Authentication Required", {"connection"})])
async def test_a_tunnel_that_the_proxy_rejects_is_a_temporary_error(
    client_at: ClientAt, response: bytes, kinds: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 " + response + b"\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()

    async with loopback_server(refuse) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy)
        async with client_at("https://api.test") as claude:
            with pytest.raises(TemporaryError) as error:
                await answer_of(claude)
    assert error.value.kind in kinds


# --------------------------------------------------------------------- responses


async def test_a_redirect_is_never_followed(client_at: ClientAt) -> None:
    elsewhere = Upstream(SSE_HEAD + b"content-length: %d\r\n\r\n" % len(HELLO) + HELLO)
    async with loopback_server(elsewhere.serve) as target:
        redirecting = Upstream(
            f"HTTP/1.1 307 Temporary Redirect\r\nlocation: {target}/v1/messages\r\ncontent-length: 0\r\n\r\n".encode()
        )
        async with loopback_server(redirecting.serve) as url, client_at(url) as claude:
            with pytest.raises(ConfigurationError, match="redirect"):
                await answer_of(claude)
    assert elsewhere.connections == 0


async def test_retry_after_reaches_the_error(client_at: ClientAt) -> None:
    refusal = b'{"type":"error","error":{"type":"rate_limit_error","message":"Slow."}}'
    upstream = Upstream(
        b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 7\r\ncontent-type: application/json\r\n"
        b"request-id: req_1\r\ncontent-length: %d\r\n\r\n" % len(refusal) + refusal
    )
    async with loopback_server(upstream.serve) as url, client_at(url) as claude:
        with pytest.raises(TemporaryError) as error:
            await answer_of(claude)
    assert (error.value.kind, error.value.retry_after_s, error.value.request_id) == ("rate_limit", 7.0, "req_1")


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_a_compressed_stream_is_decoded(client_at: ClientAt, coding: str) -> None:
    packed = {"gzip": gzip.compress, "deflate": zlib.compress}[coding](HELLO)
    upstream = Upstream(
        SSE_HEAD + b"content-encoding: %b\r\ncontent-length: %d\r\n\r\n" % (coding.encode(), len(packed))
    )
    upstream.response += packed
    async with loopback_server(upstream.serve) as url, client_at(url) as claude:
        assert (await answer_of(claude)).text == "hello"


async def test_only_codings_that_can_be_decoded_are_offered(client_at: ClientAt) -> None:
    """Brotli is decoded by httpx2 where a package for it is installed, in both backends."""
    from httpx2._decoders import SUPPORTED_DECODERS

    upstream = Upstream(SSE_HEAD + b"content-length: %d\r\n\r\n" % len(HELLO) + HELLO)
    async with loopback_server(upstream.serve) as url, client_at(url) as claude:
        await answer_of(claude)
    (offered,) = [
        line.split(b":")[1] for line in upstream.heads[0].lower().split(b"\r\n") if line.startswith(b"accept-encoding")
    ]
    assert {each.strip() for each in offered.decode().split(",")} <= set(SUPPORTED_DECODERS)


async def test_trailers_are_passed_over_and_the_connection_is_used_again(client_at: ClientAt) -> None:
    upstream = Upstream(
        SSE_HEAD + b"transfer-encoding: chunked\r\n\r\n" + chunked(HELLO, trailers=b"x-checksum: 1\r\nx-more: 2\r\n")
    )
    async with loopback_server(upstream.serve) as url, client_at(url) as claude:
        answers = [(await answer_of(claude)).text for _ in range(3)]
    assert answers == ["hello"] * 3
    assert upstream.connections == 1


async def test_a_head_of_many_kilobytes_is_read(client_at: ClientAt) -> None:
    upstream = Upstream(SSE_HEAD + b"set-cookie: a=%b\r\n" % (b"x" * 40_000))
    upstream.response += b"content-length: %d\r\n\r\n" % len(HELLO) + HELLO
    async with loopback_server(upstream.serve) as url, client_at(url) as claude:
        assert (await answer_of(claude)).text == "hello"


@pytest.mark.parametrize(
    "head", [b"tea\r\n\r\n", b"HTTP/1.1 teapot\r\n\r\n", b"HTTP/1.1 200 OK\r\n: x\r\n\r\n", b"\0" * 9000]
)
async def test_a_response_that_is_not_http_is_a_temporary_error(client_at: ClientAt, head: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(head)
        await writer.drain()
        writer.close()

    async with loopback_server(serve) as url, client_at(url) as claude:
        with pytest.raises(TemporaryError) as error:
            await answer_of(claude)
    assert error.value.kind == "connection"


@pytest.mark.parametrize("rest", [b"", bedrock_exception("internalServerException", "Oh."), b"no frame" * 9])
async def test_the_binary_stream_of_bedrock_is_decoded_up_to_the_end_of_its_message(
    backend: HttpBackend, monkeypatch: pytest.MonkeyPatch, rest: bytes
) -> None:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "x" * 40,
        "AWS_REGION": "eu-west-1",
    }.items():
        monkeypatch.setenv(name, value)
    response = CannedResponse(
        "invoke-with-response-stream", bedrock_stream(message_events("hel", "lo")) + rest, BEDROCK_STREAM
    )
    async with cloud_upstream(response) as bedrock:
        claude = ClaudeClient(
            Settings.model_validate({"platform": "bedrock", "base_url": bedrock.url, "http_backend": backend})
        )
        stream = MessageStream(lambda _: None)
        await claude.stream_message({**BODY, "model": "eu.anthropic.claude-sonnet-5-5-v1:0"}, stream)
        await claude.close()
    assert stream.text == "hello"
    assert [each.path for each in bedrock.requests] == [
        "/model/eu.anthropic.claude-sonnet-5-5-v1:0/invoke-with-response-stream"
    ]


# --------------------------------------------------------------------- connections


async def test_a_connection_that_was_closed_while_idle_is_not_used_again(client_at: ClientAt) -> None:
    closed = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(SSE_HEAD + b"content-length: %d\r\n\r\n" % len(HELLO) + HELLO)
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        closed.set()

    async with loopback_server(serve) as url, client_at(url) as claude:
        for _ in range(3):
            closed.clear()
            assert (await answer_of(claude)).text == "hello"
            await closed.wait()
            await anyio.wait_all_tasks_blocked()


@pytest.mark.parametrize("framing", [b"transfer-encoding: chunked\r\n\r\n", b"content-length: 99999999\r\n\r\n"])
async def test_all_text_that_arrived_before_a_lost_connection_is_read(client_at: ClientAt, framing: bytes) -> None:
    """A megabyte of text and the end of the connection come faster than they are read."""
    text = [f"{n:07d}" for n in range(8_000)]
    body = sse_bytes(*message_events(*text)[: 2 + len(text)])
    chunks = b"%x\r\n%b\r\n" % (len(body), body) if framing.startswith(b"transfer") else body

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(SSE_HEAD + framing + chunks)
        await writer.drain()
        writer.close()

    stream = MessageStream(lambda _: None)
    async with loopback_server(serve) as url, client_at(url) as claude:
        with pytest.raises(TemporaryError) as error:
            await claude.stream_message(BODY, stream)
    assert error.value.kind == "connection"
    assert stream.text == "".join(text)


@pytest.mark.parametrize("framing", ["chunked", "content-length"])
async def test_an_answer_is_read_although_no_http_follows_it_in_the_same_packet(
    client_at: ClientAt, framing: str
) -> None:
    chunk = b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(HELLO), HELLO)
    body = chunk if framing == "chunked" else b"content-length: %d\r\n\r\n%b" % (len(HELLO), HELLO)
    upstream = Upstream(SSE_HEAD + body + b"what is this?\r\n" * 10)
    async with loopback_server(upstream.serve) as url, client_at(url) as claude:
        stream = await answer_of(claude)
    assert (stream.text, stream.is_finished, len(upstream.heads)) == ("hello", True, 1)


@pytest.mark.parametrize("split_at", [12, 60, -3, -1])
async def test_a_head_in_two_packets_is_read_although_no_http_follows_it(
    monkeypatch: pytest.MonkeyPatch, split_at: int
) -> None:
    """Of aiohttp alone: it parses a packet as a whole."""
    received = asyncio.Event()
    parse = aiohttp_connector.WriteTimeoutHandler.data_received

    def data_received(handler: aiohttp_connector.WriteTimeoutHandler, data: bytes) -> None:
        parse(handler, data)
        received.set()

    monkeypatch.setattr(aiohttp_connector.WriteTimeoutHandler, "data_received", data_received)
    head = SSE_HEAD + b"content-length: %d\r\n\r\n" % len(HELLO)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        received.clear()
        writer.write(head[:split_at])
        await received.wait()
        writer.write(head[split_at:] + HELLO + b"what is this?\r\n" * 10)
        await writer.drain()

    async with loopback_server(serve) as url:
        fields = {"api_key": FAKE_KEY, "http_backend": "aiohttp", "base_url": url}
        claude = ClaudeClient(Settings.model_validate(fields))
        stream = await answer_of(claude)
        await claude.close()
    assert (stream.text, stream.is_finished) == ("hello", True)


@pytest.mark.parametrize(
    "framing",
    [
        b"content-length: 999\r\n\r\n%b",
        b"transfer-encoding: chunked\r\n\r\n%b",
        b"transfer-encoding: chunked\r\n\r\nffff\r\n%b",
    ],
)
async def test_an_error_whose_body_is_framed_wrongly_is_that_of_its_status(client_at: ClientAt, framing: bytes) -> None:
    message = {"type": "error", "error": {"type": "invalid_request_error", "message": "That is too much."}}
    head = b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(head + framing % json.dumps(message).encode())
        await writer.drain()
        writer.close()

    async with loopback_server(serve) as url, client_at(url) as claude:
        with pytest.raises(RequestError) as error:
            await answer_of(claude)
    assert (error.value.status, error.value.kind) == (400, "invalid_request")
    if b"chunked\r\n\r\n%b" not in framing:
        assert "That is too much." in str(error.value)


async def test_an_answer_that_no_http_follows_before_its_end_is_cut(client_at: ClientAt) -> None:
    part = sse_bytes(*message_events("hel", "lo")[:3])
    upstream = Upstream(SSE_HEAD + b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\nwhat?\r\n" % (len(part), part))
    stream = MessageStream(lambda _: None)
    async with loopback_server(upstream.serve) as url, client_at(url) as claude:
        with pytest.raises(TemporaryError) as error:
            await claude.stream_message(BODY, stream)
    assert (error.value.kind, stream.text, stream.is_finished) == ("connection", "hel", False)


@pytest.mark.parametrize("moment", ["before the head", "in the stream"])
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_cancelling_closes_the_upstream_connection(
    client_at: ClientAt, scheme: str, moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    received, has_ended = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        if moment == "in the stream":
            part = sse_bytes(*message_events("hel", "lo")[:3])
            writer.write(SSE_HEAD + b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(part), part))
            await writer.drain()
        else:
            received.set()
        try:
            assert await reader.read(1) == b""
        finally:
            has_ended.set()

    context = None
    if scheme == "https":
        chain, key = private_certificate(tmp_path)
        monkeypatch.setenv("SSL_CERT_FILE", str(chain))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain, key)
    async with (
        loopback_server(serve, context=context) as url,
        client_at(url) as claude,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(claude.stream_message, BODY, MessageStream(lambda _: received.set()))
        with anyio.fail_after(60):
            await received.wait()
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await has_ended.wait()


async def test_two_hundred_streams_are_open_at_the_same_time(client_at: ClientAt) -> None:
    arrived, all_arrived = 0, asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal arrived
        await read_request(reader)
        arrived += 1
        if arrived == 200:
            all_arrived.set()
        await all_arrived.wait()
        writer.write(SSE_HEAD + b"content-length: %d\r\n\r\n" % len(HELLO) + HELLO)
        await writer.drain()

    answers: list[str] = []

    async with loopback_server(serve) as url, client_at(url) as claude:

        async def ask() -> None:
            answers.append((await answer_of(claude)).text)

        async with anyio.create_task_group() as tasks:
            for _ in range(200):
                tasks.start_soon(ask)
    assert answers == ["hello"] * 200


async def test_an_upload_reaches_the_upstream_in_full(client_at: ClientAt) -> None:
    """The body of an upload is a stream, not bytes."""
    from mcp_server_claude.anthropic_api import files_api

    received: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = b""
        while b"the end" not in body:
            body += await reader.read(1 << 16)
        received.append(body)
        answer = json.dumps(FILE_METADATA).encode()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(answer))
        writer.write(answer)
        await writer.drain()

    content = b"tea " * 200_000 + b"the end"
    async with loopback_server(serve) as url, client_at(url) as claude:
        await files_api.upload_file(claude, "a.txt", content, "text/plain", 3600)
    assert content in received[0]


FILE_METADATA: dict[str, Any] = {
    "id": "file_1",
    "type": "file",
    "filename": "a.txt",
    "mime_type": "text/plain",
    "size_bytes": 9,
    "created_at": "2026-11-01T00:00:00Z",
    "downloadable": False,
}


async def test_text_of_an_interval_is_read_in_one_batch_but_neither_the_first_nor_the_last_waits(
    client_at: ClientAt, backend: HttpBackend
) -> None:
    texts: list[str] = []
    has_text = asyncio.Event()
    events = [sse_bytes(event) for event in message_events("a", "b", "c")]

    def listen(event: CallEvent) -> None:
        if isinstance(event, TextDelta):
            texts.append(event.text)
            has_text.set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(SSE_HEAD + b"transfer-encoding: chunked\r\n\r\n")
        for event in events[:3]:
            writer.write(b"%x\r\n%b\r\n" % (len(event), event))
        await has_text.wait()
        writer.write(b"%x\r\n%b\r\n" % (len(events[3]), events[3]))
        for _ in range(100):
            await anyio.lowlevel.checkpoint()  # a reader without an interval reads it meanwhile
        writer.write(chunked(*events[4:]))
        await writer.drain()

    stream = MessageStream(listen)
    async with loopback_server(serve) as url, client_at(url) as claude:
        with anyio.fail_after(60):
            await claude.stream_message(BODY, stream, read_interval_s=3600)
    assert stream.text == "abc"
    assert texts == (["a", "bc"] if backend == "aiohttp" else ["a", "b", "c"])


async def test_cancelling_during_an_interval_closes_the_upstream_connection(client_at: ClientAt) -> None:
    has_text, has_ended = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        part = sse_bytes(*message_events("hel", "lo")[:3])
        writer.write(SSE_HEAD + b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(part), part))
        assert await reader.read(1) == b""
        has_ended.set()

    def listen(event: CallEvent) -> None:
        if isinstance(event, TextDelta):
            has_text.set()

    async with loopback_server(serve) as url, client_at(url) as claude, anyio.create_task_group() as tasks:
        tasks.start_soon(partial(claude.stream_message, BODY, MessageStream(listen), read_interval_s=3600))
        with anyio.fail_after(60):
            await has_text.wait()
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await has_ended.wait()


async def test_idle_connections_beyond_the_limit_are_closed(
    client_at: ClientAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_client, "MAX_IDLE_CONNECTIONS", 2)
    arrived, all_arrived, open_connections = 0, asyncio.Event(), 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal arrived, open_connections
        open_connections += 1
        try:
            await read_request(reader)
            arrived += 1
            if arrived == 5:
                all_arrived.set()
            await all_arrived.wait()
            writer.write(SSE_HEAD + b"content-length: %d\r\n\r\n" % len(HELLO) + HELLO)
            await reader.read(1)
        finally:
            open_connections -= 1

    async with loopback_server(serve) as url, client_at(url) as claude:
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(answer_of, claude)
        with anyio.fail_after(60):
            while open_connections > 2:
                await anyio.lowlevel.checkpoint()
        await anyio.wait_all_tasks_blocked()
        assert open_connections == 2


async def test_a_connection_has_keep_alive_probes_and_is_kept_as_long_as_the_setting_says(
    client_at: ClientAt, backend: HttpBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    probes: list[int] = []
    set_option = socket.socket.setsockopt

    def note_option(opened: socket.socket, level: int, option: int, *value: Any) -> None:
        if (level, option) == (socket.SOL_SOCKET, socket.SO_KEEPALIVE):
            probes.append(value[0])
        set_option(opened, level, option, *value)

    monkeypatch.setattr(socket.socket, "setsockopt", note_option)
    upstream = Upstream(SSE_HEAD + b"content-length: %d\r\n\r\n" % len(HELLO) + HELLO)
    async with loopback_server(upstream.serve) as url, client_at(url) as claude:
        await answer_of(claude)
        transport = getattr(await claude.get_client(), "_client")._transport  # noqa: B009
        ttl_s = (
            transport._transport.client.connector._keepalive_timeout
            if backend == "aiohttp"
            else transport._pool._keepalive_expiry
        )
    assert probes == [1]
    assert ttl_s == http_client.KEEPALIVE_TTL_S >= 60  # with the SDK's own 5 s, nearly every call would pay for TLS


async def test_a_request_body_that_the_upstream_does_not_read_is_a_temporary_error(
    client_at: ClientAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_client, "WRITE_TIMEOUT_S", 0.05)
    has_ended = asyncio.Event()

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        cast("asyncio.Transport", writer.transport).pause_reading()
        await has_ended.wait()

    body = {**BODY, "messages": [{"role": "user", "content": "x" * 30_000_000}]}
    async with loopback_server(serve) as url, client_at(url) as claude:
        with anyio.fail_after(60), pytest.raises(TemporaryError) as error:
            await claude.stream_message(body, MessageStream(lambda _: None))
        has_ended.set()
    assert error.value.kind == "timeout"
