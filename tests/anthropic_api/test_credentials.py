from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mcp_server_claude.anthropic_api.client import ClaudeClient
from mcp_server_claude.anthropic_api.credentials import ANTHROPIC_URL, API_VERSION
from mcp_server_claude.anthropic_api.message_stream import MessageStream
from mcp_server_claude.anthropic_api.platforms import find_credential
from mcp_server_claude.errors import ConfigurationError
from mcp_server_claude.settings import Settings
from mcp_server_claude.simulator import Pace, Simulator
from support.recorded_streams import REQUEST_BODY

if TYPE_CHECKING:
    from mcp_server_claude.simulator import LoggedRequest

pytestmark = pytest.mark.anyio

OURS, THEIRS = "sk-ant-ours", "sk-ant-theirs"


def environ(patch: pytest.MonkeyPatch, **values: str) -> Settings:
    for name, value in values.items():
        patch.setenv(name, value)
    return Settings.load()


async def sent_request(settings: Settings, upstream: Simulator) -> LoggedRequest:
    """The request as the upstream saw it."""
    claude = ClaudeClient(settings)
    try:
        await claude.stream_message({**REQUEST_BODY, "model": "claude-sonnet-5-5"}, MessageStream(lambda _: None))
    finally:
        await claude.close()
    return upstream.requests[-1]


# --------------------------------------------------------------------- which key


def test_the_own_key_goes_only_to_the_configured_address(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = environ(
        monkeypatch, MCP_CLAUDE_API_KEY=OURS, ANTHROPIC_API_KEY=THEIRS, ANTHROPIC_BASE_URL="https://gateway.example"
    )
    found = find_credential(settings)
    assert (found.source, found.own_key, found.base_url) == ("MCP_CLAUDE_API_KEY", True, ANTHROPIC_URL)
    assert found.key is not None
    assert found.key.get_secret_value() == "sk-ant-ours"
    monkeypatch.setenv("MCP_CLAUDE_BASE_URL", "https://mine.example/")
    assert find_credential(Settings.load()).base_url == "https://mine.example"


def test_a_key_of_the_client_goes_to_the_address_of_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    found = find_credential(
        environ(monkeypatch, ANTHROPIC_API_KEY=THEIRS, ANTHROPIC_BASE_URL="https://gateway.example")
    )
    assert (found.source, found.own_key, found.base_url) == ("ANTHROPIC_API_KEY", False, "https://gateway.example")
    monkeypatch.setenv("MCP_CLAUDE_BASE_URL", "https://mine.example")
    assert find_credential(Settings.load()).base_url == "https://mine.example"


@pytest.mark.parametrize("name", ["ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_PROFILE"])
def test_without_a_key_the_credential_chain_of_the_sdk_is_used_and_named(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = find_credential(environ(monkeypatch, **{name: "something"}))
    assert (found.source, found.key) == (name, None)


@pytest.mark.parametrize(
    "key",
    [
        *("", " ", "${ANTHROPIC_API_KEY}", "<your key>", "your-key-here", "sk-ant-..."),
        *("$ANTHROPIC_API_KEY", "%ANTHROPIC_API_KEY%", "{env:ANTHROPIC_API_KEY}", "env:KEY", "$(pass show key)"),
        *("op://vault/anthropic/key", "{{ api_key }}"),
    ],
)
@pytest.mark.parametrize("name", ["MCP_CLAUDE_API_KEY", "ANTHROPIC_API_KEY"])
def test_a_placeholder_is_reported_and_not_used_as_a_key(name: str, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError) as raised:
        find_credential(environ(monkeypatch, **{name: key}))
    assert raised.value.kind == "no_key"
    assert "MCP_CLAUDE_API_KEY" in str(raised.value)
    assert "ANTHROPIC_API_KEY" in key or not key.strip() or key not in str(raised.value)
    if key.strip():
        assert f"{name} contains a placeholder" in str(raised.value)


@pytest.mark.parametrize(
    "key",
    [
        *(" sk-ant-ours\n", '"sk-ant-ours"', "'sk-ant-ours' ", "`sk-ant-ours`", "“sk-ant-ours”", '"sk-ant-ours",'),
        *("sk-ant-ours;", "export ANTHROPIC_API_KEY='sk-ant-ours'", "MCP_CLAUDE_API_KEY=sk-ant-ours\r\n"),
    ],
)
@pytest.mark.parametrize("name", ["MCP_CLAUDE_API_KEY", "ANTHROPIC_API_KEY"])
def test_what_surrounds_a_copied_key_is_removed(name: str, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = find_credential(environ(monkeypatch, **{name: key}))
    assert found.key is not None
    assert found.key.get_secret_value() == OURS


@pytest.mark.parametrize("key", ["sk-ant-a\nsk-ant-b", "sk-ant-a b", "sk-ant-\x00", "sk-ant-ключ", "sk-ant-a\u200b"])
@pytest.mark.parametrize("name", ["MCP_CLAUDE_API_KEY", "ANTHROPIC_API_KEY"])
def test_a_key_that_no_header_can_carry_is_reported_without_the_key(
    name: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(api_key=key) if "\x00" in key else environ(monkeypatch, **{name: key})  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigurationError) as raised:
        find_credential(settings)
    assert raised.value.kind == "malformed_key"
    assert "sk-ant" not in str(raised.value)


@pytest.mark.parametrize("url", ["example.com", "ftp://example.com", "https://", "https://exa mple.com", "file:///x"])
def test_an_invalid_base_url_is_reported(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = environ(monkeypatch, MCP_CLAUDE_API_KEY=OURS, MCP_CLAUDE_BASE_URL=url)
    with pytest.raises(ConfigurationError, match="MCP_CLAUDE_BASE_URL is not a URL"):
        find_credential(settings)


def test_an_unusual_key_is_a_warning_only_where_a_key_of_anthropic_is_expected() -> None:
    assert "sk-ant-" in find_credential(Settings.model_validate({"api_key": "hunter2"})).warning
    assert not find_credential(Settings.model_validate({"api_key": OURS})).warning
    assert not find_credential(Settings.model_validate({"api_key": "hunter2", "base_url": "http://gateway"})).warning


def test_a_credential_prints_without_its_key() -> None:
    assert OURS not in repr(find_credential(Settings.model_validate({"api_key": OURS})))


# --------------------------------------------------------------------- what is sent


@pytest.mark.parametrize(
    "headers", ["Authorization: Bearer {}", "authorization: {}", "x-api-key: {}", "anthropic-version: {}"]
)
@pytest.mark.parametrize("ours", ["authorization", "x-api-key"])
async def test_the_own_key_travels_alone_whatever_the_environment_holds(
    ours: str, headers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Claude Code hands its whole environment to a stdio server, its gateway's headers included."""
    async with Simulator(pace=Pace(ttft_s=0, tokens_per_s=0), key=OURS) as upstream:
        settings = environ(
            monkeypatch,
            MCP_CLAUDE_API_KEY=OURS,
            MCP_CLAUDE_BASE_URL=upstream.url,
            ANTHROPIC_API_KEY=THEIRS,
            ANTHROPIC_AUTH_TOKEN="sk-ant-token",
            ANTHROPIC_BASE_URL="http://gateway.invalid",
            ANTHROPIC_CUSTOM_HEADERS=f"anthropic-beta: theirs\n{headers.format(THEIRS)}",
            MCP_CLAUDE_AUTH_HEADER=ours,
        )
        request = await sent_request(settings, upstream)
    assert (request.status, request.credential_header) == (200, "bearer" if ours == "authorization" else ours)
    assert request.headers["anthropic-version"] == API_VERSION
    assert "theirs" not in request.headers.get("anthropic-beta", "")


async def test_a_gateway_may_want_its_key_in_the_other_header(upstream: Simulator) -> None:
    fields = {"api_key": OURS, "base_url": upstream.url, "auth_header": "x-api-key"}
    assert (await sent_request(Settings.model_validate(fields), upstream)).credential_header == "x-api-key"


async def test_the_clients_own_headers_go_with_the_clients_own_key(
    upstream: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = environ(
        monkeypatch,
        ANTHROPIC_API_KEY=THEIRS,
        ANTHROPIC_BASE_URL=upstream.url,
        ANTHROPIC_CUSTOM_HEADERS="anthropic-beta: theirs",
    )
    assert "theirs" in (await sent_request(settings, upstream)).headers["anthropic-beta"]


async def test_the_token_of_the_sdk_is_used_without_a_key(upstream: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = environ(monkeypatch, ANTHROPIC_AUTH_TOKEN="sk-ant-token", ANTHROPIC_BASE_URL=upstream.url)
    assert (await sent_request(settings, upstream)).credential_header == "bearer"


async def test_an_invalid_header_is_reported_without_its_value(
    upstream: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = environ(
        monkeypatch,
        ANTHROPIC_API_KEY=THEIRS,
        ANTHROPIC_BASE_URL=upstream.url,
        ANTHROPIC_CUSTOM_HEADERS="X-Secret: hunter2\rhunter2",
    )
    claude = ClaudeClient(settings)
    with pytest.raises(ConfigurationError, match="characters that HTTP does not allow") as raised:
        await claude.stream_message(REQUEST_BODY, MessageStream(lambda _: None))
    await claude.close()
    assert "hunter2" not in str(raised.value)


async def test_the_same_error_is_raised_each_time_and_nothing_is_sent() -> None:
    claude = ClaudeClient(Settings())
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="There is no API key"):
            await claude.get_client()
    await claude.close()
