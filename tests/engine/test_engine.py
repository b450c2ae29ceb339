"""Invariants of a call: every request has one ledger entry, and the account adds up."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest
from pydantic import SecretStr

from mcp_server_claude.call_types import Call, Limits, Waiting
from mcp_server_claude.engine import stop_reasons
from mcp_server_claude.errors import CallError
from mcp_server_claude.services.lazy_services import Services
from mcp_server_claude.settings import Settings
from mcp_server_claude.simulator import Pace, Simulator, directive
from mcp_server_claude.store.call_journal import find_call
from support.mcp_session import McpSession, connect, failure_meta, text_blocks, usage_meta
from support.simulator_requests import message_requests

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from mcp_server_claude.call_types import CallEvent

pytestmark = pytest.mark.anyio

COUNTS = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens")


@pytest.fixture
async def session(upstream: Simulator, tmp_path: Path) -> AsyncIterator[McpSession]:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        yield session


async def test_an_answered_request_has_one_ledger_entry_with_its_usage(
    session: McpSession, upstream: Simulator
) -> None:
    result = await session.ask("What is tea? [[sim: think=30]]", model="opus")
    (line,), (request,), used = session.ledger_rows(), message_requests(upstream), usage_meta(result)
    assert (line["state"], line["end"], line["status"], line["failure"]) == ("closed", "complete", 200, None)
    assert line["request_id"] == request.request_id
    assert line["call_id"] == used["call_id"]
    assert {name: line[name] for name in COUNTS} == {name: getattr(request, name) for name in COUNTS}
    assert {name: line[name] for name in COUNTS} == {name: used[name] for name in COUNTS}
    assert line["cost_micros"] == round(cast("float", used["cost_usd"]) * 1_000_000)
    assert (line["tool"], line["source"], line["client"], line["host"]) == ("claude_ask", "mcp", "test", "127.0.0.1")


async def test_the_ledger_holds_no_text(session: McpSession) -> None:
    await session.ask("zebra zebra zebra", system="xylophone")
    assert "zebra" not in str(session.ledger_rows())
    assert "xylophone" not in str(session.ledger_rows())


async def test_a_rejected_request_has_an_entry_without_cost(session: McpSession, upstream: Simulator) -> None:
    result = await session.ask(directive(status=400))
    (line,) = session.ledger_rows()
    assert (line["state"], line["end"], line["status"], line["failure"]) == (
        "closed", "failed", 400, "invalid_request",
    )  # fmt: skip
    assert line["request_id"] == message_requests(upstream)[0].request_id == failure_meta(result)["request_id"]
    assert not line["cost_micros"]
    assert usage_meta(result)["output_tokens"] == 0


async def test_a_request_that_is_not_sent_has_no_ledger_entry(session: McpSession) -> None:
    await session.ask("x")
    wrong_ones: list[dict[str, Any]] = [{"model": "opsu"}, {"effort": "hard"}, {"max_tokens": 10**9}]
    for wrong in wrong_ones:
        assert (await session.ask("x", **wrong)).is_error
    assert len(session.ledger_rows()) == 1


async def test_there_are_as_many_entries_as_requests_whatever_their_outcome(
    session: McpSession, upstream: Simulator
) -> None:
    prompts = [
        "a", "b [[sim: stop=max_tokens]]", "c [[sim: stop=refusal]]", "d [[sim: status=404]]",
        "e [[sim: stop=tool_use]]", "f [[sim: search=on]]", "g [[sim: think=20 tokens=500]]", "h [[sim: fault=html]]",
    ]  # fmt: skip
    async with anyio.create_task_group() as tasks:
        for prompt in prompts:
            tasks.start_soon(session.ask, prompt)
    lines = session.ledger_rows()
    by_id = {line["request_id"]: line for line in lines if line["request_id"]}
    assert len(lines) == len(message_requests(upstream))
    assert {line["state"] for line in lines} == {"closed"}
    for request in message_requests(upstream):
        if request.end == "complete" and request.stop_reason != "refusal":
            assert by_id[request.request_id]["output_tokens"] == request.output_tokens


async def test_an_unknown_price_is_null_and_never_zero(tmp_path: Path) -> None:
    async with (
        Simulator(pace=Pace(ttft_s=0, tokens_per_s=0), models="missing") as upstream,
        connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session,
    ):
        result = await session.ask("x", model="mistral-large")
        usage = await session.info()
    assert usage_meta(result)["cost_usd"] is None
    assert usage_meta(result)["pricing_as_of"] is None
    assert session.ledger_rows()[0]["cost_micros"] is None
    assert "price unknown" in text_blocks(result)[1]
    assert "without a known price" in usage


@pytest.mark.parametrize("today", ["2026-11-29", "2026-11-30"])
async def test_a_model_answers_with_a_note_until_its_last_day_and_is_refused_from_then_on(
    tmp_path: Path, today: str
) -> None:
    async with (
        Simulator(pace=Pace(ttft_s=0, tokens_per_s=0), today=today) as upstream,
        connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session,
    ):
        result = await session.ask("Tea?", model="claude-sonnet-4-5")
        default = await session.ask("Tea?")
        listed = await session.info(about="models")
        asked = [cast("dict[str, Any]", each.body)["model"] for each in message_requests(upstream)]
    assert usage_meta(default)["model"] == "claude-sonnet-5-5"
    if today == "2026-11-29":
        assert not result.is_error
        assert "claude-sonnet-4-5-20250929 is deprecated and retires 2026-11-30." in text_blocks(result)[1]
        assert "claude-sonnet-4-5-20250929" in listed
    else:
        assert failure_meta(result)["kind"] == "retired_model"
        assert "was retired 2026-11-30. Its successor is claude-sonnet-5-5." in text_blocks(result)[0]
        assert asked == ["claude-sonnet-5-5"]
        assert "claude-sonnet-4-5-20250929" not in listed


async def test_a_model_that_retired_after_the_list_was_built_is_named_with_its_successor(tmp_path: Path) -> None:
    async with (
        Simulator(pace=Pace(ttft_s=0, tokens_per_s=0), models="missing") as upstream,
        connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session,
    ):
        not_found = directive(status=404, type="not_found_error")
        result = await session.ask(f"x {not_found}", model="claude-opus-4-5")
    assert failure_meta(result)["kind"] == "not_found"
    assert re.search(
        r"claude-opus-4-5-20251101 (is deprecated and retires|was retired) 2027-01-22\.", text_blocks(result)[0]
    )
    assert "Its successor is claude-opus-5-5." in text_blocks(result)[0]


async def test_a_ledger_that_cannot_be_stored_on_disk_is_reported_and_stops_no_call(
    upstream: Simulator, tmp_path: Path
) -> None:
    (tmp_path / "taken").write_text("a file where the directory should be")
    async with connect("memory", "auto", tmp_path / "taken", base_url=upstream.url) as session:
        answer, footer = text_blocks(await session.ask("x"))
        usage = await session.info()
    assert answer == message_requests(upstream)[0].text
    assert "The ledger is kept in memory" in footer
    assert "claude-sonnet-5-5" in usage


async def test_the_configured_model_answers_when_none_is_named(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url, model="haiku") as session:
        assert usage_meta(await session.ask("x"))["model"] == "claude-haiku-5-5"
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url, model="no-such-model") as session:
        result = await session.ask("x")
    assert failure_meta(result)["kind"] == "unknown_model"
    assert "(the default, MCP_CLAUDE_MODEL)" in text_blocks(result)[0]


async def test_an_exact_id_an_alias_and_a_family_all_name_a_model(session: McpSession) -> None:
    for name, model in (
        ("claude-opus-4-5-20251101", "claude-opus-4-5-20251101"),
        ("claude-opus-4-5", "claude-opus-4-5-20251101"),
        ("Opus", "claude-opus-5-5"),
        (" sonnet ", "claude-sonnet-5-5"),
    ):
        assert usage_meta(await session.ask("x", model=name))["model"] == model


async def test_an_answer_without_text_is_an_error_with_its_reason(session: McpSession) -> None:
    result = await session.ask("x [[sim: think=40]]", max_tokens=10)
    assert failure_meta(result)["kind"] == "max_tokens"
    assert "used for thinking" in text_blocks(result)[0]
    assert usage_meta(result)["thinking_tokens"]
    assert usage_meta(result)["complete"] is False


@pytest.mark.parametrize(
    "reason", ["max_tokens", "model_context_window_exceeded", "tool_use", "pause_turn", "novel", None]
)
def test_each_stop_reason_of_an_incomplete_answer_has_a_hint(reason: str | None) -> None:
    assert stop_reasons.incomplete_reason(stop_reasons.AnswerEnd(reason=reason, max_tokens=1000)).endswith((".", ")."))


@pytest.mark.parametrize("reason", ["end_turn", "stop_sequence"])
def test_a_complete_answer_has_no_hint(reason: str) -> None:
    assert stop_reasons.incomplete_reason(stop_reasons.AnswerEnd(reason=reason, max_tokens=1000)) == ""


def test_a_limit_below_max_tokens_is_reported_by_the_tokens_received() -> None:
    end = stop_reasons.AnswerEnd(reason="max_tokens", max_tokens=128_000, output_tokens=16_000)
    sentence = stop_reasons.incomplete_reason(end)
    assert sentence.startswith("it reached max_tokens at 16k output tokens, although 128k were allowed")
    assert "larger max_tokens" not in sentence


def test_a_larger_max_tokens_is_suggested_only_below_the_limit_of_the_model() -> None:
    end = stop_reasons.AnswerEnd(reason="max_tokens", max_tokens=64_000, output_tokens=64_000, thread="t_1")
    assert "or again with a larger max_tokens" in stop_reasons.incomplete_reason(end)
    assert "larger max_tokens" not in stop_reasons.incomplete_reason(replace(end, model_max_tokens=64_000))
    assert "larger max_tokens" not in stop_reasons.no_text_message(replace(end, model_max_tokens=64_000))


@pytest.mark.parametrize(
    ("category", "billed"),
    [(None, False), ("cyber", False), ("general_harms", False), ("bio", True), ("frontier_llm", True)],
)
async def test_a_refusal_before_any_output_is_billed_by_its_category(
    session: McpSession,
    category: str | None,
    billed: bool,  # noqa: FBT001
) -> None:
    named = {"category": category} if category else {}
    result = await session.ask(directive(tokens=0, stop="refusal", **named))
    (entry,) = session.ledger_rows()
    assert failure_meta(result)["kind"] == "refusal"
    assert (cast("float", usage_meta(result)["cost_usd"]) > 0, cast("int", entry["cost_micros"]) > 0) == (
        billed,
        billed,
    )


async def test_a_refusal_after_thinking_is_billed(session: McpSession) -> None:
    result = await session.ask(directive(think=30, tokens=0, stop="refusal"), model="opus")
    assert failure_meta(result)["kind"] == "refusal"
    assert cast("float", usage_meta(result)["cost_usd"]) > 0


async def test_a_bug_in_the_middle_of_a_call_is_an_internal_error_with_usage_and_a_failed_journal_row(
    upstream: Simulator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def broken_listener(event: CallEvent) -> None:
        match event:
            case Waiting():
                raise LookupError("a bug")
            case _:
                pass

    settings = Settings(api_key=SecretStr("test-key-0000"), base_url=upstream.url, data_dir=tmp_path / "data")
    async with Services.lifespan(settings) as services:
        calls = (await services.open()).calls
        call = Call(prompt=f"What is tea? {directive(status=529, times=1)}")
        with pytest.raises(CallError) as raised:
            await calls.run_call(call, broken_listener)
        error = raised.value
        assert (error.kind, error.class_name) == ("internal", "configuration_error")
        assert call.id in str(error)
        assert "a bug" not in str(error)
        assert error.usage is not None
        assert (error.usage.call_id, error.usage.attempts, error.usage.complete) == (call.id, 1, False)
        store = (await services.open()).store
        journaled = await store.write(find_call, call.id, "local")
    assert journaled is not None
    assert (journaled.end, journaled.failure) == ("failed", error.as_json())
    assert any(record.exc_info and record.exc_info[0] is LookupError for record in caplog.records)


@pytest.mark.parametrize(
    ("broken", "bug"),
    [
        ({"model": 7}, AttributeError),  # found by the engine while it prepares the call
        ({"limits": Limits(concurrent=cast("int", "two"))}, TypeError),  # found by the rate limiter, before the engine
    ],
)
async def test_a_bug_before_the_first_request_is_an_internal_error_with_a_failed_journal_row(
    upstream: Simulator,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    broken: dict[str, Any],
    bug: type[Exception],
) -> None:
    settings = Settings(api_key=SecretStr("test-key-0000"), base_url=upstream.url, data_dir=tmp_path / "data")
    async with Services.lifespan(settings) as services:
        calls = (await services.open()).calls
        call = Call(prompt="What is tea?", **broken)
        with pytest.raises(CallError) as raised:
            await calls.run_call(call, lambda _: None)
        error = raised.value
        assert (error.kind, error.class_name, error.usage and error.usage.call_id) == (
            "internal",
            "configuration_error",
            call.id,
        )
        assert call.id in str(error)
        store = (await services.open()).store
        journaled = await store.write(find_call, call.id, "local")
    assert journaled is not None
    assert (journaled.end, journaled.failure, journaled.incomplete) == ("failed", error.as_json(), str(error))
    assert any(record.exc_info and record.exc_info[0] is bug for record in caplog.records)
    assert not message_requests(upstream)


async def test_a_ledger_that_the_operator_must_mend_is_no_temporary_error_where_there_is_a_budget(
    upstream: Simulator, tmp_path: Path
) -> None:
    async with connect("memory", "auto", tmp_path, base_url=upstream.url, budget_usd_per_day=1) as session:
        assert not (await session.ask("Tea?")).is_error
        with closing(sqlite3.connect(tmp_path / "store.db")) as connection:
            connection.execute("alter table entry rename to gone")
        refused = await session.ask("And coffee?")
    assert (failure_meta(refused)["class"], failure_meta(refused)["kind"]) == ("configuration_error", "store")
    assert "A budget is set, and the ledger could not be written" in text_blocks(refused)[0]
    assert len(message_requests(upstream)) == 1
