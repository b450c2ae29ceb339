"""Answers that are more than a result may hold: the head at once, the whole by address, page by page."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
from mcp.shared.exceptions import MCPError
from mcp.types import ResourceLink, TextContent, TextResourceContents

from mcp_server_claude.settings import CLIENT_RESULT_CHARS, Settings
from mcp_server_claude.simulator import directive
from support.mcp_session import connect, text_blocks, usage_meta

if TYPE_CHECKING:
    from pathlib import Path

    from mcp.types import CallToolResult

    from mcp_server_claude.simulator import Simulator
    from support.mcp_session import McpSession

pytestmark = pytest.mark.anyio
LONG = "\n".join(f"{n}. a line of a very long answer" for n in range(400))
NEXT = re.compile(r"\n\nNEXT: (claude://\S+) \(this was ([\d,]+) to ([\d,]+) of ([\d,]+) characters\)$")


async def read(session: McpSession, address: str) -> str:
    (found,) = (await session.client.read_resource(address)).contents
    assert isinstance(found, TextResourceContents)
    return found.text


def complete(result: CallToolResult) -> str:
    return f"claude://calls/{usage_meta(result)['call_id']}"


def is_cut(result: CallToolResult) -> bool:
    return any(isinstance(block, ResourceLink) for block in result.content)


# --------------------------------------------------------------------- what a result holds


@pytest.mark.parametrize("client", ["claude-code", "cursor", "test"])
async def test_the_setting_holds_for_every_client(upstream: Simulator, tmp_path: Path, client: str) -> None:
    async with connect(
        "memory", "auto", tmp_path / "data", client_name=client, base_url=upstream.url, inline_chars=2000
    ) as session:
        result = await session.ask(directive(text=LONG))
        head, link, note, footer = result.content
        assert isinstance(head, TextContent)
        assert isinstance(link, ResourceLink)
        assert isinstance(note, TextContent)
        assert isinstance(footer, TextContent)
        assert LONG.startswith(head.text)
        assert 1000 < len(head.text) <= 2000
        assert link.uri == complete(result)
        assert note.text.startswith(f"CUT: {len(head.text):,} of {len(LONG):,} characters; {complete(result)} has")
        assert f"{complete(result)}?offset={len(head.text)} continues" in note.text
        assert await read(session, complete(result)) == LONG


@pytest.mark.parametrize(("client", "cuts"), [("claude-code", True), ("cursor", False)])
async def test_without_the_setting_only_clients_that_would_cut_get_the_head(
    upstream: Simulator, tmp_path: Path, client: str, *, cuts: bool
) -> None:
    text = "a long line of text\n" * 25_000
    assert len(text) > CLIENT_RESULT_CHARS
    async with connect("memory", "auto", tmp_path / "data", client_name=client, base_url=upstream.url) as session:
        result = await session.ask(directive(text=text))
        assert is_cut(result) is cuts
        assert len(texts_of(result)[0]) == (CLIENT_RESULT_CHARS if cuts else len(text))


def texts_of(result: CallToolResult) -> list[str]:
    return [block.text for block in result.content if isinstance(block, TextContent)]


def test_the_limit_is_that_of_the_setting_else_of_the_client() -> None:
    assert Settings().inline_limit(client_truncates=False) is None
    assert Settings().inline_limit(client_truncates=True) == CLIENT_RESULT_CHARS
    assert Settings(inline_chars=1000).inline_limit(client_truncates=False) == 1000
    assert Settings(inline_chars=900_000).inline_limit(client_truncates=True) == 900_000


async def test_an_answer_of_exactly_the_limit_is_complete(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url, inline_chars=1000) as session:
        assert text_blocks(await session.ask(directive(text="x" * 1000)))[0] == "x" * 1000
        assert is_cut(await session.ask(directive(text="x" * 1001)))


async def test_json_that_is_too_large_is_linked_and_never_cut(upstream: Simulator, tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    text = json.dumps({"a": "x" * 3000})
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url, inline_chars=1000) as session:
        result = await session.ask(directive(text=text), schema=schema, model="opus")
        first, link, _ = result.content
        assert isinstance(first, TextContent)
        assert isinstance(link, ResourceLink)
        assert result.structured_content is None
        assert "xx" not in first.text
        assert json.loads(await read(session, complete(result))) == {"a": "x" * 3000}


async def test_claude_jobs_returns_as_much_as_the_answer_did(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url, inline_chars=2000) as session:
        prompt = await session.ask(directive(text=LONG))
        found = await session.client.call_tool("claude_jobs", {"id": usage_meta(prompt)["call_id"]})
        assert texts_of(found)[0] == texts_of(prompt)[0]
        assert is_cut(found)


# --------------------------------------------------------------------- page by page


@pytest.mark.parametrize("limit", [100, 1000, len(LONG) - 1, len(LONG), 10**9])
async def test_the_pages_joined_are_the_text_and_each_names_the_next_one(
    upstream: Simulator, tmp_path: Path, limit: int
) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url, inline_chars=1000) as session:
        first = complete(await session.ask(directive(text=LONG)))
        address: str | None = f"{first}?offset=0&limit={limit}"
        pages: list[str] = []
        while address:
            page = await read(session, address)
            more = NEXT.search(page)
            pages.append(page[: more.start()] if more else page)
            address = more[1] if more else None
            if more:
                assert len(pages[-1]) == limit
                assert int(more[3].replace(",", "")) == sum(map(len, pages))
                assert int(more[4].replace(",", "")) == len(LONG)
    assert "".join(pages) == LONG
    assert len(pages) == -(-len(LONG) // limit)


async def test_the_address_in_the_head_continues_where_it_ends(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url, inline_chars=1000) as session:
        result = await session.ask(directive(text=LONG))
        head, note, *_ = texts_of(result)
        found = re.search(r"(claude://\S+\?offset=\d+) continues", note)
        assert found
        assert head + await read(session, found[1]) == LONG


@pytest.mark.parametrize(("query", "part"), [("offset=5", LONG[5:]), ("limit=7", LONG[:7]), ("offset=99999999", "")])
async def test_either_bound_may_be_left_out_and_a_page_beyond_the_end_is_empty(
    upstream: Simulator, tmp_path: Path, query: str, part: str
) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        page = await read(session, f"{complete(await session.ask(directive(text=LONG)))}?{query}")
    assert NEXT.sub("", page) == part


@pytest.mark.parametrize("query", ["offset=-1", "offset=x", "limit=1.5", "limit=%31e9", "offset=٣"])
async def test_an_invalid_number_of_characters_is_rejected(upstream: Simulator, tmp_path: Path, query: str) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        address = complete(await session.ask("What is tea?"))
        with pytest.raises(MCPError, match="must be a number of characters"):
            await read(session, f"{address}?{query}")


async def test_only_the_last_page_of_a_cut_answer_reports_that_it_is_incomplete(
    upstream: Simulator, tmp_path: Path
) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        address = complete(await session.ask(f"Tell me. {directive(tokens=300, stop='max_tokens')}"))
        first, last = await read(session, f"{address}?limit=50"), await read(session, f"{address}?offset=50")
    assert "INCOMPLETE" not in first
    assert NEXT.search(first)
    assert "\n\nINCOMPLETE: it reached max_tokens" in last


async def test_the_address_describes_its_paging(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        found = {each.uri_template for each in (await session.client.list_resource_templates()).resource_templates}
    assert "claude://calls/{id}{?offset,limit}" in found
