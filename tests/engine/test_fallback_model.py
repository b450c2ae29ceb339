"""The fallback where the requested model is overloaded or declines, and how a refusal is reported without one."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest

from mcp_server_claude import pricing
from mcp_server_claude.anthropic_api.models import ModelCatalog, bundled_catalog
from mcp_server_claude.call_types import TokenCounts, Usage
from mcp_server_claude.cli import doctor
from mcp_server_claude.engine.fallback_model import MAX_OVERLOADS_BEFORE_FALLBACK
from mcp_server_claude.engine.retry_policy import FailureState, RetryPolicy, backoff_delay
from mcp_server_claude.settings import Settings
from mcp_server_claude.simulator import Pace, Simulator, directive
from support.cloud_upstream import CannedResponse, cloud_upstream
from support.mcp_session import STYLE_META, McpSession, ProgressUpdate, connect, failure_meta, text_blocks, usage_meta
from support.recorded_streams import message_events, sse_bytes
from support.simulator_requests import message_requests

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from mcp.types import CallToolResult


pytestmark = pytest.mark.anyio
OPUS, SONNET, HAIKU, OLD = "claude-opus-5-5", "claude-sonnet-5-5", "claude-haiku-5-5", "claude-haiku-4-5-20251001"
BUSY = directive(status=529, retry_after=0, times=MAX_OVERLOADS_BEFORE_FALLBACK)
DECLINED = directive(tokens=300, stop="refusal", times=1)
COUNTS = tuple(TokenCounts().counts())
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


def at(upstream: Simulator, tmp_path: Path, **fields: Any) -> AbstractAsyncContextManager[McpSession]:
    given: dict[str, Any] = {"base_url": upstream.url, "model": "opus", "fallback_model": "sonnet"} | fields
    return connect("memory", "auto", tmp_path / "data", **given)


def models(upstream: Simulator) -> list[object]:
    return [cast("dict[str, object]", record.body)["model"] for record in message_requests(upstream)]


def shares(result: CallToolResult) -> list[dict[str, Any]]:
    return cast("list[dict[str, Any]]", usage_meta(result)["by_model"])


# --------------------------------------------------------------------- overload


async def test_an_overloaded_model_is_tried_twice_and_then_the_fallback(upstream: Simulator, tmp_path: Path) -> None:
    async with at(upstream, tmp_path) as session:
        result = await session.ask(f"Tea? {BUSY}")
        lines = session.ledger_rows()
    assert models(upstream) == [OPUS, OPUS, SONNET]
    assert text_blocks(result)[0] == message_requests(upstream)[-1].text
    used = usage_meta(result)
    assert (used["model"], used["fallback_from"], used["complete"]) == (SONNET, OPUS, True)
    assert used["attempts"] == 3
    assert f"answered by {SONNET}, {OPUS} was overloaded" in text_blocks(result)[1]
    assert [line["model"] for line in lines] == [OPUS, OPUS, SONNET]
    assert [line["end"] for line in lines] == ["failed", "failed", "complete"]


async def test_an_overload_in_mid_stream_withdraws_the_text_so_far(tmp_path: Path) -> None:
    overloaded = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    busy = json.dumps(overloaded).encode()
    updates: list[ProgressUpdate] = []
    async with (
        cloud_upstream(
            CannedResponse("/v1/messages", sse_bytes(*message_events("Some ", "words")[:4], overloaded), times=1),
            CannedResponse("/v1/messages", busy, "application/json", 529, times=1),
            CannedResponse("/v1/messages", sse_bytes(*message_events("All of ", "it."))),
        ) as cloud,
        connect("memory", "auto", tmp_path / "data", base_url=cloud.url, model=OPUS, fallback_model=SONNET) as session,
    ):
        result = await session.ask("Tea?", updates=updates, style="text")
    bodies = [request.body for request in cloud.requests_to("/v1/messages")]
    assert [body["model"] for body in bodies] == [OPUS, OPUS, SONNET]
    assert [len(cast("list[object]", body["messages"])) for body in bodies] == [1, 3, 1]  # the second went on
    assert text_blocks(result)[0] == "All of it." == "".join(each.message or "" for each in updates)
    assert usage_meta(result)["resumed"] is False


@pytest.mark.parametrize("retry_after_s", [30, 3600])
async def test_the_fallback_replaces_a_long_wait(upstream: Simulator, tmp_path: Path, retry_after_s: int) -> None:
    async with at(upstream, tmp_path) as session:
        with anyio.fail_after(20):
            result = await session.ask(f"Tea? {directive(status=529, retry_after=retry_after_s, times=1)}")
    assert models(upstream) == [OPUS, SONNET]
    assert usage_meta(result)["complete"] is True


async def test_without_a_fallback_an_overload_is_retried(upstream: Simulator, tmp_path: Path) -> None:
    async with at(upstream, tmp_path, fallback_model="") as session:
        result = await session.ask(f"Tea? {directive(status=529, retry_after=0, times=4)}")
    assert models(upstream) == [OPUS] * 5
    assert (usage_meta(result)["fallback_from"], usage_meta(result)["by_model"]) == (None, [])


@pytest.mark.parametrize("fault", ["status=500 retry-after=0", "status=429 retry-after=0", "fault=eof"])
async def test_other_errors_are_retried_with_the_requested_model(
    upstream: Simulator, tmp_path: Path, fault: str
) -> None:
    async with at(upstream, tmp_path) as session:
        result = await session.ask(f"Tea? [[sim: {fault} times=3]]")
    assert set(models(upstream)) == {OPUS}
    assert usage_meta(result)["fallback_from"] is None
    assert usage_meta(result)["complete"] is True


def test_an_overload_is_given_up_early_only_where_configured() -> None:
    def failure_state(failures: int, *, kind: str = "overloaded", retry_after_s: float | None = None) -> FailureState:
        return FailureState(
            kind=kind, retryable=True, failures=failures, failing_for_s=0, elapsed_s=0, retry_after_s=retry_after_s
        )

    short, long = RetryPolicy(max_overloads=2), RetryPolicy()
    assert backoff_delay(short, failure_state(1), 0.5) is not None
    assert backoff_delay(short, failure_state(2), 0.5) is None
    assert backoff_delay(short, failure_state(1, retry_after_s=60), 0.5) is None
    assert backoff_delay(short, failure_state(7, kind="api_error"), 0.0) is not None
    assert backoff_delay(long, failure_state(7), 0.0) is not None
    assert backoff_delay(long, failure_state(1, retry_after_s=60), 0.0) is not None


async def test_an_overload_of_both_models_is_reported_for_both(upstream: Simulator, tmp_path: Path) -> None:
    async with at(upstream, tmp_path, max_retries=1) as session:
        result = await session.ask(f"Tea? {directive(status=529, retry_after=0)}")
    assert models(upstream) == [OPUS, OPUS, SONNET, SONNET]
    assert (failure_meta(result)["kind"], failure_meta(result)["retryable"]) == ("overloaded", True)
    assert f"{SONNET} was asked because {OPUS} was overloaded." in text_blocks(result)[0]
    assert usage_meta(result)["attempts"] == 4


async def test_the_fallback_does_not_wait_for_the_overloaded_model(upstream: Simulator, tmp_path: Path) -> None:
    """What the API asks to wait for one model holds up those who ask for it, not those who have given it up."""
    async with at(upstream, tmp_path) as session:
        with anyio.fail_after(20):
            first = await session.ask(f"Tea? {directive(status=529, retry_after=50, times=1)}")
    assert usage_meta(first)["model"] == SONNET


# --------------------------------------------------------------------- refusal


async def test_a_refusal_of_one_model_is_sent_to_the_fallback(upstream: Simulator, tmp_path: Path) -> None:
    async with at(upstream, tmp_path) as session:
        result = await session.ask(f"Tea? {DECLINED}")
        lines = session.ledger_rows()
    assert models(upstream) == [OPUS, SONNET]
    assert text_blocks(result)[0] == message_requests(upstream)[1].text
    assert re.search(rf"answered by {SONNET} \(\$0\.\d+\), {OPUS} \(\$0\.\d+\) declined", text_blocks(result)[1])
    assert [line["stop_reason"] for line in lines] == ["refusal", "end_turn"]


async def test_both_prices_are_in_the_usage(upstream: Simulator, tmp_path: Path) -> None:
    async with at(upstream, tmp_path) as session:
        result = await session.ask(f"Tea? {DECLINED}")
        lines = session.ledger_rows()
    used, parts = usage_meta(result), shares(result)
    assert [(part["model"], part["requests"]) for part in parts] == [(OPUS, 1), (SONNET, 1)]
    for part, line in zip(parts, lines, strict=True):
        assert round(part["cost_usd"] * 1e6) == line["cost_micros"]
        assert part["cost_usd"] > 0
        assert {name: part[name] for name in COUNTS} == {name: line[name] for name in COUNTS}
    assert used["cost_usd"] == pytest.approx(sum(part["cost_usd"] for part in parts))
    for name in COUNTS:
        assert used[name] == sum(part[name] for part in parts)


async def test_a_usage_survives_serialisation(upstream: Simulator, tmp_path: Path) -> None:
    async with at(upstream, tmp_path) as session:
        result = await session.ask(f"Tea? {DECLINED}")
        found = await session.client.call_tool("claude_jobs", {"id": usage_meta(result)["call_id"]})
    assert usage_meta(found) == usage_meta(result)
    assert Usage.from_json(usage_meta(result)).as_json() == usage_meta(result)


async def test_refused_text_is_never_shown(upstream: Simulator, tmp_path: Path) -> None:
    updates: list[ProgressUpdate] = []
    async with at(upstream, tmp_path) as session:
        result = await session.ask(f"Tea? {DECLINED}", updates=updates, style="text")
    declined, answered = message_requests(upstream)
    assert declined.text
    shown = "".join(each.message or "" for each in updates)
    assert shown == text_blocks(result)[0] == answered.text
    assert len([each for each in updates if each.message]) >= 1


async def test_until_an_answer_is_final_only_its_length_is_reported(upstream: Simulator, tmp_path: Path) -> None:
    updates: list[ProgressUpdate] = []
    async with at(upstream, tmp_path) as session:
        result = await session.ask("Tea? [[sim: tokens=600 pace=600]]", updates=updates, style="text")
    spoken = [each.message for each in updates if each.message]
    assert "".join(spoken) == text_blocks(result)[0]
    silent = [each for each in updates if not each.message]
    assert silent
    assert updates.index(silent[-1]) < [each.message for each in updates].index(spoken[0])


async def test_the_status_line_counts_buffered_text(upstream: Simulator, tmp_path: Path) -> None:
    updates: list[ProgressUpdate] = []
    async with at(upstream, tmp_path, progress_interval_s=0.01) as session:
        await session.ask("Tea? [[sim: tokens=400 think=0 pace=300 chars=8]]", updates=updates, style="status")
    lines = [each.message or "" for each in updates if "· writing ·" in (each.message or "")]
    assert len(set(lines)) > 2
    assert all("…" not in line for line in lines[:-1])


async def test_a_cancelled_call_keeps_its_buffered_text(upstream: Simulator, tmp_path: Path) -> None:
    async with at(upstream, tmp_path) as session:
        began = anyio.Event()

        async def on_progress(progress: float, total: float | None, message: str | None) -> None:
            del total, message
            if progress > 50:
                began.set()

        async with anyio.create_task_group() as tasks:
            prompt = f"Tea? {directive(tokens=400, fault='stall', at=600)}"
            tasks.start_soon(
                lambda: session.client.call_tool(
                    "claude_ask", {"prompt": prompt}, progress_callback=on_progress, meta={STYLE_META: "status"}
                )
            )
            with anyio.fail_after(30):
                await began.wait()
            tasks.cancel_scope.cancel()
        await upstream.wait_until_idle()
        (line,) = session.ledger_rows()
        found = await session.client.call_tool("claude_jobs", {"id": line["call_id"]})
    assert text_blocks(found)[0]
    assert message_requests(upstream)[0].text.startswith(text_blocks(found)[0])


async def test_a_refusal_of_both_models_names_both(upstream: Simulator, tmp_path: Path) -> None:
    async with at(upstream, tmp_path) as session:
        result = await session.ask("Tea? [[sim: stop=refusal]]")
    assert models(upstream) == [OPUS, SONNET]
    assert failure_meta(result)["kind"] == "refusal"
    assert "Claude declined to answer" in text_blocks(result)[0]
    assert f"{SONNET} was asked because {OPUS} declined." in text_blocks(result)[0]


async def test_a_schema_holds_for_the_fallback(upstream: Simulator, tmp_path: Path) -> None:
    async with at(upstream, tmp_path, model="sonnet", fallback_model=OLD) as session:
        result = await session.ask(f"Tea? {directive(stop='refusal', times=1)}", schema=SCHEMA)
    assert models(upstream) == [SONNET, OLD]
    assert result.structured_content is not None
    assert isinstance(result.structured_content["data"]["a"], int)
    assert usage_meta(result)["fallback_from"] == SONNET


async def test_a_thread_continues_with_the_requested_model(upstream: Simulator, tmp_path: Path) -> None:
    """Thinking of the fallback model is not stored. It gets that of the other: the API drops what it cannot use."""
    async with at(upstream, tmp_path) as session:
        first = await session.ask(f"Tea? {directive(think=30, stop='refusal', times=1)}")
        thread = usage_meta(first)["thread"]
        second = await session.ask("More?", thread=thread)
        await session.ask(f"And? {directive(think=30, stop='refusal', times=1)}", thread=thread)
    assert models(upstream) == [OPUS, SONNET, OPUS, OPUS, SONNET]
    assert usage_meta(second)["complete"] is True
    for record in message_requests(upstream)[2:]:
        turns = cast("list[dict[str, Any]]", cast("dict[str, Any]", record.body)["messages"])
        blocks = [cast("list[dict[str, str]]", turn["content"]) for turn in turns if isinstance(turn["content"], list)]
        assert [[block["type"] for block in each] for each in blocks[:1]] == [["text"]]


# --------------------------------------------------------------------- what the other model cannot do

UNFIT: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"fallback_model": OLD}, {"effort": "high"}, "does not support effort"),
    ({"fallback_model": OLD}, {"max_tokens": 100_000}, "writes at most 64,000 tokens"),
    ({"fallback_model": "opsu"}, {}, "There is no model named 'opsu'"),
]


@pytest.mark.parametrize(("fields", "arguments", "expected"), UNFIT)
async def test_a_fallback_that_cannot_take_the_call_is_not_used_and_reported(
    upstream: Simulator, tmp_path: Path, fields: dict[str, Any], arguments: dict[str, Any], expected: str
) -> None:
    async with at(upstream, tmp_path, **fields) as session:
        well = await session.ask("Tea?", **arguments)
        declined = await session.ask("Tea? [[sim: stop=refusal]]", **arguments)
    assert set(models(upstream)) == {OPUS}
    assert text_blocks(well)[0]
    assert "fallback" not in text_blocks(well)[1]
    assert f"The fallback model ({fields['fallback_model']}) could not be asked instead: " in text_blocks(declined)[0]
    assert expected in text_blocks(declined)[0]


async def test_a_call_of_the_fallback_model_has_no_fallback(upstream: Simulator, tmp_path: Path) -> None:
    async with at(upstream, tmp_path) as session:
        result = await session.ask("Tea? [[sim: stop=refusal]]", model="sonnet")
    assert models(upstream) == [SONNET]
    assert "asked because" not in text_blocks(result)[0]


@pytest.mark.parametrize(("name", "ok", "expected"), [("haiku", True, HAIKU), ("opsu", False, "no model named 'opsu'")])
def test_the_doctor_names_the_fallback_or_its_absence(name: str, expected: str, *, ok: bool) -> None:
    listed = ModelCatalog(bundled_catalog().models, "api", "2026-11-20")
    *_, finding = doctor.check_model(Settings(fallback_model=name), listed)
    assert (finding.name, finding.ok) == ("fallback", ok)
    assert expected in finding.text
    assert finding.hint or ok


# --------------------------------------------------------------------- money


async def test_a_limit_holds_for_both_models_together_each_at_its_price(upstream: Simulator, tmp_path: Path) -> None:
    async with at(upstream, tmp_path, budget_usd_per_day=1) as session:
        result = await session.ask(f"Tea? {directive(tokens=5000, stop='refusal', at=4000, times=1)}", max_usd=0.03)
        first, second = session.ledger_rows()
    assert usage_meta(result)["cost_usd"] <= 0.03  # pyright: ignore[reportOperatorIssue] - a number
    assert second["held_micros"] == 30_000 - cast("int", first["cost_micros"])
    rates = pricing.find_rates(SONNET)
    assert rates is not None
    request = message_requests(upstream)[1]
    most = cast("dict[str, Any]", request.body)["max_tokens"]
    assert most * rates.output <= cast("int", second["held_micros"])
    assert most * rates.output > 0.9 * cast("int", second["held_micros"])  # pyright: ignore[reportOperatorIssue]


# --------------------------------------------------------------------- how it is reported


async def test_the_wait_message_names_the_fallback(upstream: Simulator, tmp_path: Path) -> None:
    updates: list[ProgressUpdate] = []
    prompt = f"Tea? {directive(tokens=50, stop='refusal', times=1, ttft=0.7)}"
    async with at(upstream, tmp_path, heartbeat_s=0.2) as session:
        await session.ask(prompt, updates=updates, style="status")
    assert any(f"{OPUS} declined, asking {SONNET}" in (each.message or "") for each in updates)


REFUSALS: list[tuple[dict[str, object], str]] = [
    ({"category": "cyber", "explanation": "This helps to attack."}, "(category: cyber): This helps to attack. Reph"),
    ({"category": "bio", "explanation": None}, "Claude declined to answer (category: bio). Rephrase the request"),
    ({"category": None, "explanation": "No."}, "Claude declined to answer: No. Rephrase"),
    ({}, "Claude declined to answer. Rephrase"),
]


def stream_with_stop(reason: str, details: dict[str, object] | None = None, *pieces: str, **usage: int) -> bytes:
    """A stream of these pieces that stops for that reason."""
    message: dict[str, object] = {"id": "m", "type": "message", "role": "assistant", "model": OPUS, "content": []}
    used = {"input_tokens": 7, "output_tokens": 1} | usage
    return sse_bytes(
        {"type": "message_start", "message": {**message, "stop_reason": None, "usage": used}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": p}} for p in pieces),
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": reason, "stop_details": {"type": reason, **details} if details else None},
            "usage": {"output_tokens": 50},
        },
        {"type": "message_stop"},
    )


@pytest.mark.parametrize(("details", "expected"), REFUSALS)
@pytest.mark.parametrize("pieces", [(), ("A beginning",)])
async def test_a_refusal_is_reported_with_its_category_and_never_as_an_answer(
    tmp_path: Path, details: dict[str, object], expected: str, pieces: tuple[str, ...]
) -> None:
    async with (
        cloud_upstream(CannedResponse("/v1/messages", stream_with_stop("refusal", details, *pieces))) as cloud,
        connect("memory", "auto", tmp_path / "data", base_url=cloud.url) as session,
    ):
        result = await session.ask("Tea?")
    assert failure_meta(result)["kind"] == "refusal"
    assert expected in text_blocks(result)[0]
    assert len(text_blocks(result)) == 1


async def test_with_a_schema_a_refusal_is_reported_alike(tmp_path: Path) -> None:
    async with (
        cloud_upstream(
            CannedResponse("/v1/messages", stream_with_stop("refusal", {"category": "cyber"}, '{"a":'))
        ) as cloud,
        connect("memory", "auto", tmp_path / "data", base_url=cloud.url) as session,
    ):
        result = await session.ask("Tea?", schema=SCHEMA)
    assert failure_meta(result)["kind"] == "refusal"
    assert "Claude declined to answer (category: cyber)." in text_blocks(result)[0]


# --------------------------------------------------------------------- too long


async def test_a_full_context_window_names_the_tokens_to_remove_from_the_input(tmp_path: Path) -> None:
    full = stream_with_stop(
        "model_context_window_exceeded", None, "As far as it goes", input_tokens=150_000, cache_read_input_tokens=40_000
    )
    async with (
        cloud_upstream(CannedResponse("/v1/messages", full)) as cloud,
        connect("memory", "auto", tmp_path / "data", base_url=cloud.url) as session,
    ):
        result = await session.ask("Tea?", model=OLD, max_tokens=32_000)
        unknown = await session.ask("Tea?", model="llama-9", max_tokens=32_000)
    assert text_blocks(result)[-1] == (
        "INCOMPLETE: the model's context window of 200,000 tokens is full: the input took 190,000 of them and left "
        "10,000 of the 32,000 that the answer might have had. Shorten the input by up to 22,000 tokens, or ask for the "
        "rest alone."
    )
    assert text_blocks(unknown)[-1].startswith(
        "INCOMPLETE: the model's context window is full. Ask again with a shorter"
    )


TOO_LONG: list[tuple[str, str]] = [
    (
        "prompt is too long: 215000 tokens > 200000 maximum",
        "The prompt is too long: 215,000 tokens, 15,000 more than the 200,000 that the model takes. Send less.",
    ),
    (
        "input length and `max_tokens` exceed context limit: 197202 + 8192 > 200000, decrease input length",
        "The prompt is too long: 197,202 tokens, with 8,192 for the answer, 5,394 more than the 200,000 that the model",
    ),
    ("Input is too long.", "The prompt is too long: 201,234 tokens, 1,234 more than the 200,000 that the model takes."),
]


@pytest.mark.parametrize(("api_message", "expected"), TOO_LONG)
async def test_a_prompt_that_is_too_long_is_reported_with_the_excess(
    tmp_path: Path, api_message: str, expected: str
) -> None:
    """By the API's own numbers, and by its count where it gives none."""
    error = f'{{"type": "error", "error": {{"type": "invalid_request_error", "message": "{api_message}"}}}}'.encode()
    async with (
        cloud_upstream(
            CannedResponse("count_tokens", b'{"input_tokens": 201234}', "application/json"),
            CannedResponse("/v1/messages", error, "application/json", 400),
        ) as cloud,
        connect("memory", "auto", tmp_path / "data", base_url=cloud.url) as session,
    ):
        result = await session.ask("Tea?", model=OLD)
    assert (failure_meta(result)["class"], failure_meta(result)["kind"]) == ("request_error", "too_long")
    assert text_blocks(result)[0].startswith(expected)


async def test_the_message_of_the_simulator_for_it_is_parsed(tmp_path: Path) -> None:
    async with (
        Simulator(pace=Pace(ttft_s=0, tokens_per_s=0)) as upstream,
        connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session,
    ):
        result = await session.ask("tea " * 260_000, model=OLD)
    assert failure_meta(result)["kind"] == "too_long"
    assert "more than the 200,000 that the model takes" in text_blocks(result)[0]
