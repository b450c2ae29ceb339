from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

import pytest

from mcp_server_claude.anthropic_api.web_allowance import (
    FULL_WEB_ALLOWANCE,
    MAX_WEB_FETCH_TOKENS,
    WEB_SEARCH_RESULT_TOKENS,
)
from mcp_server_claude.call_types import Citation
from mcp_server_claude.engine import citations
from mcp_server_claude.simulator import Pace, Simulator, directive
from support.mcp_session import ProgressUpdate, connect, failure_meta, text_blocks, usage_meta
from support.simulator_requests import message_requests

if TYPE_CHECKING:
    from pathlib import Path

    from mcp_server_claude.simulator import LoggedRequest

pytestmark = pytest.mark.anyio

SONNET = "claude-sonnet-5-5"
SEARCH = f"What is new in tea? {directive(search='on')}"
CITED = "mcp-server-claude/citations"


async def test_a_search_is_cited_below_the_text_and_as_data_and_is_priced(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        updates: list[ProgressUpdate] = []
        result = await session.ask(SEARCH, tools=["web"], updates=updates, style="text", model="haiku")
        answer = text_blocks(result)[0]
        assert result.meta is not None
        (cited,) = cast("list[dict[str, str]]", result.meta[CITED])
        assert answer.endswith(f"\n\nSources:\n\n1. [{cited['title']}]({cited['url']})")
        assert "".join(each.message or "" for each in updates) == answer
        used = usage_meta(result)
        assert used["web_searches"] == 1
        tokens = cast("int", used["input_tokens"]) * 0.1 + cast("int", used["output_tokens"]) * 0.5
        assert used["cost_usd"] == pytest.approx(tokens / 1e6 + 0.01)


async def test_a_fetched_page_is_cited_by_its_address(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        updates: list[ProgressUpdate] = []
        prompt = "What does https://example.com/tea say?"
        result = await session.ask(prompt, tools=["web"], model="haiku", updates=updates, style="status")
        assert result.meta is not None
        (cited,) = cast("list[dict[str, str]]", result.meta[CITED])
        assert cited["url"] == "https://example.com/tea"
        assert text_blocks(result)[0].endswith(f"1. [{cited['title']}](https://example.com/tea)")
        assert any("reading https://" in (each.message or "") for each in updates)
        follow_up = await session.ask("And now?", thread=usage_meta(result)["thread"])
        assert not follow_up.is_error


async def test_the_status_names_the_search_query(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        updates: list[ProgressUpdate] = []
        slowly = f"What is new in tea? {directive(search='on', think=0, tokens=20, ttft=0, pace=40)}"
        await session.ask(slowly, tools=["web"], updates=updates, style="status")
        assert any("searching: " in (each.message or "") for each in updates)


@pytest.mark.parametrize(("model", "version"), [("opus", "20260318"), ("claude-haiku-4-5", "20250305")])
async def test_the_newest_tool_version_of_the_model_is_offered(
    upstream: Simulator, tmp_path: Path, model: str, version: str
) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        await session.ask("Tea?", tools=["web"], model=model)
        body = upstream.requests[-1].body
        assert isinstance(body, dict)
        search, _ = cast("list[dict[str, str]]", body["tools"])
        assert search["type"] == f"web_search_{version}"


def web_tools(record: LoggedRequest) -> dict[str, dict[str, Any]]:
    tools = cast("list[dict[str, Any]]", cast("dict[str, Any]", record.body)["tools"])
    return {tool["name"]: tool for tool in tools}


async def test_what_web_tools_may_bring_in_is_bounded_and_reserved_within_a_limit(
    upstream: Simulator, tmp_path: Path
) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url, cache="off") as session:
        for max_usd in (9.0, 0.2):
            result = await session.ask("Tea?", tools=["web"], model=SONNET, max_tokens=1000, max_usd=max_usd)
        thread = usage_meta(await session.ask("Tea?", tools=["web"], model=SONNET))["thread"]
        await session.ask("Tea?", thread=thread, max_usd=5.0, max_tokens=1000)
        ample, tight, _, unused = session.ledger_rows()
    first, second, *_ = message_requests(upstream)
    assert web_tools(first)["web_fetch"]["max_content_tokens"] == MAX_WEB_FETCH_TOKENS
    assert cast("dict[str, Any]", first.body)["max_tokens"] == cast("dict[str, Any]", second.body)["max_tokens"] == 1000
    # Sonnet 5.5: $2 and $10 a million tokens, 8 searches of a cent each.
    further_tokens = FULL_WEB_ALLOWANCE.max_billed_tokens(first.input_tokens)
    assert ample["held_micros"] == first.input_tokens * 2 + further_tokens * 2 + 80_000 + 1000 * (10 + 10 * 2)
    assert tight["held_micros"] == 200_000
    assert web_tools(second)["web_fetch"]["max_content_tokens"] == 2_000
    assert web_tools(second)["web_search"]["max_uses"] == web_tools(second)["web_fetch"]["max_uses"] == 1
    assert "room for 1 search and 1 page of 2,000 tokens at most" in text_blocks(result)[1]
    assert cast("int", unused["held_micros"]) < 80_000


@pytest.mark.parametrize("cache", ["off", "5m", "1h"])
@pytest.mark.parametrize("budget_usd", [0.2, 1.0, 6.0])
async def test_a_budget_is_not_exceeded_by_what_web_tools_bring_in(
    upstream: Simulator, tmp_path: Path, cache: str, budget_usd: float
) -> None:
    greedy = directive(search=20, fetch=20, page=90_000, results=WEB_SEARCH_RESULT_TOKENS, tokens=3_000)
    fields: dict[str, Any] = {"base_url": upstream.url, "cache": cache, "budget_usd_per_day": budget_usd}
    async with connect("memory", "auto", tmp_path / "data", **fields) as session:
        thread, refused = "", 0
        for number in range(6):
            arguments: dict[str, Any] = {"thread": thread} if thread and number % 2 else {}
            result = await session.ask(f"Tea? {greedy}", tools=["web"], model=SONNET, **arguments)
            refused += bool(result.is_error)
            thread = thread if result.is_error else usage_meta(result)["thread"]
        spent = sum(cast("int", row["cost_micros"]) for row in session.ledger_rows())
    billed = sum((each.usd or Decimal(0) for each in upstream.bill()), Decimal(0))
    assert abs(spent - billed * 1_000_000) <= 6  # each row is rounded
    assert 0 < billed <= Decimal(str(budget_usd))
    assert refused or budget_usd == 6.0


async def test_a_limit_without_room_for_one_search_and_one_page_refuses_the_call(
    upstream: Simulator, tmp_path: Path
) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        result = await session.ask("Tea?", tools=["web"], model=SONNET, max_usd=0.1)
    assert failure_meta(result)["kind"] == "max_usd"
    assert "one search, one page and a short answer may cost" in text_blocks(result)[0]
    assert not message_requests(upstream)


async def test_thinking_of_a_thread_stays_valid_when_a_limit_bounds_its_web_tools(tmp_path: Path) -> None:
    async with (
        Simulator(pace=Pace(ttft_s=0, tokens_per_s=0)) as api,
        connect("memory", "auto", tmp_path / "data", base_url=api.url, model=SONNET) as session,
    ):
        thread = usage_meta(await session.ask("One.", tools=["web"]))["thread"]
        for max_usd in (9.0, 0.4, 0.2, 9.0):
            result = await session.ask("More.", thread=thread, tools=["web"], max_tokens=1000, max_usd=max_usd)
            assert not result.is_error
        statuses = [record.status for record in message_requests(api)]
    assert statuses == [200] * 5


async def test_a_stream_that_breaks_after_a_search_is_incomplete_and_not_continued(
    upstream: Simulator, tmp_path: Path
) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        result = await session.ask(f"Tea? {directive(search='on', fault='drop')}", tools=["web"])
        assert text_blocks(result)[-1].startswith("INCOMPLETE:")
        assert len([record for record in upstream.requests if record.path == "/v1/messages"]) == 1


async def test_a_follow_up_keeps_the_blocks_of_the_search_and_offers_the_tool_again(
    upstream: Simulator, tmp_path: Path
) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        first = await session.ask(SEARCH, tools=["web"])
        await session.ask("And now?", thread=usage_meta(first)["thread"])
        body = upstream.requests[-1].body
        assert isinstance(body, dict)
        messages = cast("list[dict[str, list[dict[str, object]]]]", body["messages"])
        kinds = [block["type"] for block in messages[1]["content"]]
        assert "server_tool_use" in kinds
        assert "web_search_tool_result" in kinds
        assert "tools" in body


async def test_an_unknown_tool_is_rejected(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        result = await session.ask("Tea?", tools=["bash"])
        assert failure_meta(result)["class"] == "request_error"
        assert "web" in text_blocks(result)[0]


def test_a_page_is_listed_once_and_its_title_cannot_end_its_link() -> None:
    cited = (Citation(url="https://a.example/x(1)", title="A [b](c)\nd"), Citation(url="https://a.example/x(1)"))
    assert citations.sources_markdown(cited) == "\n\nSources:\n\n1. [A (b)(c) d](https://a.example/x%281%29)"


def test_only_pages_of_the_web_are_cited() -> None:
    block = {"type": "text", "text": "x", "citations": [{"url": "javascript:alert(1)"}, {"document_index": 0}]}
    assert citations.extract_citations([block]) == ()
