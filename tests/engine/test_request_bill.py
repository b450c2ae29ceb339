"""The bill of a request by `usage`, also where a gateway asked the API for a fallback model."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, cast

import pytest

from mcp_server_claude.anthropic_api.message_stream import MessageStream
from mcp_server_claude.call_types import Call
from mcp_server_claude.engine.request_bill import request_bill
from mcp_server_claude.engine.usage_accumulator import UsageAccumulator
from support.cloud_upstream import CannedResponse, cloud_upstream
from support.mcp_session import connect, text_blocks, usage_meta
from support.recorded_streams import sse_bytes

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

OPUS, SONNET = "claude-opus-5-5", "claude-sonnet-5-5"
TERMS: dict[str, object] = {"service_tier": "standard", "inference_geo": "global"}


def attempt(kind: str, model: str, read: int, written: int) -> dict[str, object]:
    counts = {"input_tokens": read, "output_tokens": written, "cache_read_input_tokens": 0}
    return {"type": kind, "model": model, "cache_creation_input_tokens": 0, **counts}


def seam(category: str | None = None) -> list[dict[str, object]]:
    block = {
        "type": "fallback",
        "from": {"model": OPUS},
        "to": {"model": SONNET},
        "trigger": {"type": "refusal", "category": category},
    }
    return [
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_stop", "index": 0},
    ]


def served_events(
    *between: dict[str, object],
    iterations: list[dict[str, object]] | None = None,
    stop_reason: str = "end_turn",
    stop_details: dict[str, object] | None = None,
    text: str = "Tea.",
    **terms: object,
) -> list[dict[str, object]]:
    usage = {"input_tokens": 1000, "output_tokens": 1, **TERMS, **terms}
    message: dict[str, object] = {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "model": OPUS,
        "content": [],
        "stop_reason": None,
    }
    block: list[dict[str, object]] = [
        {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": text}},
        {"type": "content_block_stop", "index": 1},
    ]
    ended: dict[str, object] = {"input_tokens": 1000, "output_tokens": 100}
    if iterations is not None:
        ended["iterations"] = iterations
    return [
        {"type": "message_start", "message": {**message, "usage": usage}},
        *between,
        *(block if text else []),
        {
            "type": "message_delta",
            "delta": {"stop_reason": stop_reason, "stop_details": stop_details},
            "usage": ended,
        },
        {"type": "message_stop"},
    ]


def replayed(events: list[dict[str, object]]) -> MessageStream:
    stream = MessageStream(lambda _event: None)
    stream.feed_events(events)
    return stream


@pytest.mark.parametrize(("category", "opus_usd"), [(None, "0"), ("cyber", "0"), ("bio", "0.004")])
def test_a_fallback_of_the_api_is_named_and_billed_by_attempts(category: str | None, opus_usd: str) -> None:
    attempts = [attempt("message", OPUS, 1000, 0), attempt("fallback_message", SONNET, 1000, 100)]
    bill = request_bill(replayed(served_events(*seam(category), iterations=attempts)))
    assert (bill.usage.model, bill.fallback_from) == (SONNET, OPUS)
    assert [(share.model, share.cost) for share in bill.shares] == [
        (OPUS, Decimal(opus_usd)),
        (SONNET, Decimal("0.003")),
    ]
    assert bill.cost == Decimal(opus_usd) + Decimal("0.003")
    assert (bill.usage.input_tokens, bill.usage.output_tokens) == (2000, 100)


def test_a_refusal_after_some_output_is_billed_in_every_category() -> None:
    attempts = [attempt("message", OPUS, 1000, 50), attempt("fallback_message", SONNET, 1000, 100)]
    bill = request_bill(replayed(served_events(*seam("cyber"), iterations=attempts)))
    assert bill.cost == Decimal("0.005") + Decimal("0.003")


def test_a_fallback_without_a_marker_is_recognised_by_its_entry() -> None:
    bill = request_bill(replayed(served_events(iterations=[attempt("fallback_message", SONNET, 1000, 100)])))
    assert (bill.usage.model, bill.fallback_from, bill.cost) == (SONNET, OPUS, Decimal("0.003"))


def test_compaction_is_billed_in_addition_to_the_top_level() -> None:
    attempts = [attempt("compaction", "", 10_000, 1000), attempt("message", OPUS, 1000, 100)]
    bill = request_bill(replayed(served_events(iterations=attempts)))
    assert (bill.cost, bill.shares) == (Decimal("0.06") + Decimal("0.006"), ())
    assert bill.usage.input_tokens == 11_000


def test_the_requested_model_makes_the_summary_where_another_one_answers() -> None:
    attempts = [
        attempt("compaction", "", 10_000, 1000),
        attempt("message", OPUS, 1000, 0),
        attempt("fallback_message", SONNET, 1000, 100),
    ]
    bill = request_bill(replayed(served_events(*seam("cyber"), iterations=attempts)))
    assert [(share.model, share.cost) for share in bill.shares] == [
        (OPUS, Decimal("0.06")),
        (SONNET, Decimal("0.003")),
    ]


def test_the_iterations_of_a_server_tool_loop_are_billed_once_at_the_top_level() -> None:
    attempts = [attempt("message", OPUS, 400, 40), attempt("message", OPUS, 600, 60)]
    bill = request_bill(replayed(served_events(iterations=attempts)))
    assert (bill.cost, bill.usage.input_tokens) == (Decimal("0.006"), 1000)


def test_an_invalid_count_in_an_attempt_makes_the_cost_unknown() -> None:
    odd = attempt("message", OPUS, 1000, 0) | {"output_tokens": -3}
    bill = request_bill(replayed(served_events(*seam(), iterations=[odd])))
    assert bill.cost is None


def test_speed_tier_and_region_change_the_price_and_are_named() -> None:
    fast = request_bill(replayed(served_events(speed="fast")))
    in_us = request_bill(replayed(served_events(inference_geo="us", service_tier="priority")))
    assert (fast.cost, fast.usage.service_notes) == (Decimal("0.012"), ("fast mode",))
    assert (in_us.cost, in_us.usage.service_notes) == (Decimal("0.0066"), ("priority tier", "inference in us"))
    assert request_bill(replayed(served_events())).usage.service_notes == ()


def test_the_input_of_a_cut_tool_call_is_estimated_as_output() -> None:
    start: dict[str, object] = {
        "type": "message_start",
        "message": {"model": SONNET, "usage": {"input_tokens": 10, "output_tokens": 1}},
    }
    block: dict[str, object] = {"type": "tool_use", "id": "toolu_1", "name": "answer", "input": {}}
    delta = {"type": "input_json_delta", "partial_json": '{"value": "' + "x" * 4000}
    events: list[dict[str, object]] = [
        start,
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_delta", "index": 0, "delta": delta},
    ]
    bill = request_bill(replayed(events))
    assert bill.usage.estimated
    assert bill.usage.output_tokens > 900
    assert not bill.is_lower_bound


def test_no_count_is_lost_when_the_requested_model_is_named_after_it_has_been_billed() -> None:
    accumulator = UsageAccumulator(Call(prompt="Tea?"))
    advised = [attempt("advisor_message", SONNET, 1000, 10), attempt("message", OPUS, 1000, 100)]
    accumulator.add_request(request_bill(replayed(served_events())), None)
    accumulator.add_request(request_bill(replayed(served_events(iterations=advised))), None)
    accumulator.switch_model(OPUS, SONNET)
    accumulator.add_request(request_bill(replayed(served_events())), None)
    usage = accumulator.usage()
    assert usage.input_tokens == 1000 + 2000 + 1000
    assert [(share.model, share.requests, share.input_tokens) for share in usage.by_model] == [
        (OPUS, 2, 2000),
        (SONNET, 2, 2000),
    ]


async def test_the_usage_the_footer_and_the_ledger_name_the_model_that_answered(tmp_path: Path) -> None:
    attempts = [attempt("message", OPUS, 1000, 0), attempt("fallback_message", SONNET, 1000, 100)]
    events = served_events(*seam("bio"), iterations=attempts, speed="standard", inference_geo="us")
    async with (
        cloud_upstream(CannedResponse("/v1/messages", sse_bytes(*events))) as gateway,
        connect("memory", "auto", tmp_path / "data", base_url=gateway.url, model=OPUS) as session,
    ):
        result = await session.ask("Tea?")
        (row,) = session.ledger_rows()
    usage = usage_meta(result)
    assert (usage["model"], usage["fallback_from"], usage["cost_usd"]) == (SONNET, OPUS, pytest.approx(0.0077))
    shares = cast("list[dict[str, object]]", usage["by_model"])
    assert [(share["model"], share["requests"]) for share in shares] == [(OPUS, 1), (SONNET, 1)]
    footer = text_blocks(result)[1]
    assert f"answered by {SONNET} ($0.0033), {OPUS} ($0.0044) declined" in footer
    assert "inference in us" in footer
    assert (row["model"], row["cost_micros"]) == (SONNET, 7700)
    assert (row["inference_geo"], row["speed"], row["service_tier"]) == ("us", "standard", "standard")
