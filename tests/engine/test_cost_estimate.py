from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from support.mcp_session import connect, text_blocks, usage_meta

if TYPE_CHECKING:
    from pathlib import Path

    from mcp_server_claude.simulator import Simulator

pytestmark = pytest.mark.anyio


async def test_a_dry_run_counts_the_input_prices_the_answer_and_generates_nothing(
    upstream: Simulator, tmp_path: Path
) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        table = text_blocks(await session.ask("tea " * 4000, model="opus", max_tokens=1000, dry_run=True))[0]
        assert "| as requested | claude-opus-5-5 |" in table
        assert "| batch=true (within 24 h) | claude-opus-5-5 |" in table
        assert "| model=haiku | claude-haiku-5-5 |" in table
        assert "(1k tokens)" in table
        assert {record.path for record in upstream.requests} == {"/v1/models", "/v1/messages/count_tokens"}
        assert session.ledger_rows() == []


async def test_a_dry_run_counts_the_history_of_its_thread(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        thread = usage_meta(await session.ask("tea " * 4000))["thread"]
        table = text_blocks(await session.ask("And?", thread=thread, dry_run=True))[0]
        assert "| 4.2k |" in table or "| 4.1k |" in table or "| 4.3k |" in table
        assert len(session.ledger_rows()) == 1


async def test_a_dry_run_counts_everything_that_would_be_sent_and_prices_the_searches(
    upstream: Simulator, tmp_path: Path
) -> None:
    schema = {"type": "object", "properties": {"tea": {"type": "string", "description": "Which? " * 200}}}
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        bare, formed, looking, searching = [
            text_blocks(await session.ask("tea", dry_run=True, max_tokens=100, schema=form, tools=tools))[0]
            for form, tools in ((None, []), (schema, []), (None, ["read"]), (None, ["web"]))
        ]
        counted = [cast("dict[str, object]", each.body) for each in upstream.requests if "count" in each.path]
        assert "format" in cast("dict[str, object]", counted[1]["output_config"])
        assert len(cast("list[object]", counted[2]["tools"])) >= 3
        assert "| with 100 tokens of answer |" in bare
        assert "`$?`" not in bare + formed
        assert "Each time Claude looks into files" in looking
        assert "with the longest answer and 8 searches" in searching
        assert "| $4.72 (100 tokens) |" in searching  # what 8 pages and 8 searches bring in may be read ten times


async def test_a_dry_run_rejects_what_the_call_would_reject(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        assert (await session.ask("tea", model="opsu", dry_run=True)).is_error
        assert (await session.ask("tea", thread="t_nothing", dry_run=True)).is_error
