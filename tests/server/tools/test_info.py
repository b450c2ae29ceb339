from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_server_claude import number_formatting
from mcp_server_claude.errors import RequestError
from mcp_server_claude.server.tools.info import parse_since
from mcp_server_claude.simulator import Pace, Simulator
from support.mcp_session import FAKE_KEY, connect, failure_meta, text_blocks

if TYPE_CHECKING:
    from pathlib import Path

    from mcp_server_claude.simulator import ModelList

pytestmark = pytest.mark.anyio


def rows(text: str) -> dict[str, list[str]]:
    """A Markdown table's rows by their first cell."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    assert {len(row) for row in cells} == {len(cells[0])}
    return {row[0]: row[1:] for row in cells[2:]}


# --------------------------------------------------------------------- models


async def test_models_are_listed_with_their_features_and_prices(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url, models_wait_s=60.0) as session:
        text = await session.info(about="models")
    found = rows(text)
    assert found["claude-opus-5-5"][:4] == ["opus", "1M", "128k", "low…max"]
    assert found["claude-opus-5-5"][5] == "4/20"
    assert found["claude-haiku-4-5-20251001"][3] == "-"
    assert "retires" in found["claude-sonnet-4-5-20250929"][-1]
    assert "From the Models API, " in text
    assert not [record for record in upstream.requests if record.path == "/v1/messages"]


@pytest.mark.parametrize("models", ["empty", "missing", "foreign"])
async def test_without_a_list_of_the_api_the_bundled_list_serves_and_any_name_is_accepted(
    models: ModelList, tmp_path: Path
) -> None:
    async with (
        Simulator(pace=Pace(ttft_s=0, tokens_per_s=0), models=models) as upstream,
        connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session,
    ):
        text = await session.info(about="models")
        result = await session.ask("x", model="llama-4-maverick")
    assert "claude-opus-5-5" in rows(text)
    assert "this package's own list" in text
    assert not result.is_error
    assert text_blocks(result)[1].startswith("[llama-4-maverick · ")
    assert "price unknown" in text_blocks(result)[1]


# --------------------------------------------------------------------- usage


async def test_usage_is_added_up_by_model(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        assert "No usage." in await session.info()
        for model in ("opus", "haiku", "haiku"):
            await session.ask("What is tea?", model=model)
        await session.ask("[[sim: status=400]]", model="haiku")
        found = rows(await session.info(about="usage", since="1h"))
        wide = rows(await session.info(about="usage", since="2000-01-01"))
    sent = [record for record in upstream.requests if record.path == "/v1/messages"]
    haiku = sent[1:3]
    assert found.keys() == {"claude-opus-5-5", "claude-haiku-5-5", "total"}
    assert found["claude-opus-5-5"][:2] == ["1", "0"]
    assert found["claude-haiku-5-5"][:2] == ["3", "1"]
    assert found["claude-haiku-5-5"][2] == number_formatting.format_tokens(sum(record.input_tokens for record in haiku))
    assert found["claude-haiku-5-5"][4] == number_formatting.format_tokens(
        sum(record.output_tokens for record in haiku)
    )
    assert found["total"][:2] == ["4", "1"]
    assert wide == found


async def test_an_empty_since_is_rejected(tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data") as session:
        result = await session.client.call_tool("claude_info", {"since": "yesterdayish"})
    assert failure_meta(result)["class"] == "request_error"
    assert "since must be today, a span such as 24h or 7d, or a date" in text_blocks(result)[0]


NOW = datetime(2026, 11, 20, 12, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("since", "moment"),
    [
        ("today", datetime(2026, 11, 20, tzinfo=UTC)),
        ("", datetime(2026, 11, 20, tzinfo=UTC)),
        (" TODAY ", datetime(2026, 11, 20, tzinfo=UTC)),
        ("24h", datetime(2026, 11, 19, 12, 30, tzinfo=UTC)),
        ("7 d", datetime(2026, 11, 13, 12, 30, tzinfo=UTC)),
        ("2W", datetime(2026, 11, 6, 12, 30, tzinfo=UTC)),
        ("2026-11-01", datetime(2026, 11, 1, tzinfo=UTC)),
        ("2026-11-01T10:00", datetime(2026, 11, 1, 10, tzinfo=UTC)),
        ("2026-11-01T10:00:00+02:00", datetime(2026, 11, 1, 8, tzinfo=UTC)),
        ("2026-11-01T10:00:00Z", datetime(2026, 11, 1, 10, tzinfo=UTC)),
    ],
)
def test_since_is_read_in_all_its_forms(since: str, moment: datetime) -> None:
    assert parse_since(since, NOW.timestamp()) == moment


@given(st.text() | st.from_regex(r"[0-9]{1,6} ?[hdw]", fullmatch=True) | st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}"))
def test_since_is_a_time_or_rejected(since: str) -> None:
    with suppress(RequestError):
        assert parse_since(since, NOW.timestamp()).tzinfo is UTC


# --------------------------------------------------------------------- configuration


async def test_the_configuration_shows_each_source_and_no_secret(tmp_path: Path) -> None:
    data = tmp_path / "data"
    url = "http://user:pa55word@127.0.0.1:9"
    async with connect("stdio", "auto", data, base_url=url, model="haiku") as session:
        text = await session.info(about="config")
    found = rows(text)
    assert FAKE_KEY not in text
    assert "pa55word" not in text
    assert found["MCP_CLAUDE_API_KEY"] == ["**********", "MCP_CLAUDE_API_KEY"]
    assert found["MCP_CLAUDE_MODEL"] == ["haiku", "MCP_CLAUDE_MODEL"]
    assert found["MCP_CLAUDE_FOOTER"] == ["True", "default"]
    assert "key: from MCP_CLAUDE_API_KEY, sent to http://" in text
    assert f"ledger: {data}" in text


async def test_an_invalid_setting_is_reported_and_costs_nothing(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("stdio", "legacy", tmp_path / "data", base_url=upstream.url, progress="loud") as session:
        result = await session.ask("x")
        text = await session.info(about="config")
    assert failure_meta(result)["class"] == "configuration_error"
    assert "MCP_CLAUDE_PROGRESS: progress must be 'auto', 'text' or 'status'." in text_blocks(result)[0]
    assert "problem: MCP_CLAUDE_PROGRESS" in text
    assert not [record for record in upstream.requests if record.path == "/v1/messages"]


async def test_the_budget_shows_the_rest_and_the_time_of_its_reset(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url, budget_usd_per_day=1) as session:
        assert (await session.info(about="budget")).startswith("$1.00 of $1.00 is left for today")
        await session.ask("Tell me about tea.", model="opus")
        assert "$1.00 of" not in await session.info(about="budget")
        assert "UTC" in await session.info(about="budget")


async def test_without_a_budget_the_tool_explains_how_to_set_one(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        assert "MCP_CLAUDE_BUDGET_USD_PER_DAY" in await session.info(about="budget")
