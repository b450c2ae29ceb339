"""The iterations of a response, by raw requests: loops of server tools, compaction, fallbacks and their credit."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from mcp_server_claude.simulator import Pace, Simulator, directive
from mcp_server_claude.simulator.compaction import COMPACTION_BETA
from mcp_server_claude.simulator.fallbacks import CREDIT_BETA, FALLBACK_BETA
from mcp_server_claude.simulator.sampling_iterations import tool_loop_usage
from mcp_server_claude.simulator.token_counting import InputUsage
from support.simulator_requests import message_requests

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio

SEARCH = {"type": "web_search_20260318", "name": "web_search", "max_uses": 2}
FETCH = {"type": "web_fetch_20260318", "name": "web_fetch", "max_uses": 2, "max_content_tokens": 1_000}
DECLINED = directive(stop="refusal", at=0, category="cyber")
LONG_RULES = "Answer as a tea merchant of the old school would, with care and in full. " * 100


@pytest.fixture
async def api() -> AsyncIterator[Simulator]:
    async with Simulator(pace=Pace(ttft_s=0, tokens_per_s=0), default_thinking=False) as simulator:
        yield simulator


async def send(
    api: Simulator, prompt: str, *, betas: str = "", key: str = "k", path: str = "/v1/messages", **fields: Any
) -> httpx2.Response:
    body = {
        "model": "claude-sonnet-5-5",
        "max_tokens": 1000,
        "messages": [{"role": "user", "content": prompt}],
    } | fields
    headers = {"x-api-key": key, "anthropic-version": "2026-10-21", "anthropic-beta": betas}
    async with httpx2.AsyncClient(base_url=api.url, headers=headers, timeout=30) as client:
        return await client.post(path, json=body)


def error_of(response: httpx2.Response) -> str:
    assert response.status_code == 400
    return str(response.json()["error"]["message"])


def test_each_iteration_of_a_tool_loop_reads_what_came_before_again() -> None:
    assert tool_loop_usage(InputUsage(uncached=100, cache_read=900), [10, 20]) == InputUsage(
        uncached=100 + 1_010 + 1_030, cache_read=900
    )


def test_a_tool_loop_has_ten_more_iterations_at_most() -> None:
    assert tool_loop_usage(InputUsage(uncached=0), [5] * 12).uncached == sum(15 + 5 * n for n in range(10))


async def test_results_of_server_tools_are_billed_as_input_at_the_end(api: Simulator) -> None:
    prompt = f"News? {directive(search=1, fetch=1, page=5_000, results=300)}"
    usage = (await send(api, prompt, tools=[SEARCH, FETCH])).json()["usage"]
    first = (await send(api, prompt, tools=[SEARCH, FETCH], path="/v1/messages/count_tokens")).json()["input_tokens"]
    page = 1_000  # cut at max_content_tokens
    assert usage["input_tokens"] == first + (first + 300) + (first + 300 + page)
    assert message_requests(api)[0].input_tokens == usage["input_tokens"]


async def test_uses_beyond_max_uses_fail_and_are_not_billed(api: Simulator) -> None:
    answer = (await send(api, f"News? {directive(search=3)}", tools=[SEARCH])).json()
    results = [block["content"] for block in answer["content"] if block["type"] == "web_search_tool_result"]
    assert results[2] == {"type": "web_search_tool_result_error", "error_code": "max_uses_exceeded"}
    assert answer["usage"]["server_tool_use"]["web_search_requests"] == 2


async def test_a_summary_is_an_iteration_of_its_own_and_its_block_ends_the_past(api: Simulator) -> None:
    edit = {"edits": [{"type": "compact_20260112", "trigger": {"type": "input_tokens", "value": 50_000}}]}
    long = [
        {"role": "user", "content": "word " * 60_000},
        {"role": "assistant", "content": "I see."},
        {"role": "user", "content": "And now?"},
    ]
    answer = (await send(api, "", betas=COMPACTION_BETA, messages=long, context_management=edit)).json()
    summary, message = answer["usage"]["iterations"]
    assert (summary["type"], message["type"]) == ("compaction", "message")
    assert summary["input_tokens"] > 60_000 > message["input_tokens"] == answer["usage"]["input_tokens"]
    assert answer["content"][0]["type"] == "compaction"
    (billed,) = api.bill()
    assert (
        billed.usd
        == (
            (summary["input_tokens"] + message["input_tokens"]) * Decimal(2)
            + (summary["output_tokens"] + message["output_tokens"]) * Decimal(10)
        )
        / 1_000_000
    )
    later = [*long, {"role": "assistant", "content": answer["content"]}, {"role": "user", "content": "Go on."}]
    assert (await send(api, "", messages=later)).json()["usage"]["input_tokens"] < 1_000


async def test_with_the_beta_of_compaction_every_response_lists_its_iterations(api: Simulator) -> None:
    edit = {"edits": [{"type": "compact_20260112"}]}
    answer = (await send(api, "Tea?", betas=COMPACTION_BETA, context_management=edit)).json()
    assert [each["type"] for each in answer["usage"]["iterations"]] == ["message"]


async def test_compaction_needs_its_beta_and_a_trigger_of_fifty_thousand_tokens(api: Simulator) -> None:
    low = {"edits": [{"type": "compact_20260112", "trigger": {"type": "input_tokens", "value": 10}}]}
    assert "Extra inputs" in error_of(await send(api, "Tea?", context_management=low))
    assert "at least 50000" in error_of(await send(api, "Tea?", betas=COMPACTION_BETA, context_management=low))


@pytest.mark.parametrize(("category", "declined_usd"), [("cyber", 0), ("bio", 1)])
async def test_each_model_of_a_fallback_is_billed_at_its_own_price(
    api: Simulator, category: str, declined_usd: int
) -> None:
    prompt = f"No. {directive(stop='refusal', at=0, category=category)}"
    answer = (await send(api, prompt, betas=FALLBACK_BETA, fallbacks="default")).json()
    declined, served = answer["usage"]["iterations"]
    assert (declined["model"], declined["type"], declined["output_tokens"]) == ("claude-sonnet-5-5", "message", 0)
    assert (served["model"], served["type"]) == ("claude-opus-4-8", "fallback_message")
    assert answer["model"] == "claude-opus-4-8"
    assert answer["content"][0]["type"] == "fallback"
    assert answer["stop_reason"] == "end_turn"
    (billed,) = api.bill()
    opus_usd = Decimal(served["input_tokens"] * 5 + served["output_tokens"] * 25) / 1_000_000
    assert billed.usd == opus_usd + declined_usd * Decimal(declined["input_tokens"] * 2) / 1_000_000


async def test_fallbacks_need_their_beta_and_an_allowed_model(api: Simulator) -> None:
    others = [{"model": "claude-haiku-5-5"}]
    assert "Extra inputs" in error_of(await send(api, "Tea?", fallbacks="default"))
    assert "not an allowed" in error_of(await send(api, "Tea?", betas=FALLBACK_BETA, fallbacks=others))
    alone = await send(api, f"No. {DECLINED}", betas=FALLBACK_BETA, fallbacks="default", model="claude-haiku-5-5")
    assert alone.json()["stop_reason"] == "refusal"


async def test_a_retry_with_the_credit_reads_what_it_would_have_written(api: Simulator) -> None:
    prompt = f"No. {DECLINED}"
    fields: dict[str, Any] = {"system": LONG_RULES, "cache_control": {"type": "ephemeral"}, "betas": CREDIT_BETA}
    refused = (await send(api, prompt, **fields)).json()["stop_details"]
    assert refused["fallback_has_prefill_claim"] is False
    retry = fields | {"model": "claude-opus-4-8", "fallback_credit_token": refused["fallback_credit_token"]}
    usage = (await send(api, prompt, **retry)).json()["usage"]
    assert usage["cache_creation_input_tokens"] == 0
    assert usage["cache_read_input_tokens"] > 1_000


async def test_a_credit_is_for_the_same_request_account_and_an_allowed_model(api: Simulator) -> None:
    prompt = f"No. {DECLINED}"
    token = (await send(api, prompt, betas=CREDIT_BETA)).json()["stop_details"]["fallback_credit_token"]
    retry: dict[str, Any] = {"model": "claude-opus-4-8", "fallback_credit_token": token}
    assert "Extra inputs" in error_of(await send(api, prompt, **retry))
    assert "does not match" in error_of(await send(api, "Tea?", betas=CREDIT_BETA, **retry))
    assert "does not match" in error_of(await send(api, prompt, betas=f"{CREDIT_BETA},other-beta", **retry))
    assert "another workspace" in error_of(await send(api, prompt, betas=CREDIT_BETA, key="other", **retry))
    haiku = retry | {"model": "claude-haiku-5-5"}
    assert "not a permitted" in error_of(await send(api, prompt, betas=CREDIT_BETA, **haiku))
    altered = retry | {"fallback_credit_token": f"{token[:-4]}AAAA"}
    assert "malformed" in error_of(await send(api, prompt, betas=CREDIT_BETA, **altered))
    served = await send(api, prompt, betas=CREDIT_BETA, **retry)
    assert served.status_code == 200
