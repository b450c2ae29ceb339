from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest
from mcp.types import ResourceLink, TextContent

from mcp_server_claude.server import client_quirks
from mcp_server_claude.server.client_quirks import CLIENT_QUIRKS, ClientTrait, client_traits, detach_delay_s
from mcp_server_claude.simulator import directive
from support.mcp_session import connect, text_blocks, usage_meta

if TYPE_CHECKING:
    from pathlib import Path

    from mcp.types import CallToolResult

    from mcp_server_claude.simulator import Simulator
    from support.mcp_session import McpSession, ProtocolMode, Transport

pytestmark = pytest.mark.anyio

LONG = "a line of an answer\n" * 200
BOTH_VERSIONS = pytest.mark.parametrize("mode", ["auto", "legacy"])
CUT_OFF = directive(text=LONG, fault="eof", at=3000)
"""An answer that is always cut in the middle."""


@pytest.mark.parametrize(
    ("name", "version", "over_http", "traits"),
    [
        ("claude-code", "2.1.232", True, {"shows_latest_progress", "truncates_results"}),
        ("claude-code", "2.1.233", True, {"shows_latest_progress", "truncates_results", "reads_first_text_only"}),
        ("claude-code", "2.1.245", True, {"shows_latest_progress", "truncates_results", "reads_first_text_only"}),
        (
            "claude-code",
            "v2.1.240-beta.1",
            True,
            {"shows_latest_progress", "truncates_results", "reads_first_text_only"},
        ),
        ("claude-code", "2.1.246", True, {"shows_latest_progress", "truncates_results"}),
        ("claude-code", "2.1.332", True, {"shows_latest_progress", "truncates_results"}),
        ("claude-code", "2.1", True, {"shows_latest_progress", "truncates_results"}),
        ("claude-code", "", True, {"shows_latest_progress", "truncates_results"}),
        ("claude-code", "9" * 5000, True, {"shows_latest_progress", "truncates_results"}),
        ("claude-code", "2.1.240", False, {"shows_latest_progress", "truncates_results"}),
        ("claude-ai", "0.1.0", False, {"shows_latest_progress", "ends_calls_at_60_s"}),
        ("Anthropic/ClaudeAI", "1.0.0", True, {"ends_calls_at_60_s"}),
        ("mcp-inspector", "2.12.0", False, {"shows_latest_progress"}),
        ("codex-mcp-client", "0.144.2", False, {"rejects_resource_links"}),
        ("openai-mcp (Codex)", "1.0.0", True, {"rejects_resource_links"}),
        ("cursor-vscode", "1.0.0", False, set[str]()),
        ("", "", False, set[str]()),
    ],
)
def test_a_client_has_the_traits_of_its_name_version_and_transport(
    name: str, version: str, traits: set[ClientTrait], *, over_http: bool
) -> None:
    assert client_traits(name, version, over_http=over_http) == traits


def test_every_quirk_names_its_source() -> None:
    for quirk in CLIENT_QUIRKS:
        assert quirk.source
        assert quirk.name == quirk.name.lower()
    assert all(
        "https://" in source or "as above" in source for source in client_quirks.ARGUMENTS_ADDED_BY_CLIENTS.values()
    )


@pytest.mark.parametrize(
    ("configured", "traits", "delay_s"),
    [
        (None, {"ends_calls_at_60_s"}, 55),
        (None, {"truncates_results"}, 0),
        (0, {"ends_calls_at_60_s"}, 0),
        (20, set[str](), 20),
    ],
)
def test_calls_are_detached_as_configured_else_before_the_client_ends_them(
    configured: float | None, traits: set[ClientTrait], delay_s: float
) -> None:
    assert detach_delay_s(configured, frozenset(traits)) == delay_s


def test_calls_of_a_client_that_accepts_tasks_are_detached_unless_configured_otherwise() -> None:
    assert detach_delay_s(None, frozenset(), accepts_tasks=True) == 55
    assert detach_delay_s(0, frozenset(), accepts_tasks=True) == 0


# --------------------------------------------------------------------- the first text block alone


@BOTH_VERSIONS
async def test_one_text_block_holds_everything_for_a_client_that_reads_only_the_first(
    mode: ProtocolMode, upstream: Simulator, tmp_path: Path
) -> None:
    async with connect(
        "http",
        mode,
        tmp_path / "data",
        client_name="claude-code",
        client_version="2.1.245",
        base_url=upstream.url,
        inline_chars=1000,
        max_retries=0,
    ) as session:
        result = await session.ask(CUT_OFF)
        listed = await session.client.call_tool("claude_jobs", {})
    (text,) = text_blocks(result)
    used = usage_meta(result)
    assert text.startswith(LONG[:500])
    assert f"thread {used['thread']}" in text
    assert "\n\nCUT: 1,000 of " in text
    assert "\n\nINCOMPLETE: " in text
    assert f"claude://calls/{used['call_id']}?offset=1000" in text
    assert "| thread |" in text_blocks(listed)[0]


@pytest.mark.parametrize(
    ("transport", "mode", "version"),
    [("http", "auto", "2.1.332"), ("http", "legacy", "2.1.232"), ("memory", "auto", "2.1.240")],
)
async def test_other_versions_and_transports_get_each_note_in_a_separate_block(
    transport: Transport, mode: ProtocolMode, version: str, upstream: Simulator, tmp_path: Path
) -> None:
    async with connect(
        transport,
        mode,
        tmp_path / "data",
        client_name="claude-code",
        client_version=version,
        base_url=upstream.url,
        inline_chars=1000,
        max_retries=0,
    ) as session:
        result = await session.ask(CUT_OFF)
    texts = [block.text for block in result.content if isinstance(block, TextContent)]
    assert len(texts) == 4
    assert any(isinstance(block, ResourceLink) for block in result.content)


# --------------------------------------------------------------------- no resource links


@BOTH_VERSIONS
async def test_a_client_that_rejects_resource_links_gets_the_address_as_text(
    mode: ProtocolMode, upstream: Simulator, tmp_path: Path
) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    async with connect(
        "memory",
        mode,
        tmp_path / "data",
        client_name="codex-mcp-client",
        client_version="0.144.4",
        base_url=upstream.url,
        inline_chars=1000,
    ) as session:
        cut = await session.ask(directive(text=LONG))
        json_text = await session.ask(directive(text='{"a": "' + "x" * 2000 + '"}'), schema=schema)
        made = await session.ask(f"Run it. {directive(makes='mean.csv')}", tools=["code"], model="claude-sonnet-4-6")
        read_again = await session.client.call_tool("claude_jobs", {"id": usage_meta(made)["call_id"]})
    for result in (cut, json_text):
        assert f"claude://calls/{usage_meta(result)['call_id']}" in "".join(text_blocks(result))
    for result in (made, read_again):
        assert any(_is_file_line(text) for text in text_blocks(result)), text_blocks(result)


def _is_file_line(text: str) -> bool:
    return text.startswith("mean.csv: claude://files/") and text.endswith(" bytes)")


# --------------------------------------------------------------------- an end at 60 s


@BOTH_VERSIONS
async def test_a_call_returns_before_a_client_ends_it_and_continues_in_the_background(
    mode: ProtocolMode, upstream: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_quirks, "DETACH_AFTER_S", 0.2)
    async with connect(
        "memory", mode, tmp_path / "data", client_name="claude-ai", client_version="0.1.0", base_url=upstream.url
    ) as session:
        with anyio.fail_after(60):
            first = await session.ask(f"Tell me. {directive(fault='stall', at=60)}")
            waited = await _job(session, first, wait=3600)
            stopped = await _job(session, first, cancel=True)
    assert text_blocks(first)[-1].startswith("INCOMPLETE: it is still being written.")
    assert text_blocks(waited)[-1].startswith("INCOMPLETE: it is still being written.")
    assert "cancelled" in text_blocks(stopped)[1]


async def _job(session: McpSession, result: CallToolResult, **arguments: object) -> CallToolResult:
    return await session.client.call_tool("claude_jobs", {"id": usage_meta(result)["call_id"], **arguments})


async def test_a_clients_name_is_stored_without_control_characters(upstream: Simulator, tmp_path: Path) -> None:
    name = "evil\x1b[31m\nINFO forged" + "x" * 100
    async with connect("memory", "auto", tmp_path / "data", client_name=name, base_url=upstream.url) as session:
        await session.ask("x")
        (line,) = session.ledger_rows()
    assert str(line["client"]).isprintable()
    assert str(line["client"]).startswith("evil\N{REPLACEMENT CHARACTER}[31m")


@pytest.mark.parametrize("name", ["max_tokens", "max_usd"])
async def test_a_boolean_is_not_a_number(upstream: Simulator, tmp_path: Path, name: str) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        for value in (True, "true"):
            arguments: dict[str, Any] = {name: value}
            (text,) = text_blocks(await session.ask("x", **arguments))
            assert text == f"{name} must be a number."
        await session.ask("x")
        assert len(session.ledger_rows()) == 1


async def test_arguments_that_clients_add_are_dropped_and_a_typo_is_rejected(
    upstream: Simulator, tmp_path: Path
) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        added = await session.ask("x", toolCallId="call_1", wait_for_previous=True)
        typo = await session.ask("x", wait_for="x")
    assert not added.is_error
    assert text_blocks(typo)[0].startswith("There is no parameter named 'wait_for'.")
