from __future__ import annotations

import traceback
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

import anyio
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from mcp_server_claude import redaction
from mcp_server_claude.anthropic_api.client import ClaudeClient
from mcp_server_claude.anthropic_api.message_stream import MessageStream
from mcp_server_claude.anthropic_api.platforms import find_credential
from mcp_server_claude.errors import CallError
from mcp_server_claude.settings import Settings
from mcp_server_claude.simulator import Pace, Simulator, directive
from mcp_server_claude.telemetry.stderr_logging import RedactingFormatter
from support.mcp_session import McpSession, ProgressUpdate, connect, failure_meta, server_environment, text_blocks
from support.scripted_upstream import ScriptedUpstream, scripted_upstream
from support.server_command import server_command
from support.simulator_requests import message_requests

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from pathlib import Path


pytestmark = pytest.mark.anyio

OURS, THEIRS = "sk-ant-ours-0123456789-abcdef", "sk-ant-theirs-9876543210-fedcba"
GATEWAYS = "gw.Secret/0123456789+abcdef"
"""A gateway's key, which looks like nothing of Anthropic's."""
NOBODY = "http://127.0.0.1:9"
"""Where nothing listens: what is sent there would be seen to fail."""
COMPLAINT = b'{"type":"error","error":{"type":"invalid_request_error","message":"Bad key %s, go away."}}'


@pytest.fixture
async def api() -> AsyncIterator[Simulator]:
    async with Simulator(pace=Pace(ttft_s=0, tokens_per_s=0), key=OURS) as simulator:
        yield simulator


def headers(upstream: ScriptedUpstream) -> list[dict[str, str]]:
    """The headers of every request, names in lower case."""
    heads = [each.split(b"\r\n\r\n")[0].decode().split("\r\n")[1:] for each in upstream.requests]
    return [{name.lower(): value for name, _, value in (line.partition(": ") for line in head)} for head in heads]


@asynccontextmanager
async def process(where: Path, env: dict[str, str]) -> AsyncGenerator[McpSession]:
    """The server as a process with just this environment."""
    stderr = where.parent / f"{where.name}.stderr"
    complete = server_environment(data_dir=where) | env
    command, *arguments = server_command(real="ANTHROPIC_LOG" in env)  # which the SDK reads when it is imported
    parameters = StdioServerParameters(command=command, args=arguments, env=complete)
    with stderr.open("w") as errors:
        async with Client(stdio_client(parameters, errlog=errors)) as client:
            yield McpSession(client, where, stderr)


# --------------------------------------------------------------------- which key, and where it goes


async def test_the_key_of_the_server_outranks_others_and_never_goes_to_the_gateway_of_the_client(
    api: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scripted_upstream(b"") as gateway:
        monkeypatch.setenv("ANTHROPIC_API_KEY", THEIRS)
        monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", THEIRS)
        monkeypatch.setenv("ANTHROPIC_BASE_URL", gateway.url)
        monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", f"X-Gateway: {THEIRS}")
        async with connect("memory", "auto", tmp_path / "data", base_url=api.url, api_key=OURS) as session:
            result = await session.ask("x")
            config = await session.info(about="config")
        assert not gateway.requests
    assert not result.is_error
    assert [record.credential_header for record in message_requests(api)] == ["bearer"]
    assert f"sent to {api.url}" in config


@pytest.mark.parametrize("auth_header", ["authorization", "x-api-key"])
async def test_headers_for_the_gateway_of_the_client_are_not_sent_with_the_key_of_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, auth_header: str
) -> None:
    """Not even where it takes the place of what the SDK itself sends."""
    added = (
        f"X-Gateway: {THEIRS}\nauthorization: Bearer {THEIRS}\nx-api-key: {THEIRS}\n"
        f"anthropic-version: 2020-01-01\nanthropic-beta: theirs\nUser-Agent: theirs\n"
    )
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", added)
    async with (
        scripted_upstream(b"") as upstream,
        connect(
            "memory",
            "auto",
            tmp_path / "data",
            base_url=upstream.url,
            api_key=OURS,
            auth_header=auth_header,
            max_retries=0,
        ) as session,
    ):
        await session.ask("x", max_usd=1)
    found = headers(upstream)
    kinds = {each.split(b" ")[1].split(b"?")[0] for each in upstream.requests}
    assert kinds == {b"/v1/models", b"/v1/messages/count_tokens", b"/v1/messages"}
    for head in found:
        assert not any(THEIRS in value or value == "theirs" for value in head.values())
        assert head["anthropic-version"] == "2026-10-21"
        assert head.get("authorization") == (f"Bearer {OURS}" if auth_header == "authorization" else None)
        assert head.get("x-api-key") == (OURS if auth_header == "x-api-key" else None)


async def test_without_a_key_of_its_own_the_server_uses_that_of_the_client_with_its_gateway_and_headers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scripted_upstream(b"") as gateway:
        monkeypatch.setenv("ANTHROPIC_API_KEY", THEIRS)
        monkeypatch.setenv("ANTHROPIC_BASE_URL", gateway.url)
        monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "X-Gateway: yes\nX-Team: tea")
        async with connect("memory", "auto", tmp_path / "data", api_key="", max_retries=0) as session:
            await session.ask("x")
            config = await session.info(about="config")
    (posted,) = (
        head for each, head in zip(gateway.requests, headers(gateway), strict=True) if each.startswith(b"POST")
    )
    assert posted["authorization"] == f"Bearer {THEIRS}"
    assert (posted["x-gateway"], posted["x-team"]) == ("yes", "tea")
    assert f"from ANTHROPIC_API_KEY, sent to {gateway.url}" in config


async def test_the_base_url_of_the_server_redirects_the_key_of_the_client(
    api: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", OURS)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", NOBODY)
    async with connect("memory", "auto", tmp_path / "data", base_url=api.url, api_key="") as session:
        assert not (await session.ask("x")).is_error


@pytest.mark.parametrize("key", ["", "${ANTHROPIC_API_KEY}", "  "])
async def test_a_token_is_used_without_a_key(
    api: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", key)
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", f"{OURS}\n")
    async with connect("memory", "auto", tmp_path / "data", base_url=api.url, api_key=key) as session:
        assert not (await session.ask("x")).is_error
        assert "from ANTHROPIC_AUTH_TOKEN" in await session.info(about="config")
    assert [record.credential_header for record in message_requests(api)] == ["bearer"]


@pytest.mark.parametrize("key", [f" {OURS}\n", f'"{OURS}"', f"'{OURS}'\t"])
@pytest.mark.parametrize("own", [True, False])
async def test_white_space_and_quotes_around_a_key_are_ignored(
    api: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, *, own: bool
) -> None:
    if not own:
        monkeypatch.setenv("ANTHROPIC_API_KEY", key)
    given = key if own else ""
    async with connect("memory", "auto", tmp_path / "data", base_url=api.url, api_key=given) as session:
        assert not (await session.ask("x")).is_error


async def test_a_rejected_key_is_reported_without_the_key(api: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=api.url, api_key=THEIRS) as session:
        result = await session.ask("x")
    assert failure_meta(result)["kind"] == "authentication"
    assert failure_meta(result)["class"] == "configuration_error"
    assert failure_meta(result)["request_id"] == message_requests(api)[0].request_id
    assert f"{api.url} does not accept the API key" in text_blocks(result)[0]
    assert THEIRS not in result.model_dump_json()


# --------------------------------------------------------------------- never seen


@pytest.mark.slow
@pytest.mark.parametrize(("key", "how"), [(OURS, "authorization"), (GATEWAYS, "x-api-key")])
async def test_no_log_level_and_no_outcome_shows_a_key(tmp_path: Path, key: str, how: str) -> None:
    """With everything logged that can be: ours at debug, the SDK's too; answered, refused and dropped."""
    updates: list[ProgressUpdate] = []
    seen = ""
    loud = {"MCP_CLAUDE_LOG_LEVEL": "debug", "ANTHROPIC_LOG": "debug", "MCP_CLAUDE_MAX_RETRIES": "0"}
    loud |= {"MCP_CLAUDE_AUTH_HEADER": how, "MCP_CLAUDE_API_KEY": key}
    with anyio.fail_after(120):
        async with (
            Simulator(pace=Pace(ttft_s=0, tokens_per_s=0)) as api,
            scripted_upstream(COMPLAINT % key.encode(), status=400, content_type="application/json") as echo,
        ):
            for n, url in enumerate((api.url, echo.url)):
                async with process(tmp_path / f"data{n}", loud | {"MCP_CLAUDE_BASE_URL": url}) as session:
                    for prompt in ("x", directive(fault="drop", at=5), directive(status=500), directive(status=401)):
                        result = await session.ask(prompt, model="claude-sonnet-5-5", updates=updates, style="status")
                        seen += result.model_dump_json()
                    for about in ("config", "models", "usage"):
                        seen += await session.info(about=about)
                seen += session.stderr.read_text()
    assert "anthropic._base_client" in seen  # it was loud indeed
    assert "Bad key …, go away." in seen or "Bad key sk-ant-…, go away." in seen
    seen += repr(updates)
    assert key not in seen
    assert key[7:] not in seen


@pytest.mark.parametrize(
    ("variable", "key"),
    [
        ("MCP_CLAUDE_API_KEY", f"{OURS}\n{THEIRS}"),
        ("ANTHROPIC_API_KEY", f"{OURS} {THEIRS}"),
        ("ANTHROPIC_AUTH_TOKEN", f"{GATEWAYS}\r\nX-Evil: {GATEWAYS}"),
    ],
)
async def test_a_key_with_a_line_break_is_named_and_never_shown(tmp_path: Path, variable: str, key: str) -> None:
    loud = {"MCP_CLAUDE_LOG_LEVEL": "debug", "ANTHROPIC_LOG": "debug", "MCP_CLAUDE_BASE_URL": NOBODY, variable: key}
    with anyio.fail_after(60):
        async with process(tmp_path / "data", loud) as session:
            result = await session.ask("x")
            seen = result.model_dump_json() + await session.info(about="config")
        seen += session.stderr.read_text()
    assert failure_meta(result)["kind"] == "malformed_key"
    assert text_blocks(result)[0].startswith(f"{variable} contains a line break, a space or a control character")
    for part in (OURS, THEIRS, GATEWAYS):
        assert part not in seen
        assert part[7:] not in seen


@pytest.mark.parametrize("backend", ["aiohttp", "httpx"])
async def test_an_invalid_header_is_reported_without_its_content(
    api: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    """The HTTP library prints it in its own error, and that in the SDK's."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", THEIRS)
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", f"X-Key: {OURS}\r{OURS}")
    fields = {"base_url": api.url, "api_key": "", "max_retries": 0, "http_backend": backend}
    async with connect("memory", "auto", tmp_path / "data", **fields) as session:
        with anyio.fail_after(30):
            result = await session.ask("x")
    assert failure_meta(result)["kind"] == "malformed_key"
    assert "an extra header" in text_blocks(result)[0]
    assert OURS not in result.model_dump_json()


@pytest.mark.parametrize("key", [OURS, GATEWAYS])
async def test_settings_client_failure_and_traceback_do_not_show_the_key(key: str) -> None:
    settings = Settings.model_validate({"api_key": key, "base_url": NOBODY, "max_retries": 0})
    claude = ClaudeClient(settings)
    body: dict[str, object] = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]}
    with pytest.raises(CallError) as caught:
        await claude.stream_message(body, MessageStream(lambda _: None))
    credential = find_credential(settings)
    seen = repr((settings, credential, claude, await claude.get_client(), caught.value, caught.value.as_json()))
    seen += str(settings) + str(credential) + settings.model_dump_json()
    seen += "".join(traceback.format_exception(caught.value))
    await claude.close()
    assert key not in seen
    assert caught.value.__cause__ is None


async def test_a_logged_traceback_is_redacted() -> None:
    import logging

    find_credential(Settings.model_validate({"api_key": GATEWAYS, "base_url": NOBODY}))
    with pytest.raises(ValueError, match="invalid literal") as caught:
        int(f"{GATEWAYS} or {OURS}")
    trace = (caught.type, caught.value, caught.tb)
    record = logging.LogRecord("x", logging.ERROR, __file__, 1, "%s", (GATEWAYS,), trace)
    line = RedactingFormatter("%(message)s").format(record)
    assert "ValueError: invalid literal for int() with base 10: '… or sk-ant-…'" in line
    assert GATEWAYS not in line
    assert OURS not in line


async def test_a_key_that_begins_with_a_registered_one_is_redacted_whole() -> None:
    redaction.register_secret("sk-ant-short-key")
    assert redaction.redact("Use sk-ant-short-key, not sk-ant-short-key-of-another.") == "Use sk-ant-…, not sk-ant-…."


async def test_the_placeholder_key_of_a_gateway_is_not_redacted_from_every_word() -> None:
    """Many gateways want no key and are given `any`."""
    import logging

    find_credential(Settings.model_validate({"api_key": "any", "base_url": NOBODY}))
    record = logging.LogRecord("x", logging.INFO, __file__, 1, "many words of any company", (), None)
    assert RedactingFormatter("%(message)s").format(record) == "many words of any company"


async def test_the_debug_log_of_the_sdk_is_off_unless_requested(api: Simulator, tmp_path: Path) -> None:
    env = {"MCP_CLAUDE_API_KEY": OURS, "MCP_CLAUDE_BASE_URL": api.url}
    async with process(tmp_path / "data", env) as session:
        assert not (await session.ask("a word that nobody should log")).is_error
    logged = session.stderr.read_text()
    assert "claude_ask c_" in logged
    assert "anthropic" not in logged
    assert "httpx" not in logged
    assert "a word that nobody" not in logged
    assert cast("dict[str, object]", message_requests(api)[0].body)["model"]
