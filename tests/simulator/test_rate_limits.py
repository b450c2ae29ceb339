"""Rate limits of the simulator: buckets by account and class of models, their headers, and the 429."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import anthropic
import pytest
from anthropic import AsyncAnthropic

from mcp_server_claude.simulator import Pace, RateLimits, Simulator
from mcp_server_claude.simulator.api_errors import RequestRejectedError
from mcp_server_claude.simulator.model_catalog import find_model
from mcp_server_claude.simulator.rate_limits import RateLimiter, TokenBucket
from mcp_server_claude.simulator.token_counting import InputUsage

if TYPE_CHECKING:
    from mcp_server_claude.simulator.catalog_model import CatalogModel

pytestmark = pytest.mark.anyio


def model(name: str) -> CatalogModel:
    found = find_model(name)
    assert found is not None
    return found


def test_a_bucket_is_refilled_within_a_minute() -> None:
    now = [0.0]
    bucket = TokenBucket(60, lambda: now[0])
    bucket.take(60)

    assert bucket.wait_s(1) == 1
    now[0] = 30
    assert bucket.remaining() == 30
    now[0] = 600
    assert bucket.remaining() == 60


def test_reset_is_when_the_bucket_is_full_again_not_when_one_request_is_free() -> None:
    now = [0.0]
    limiter = RateLimiter(RateLimits(requests_per_minute=60, enforced=True), lambda: now[0])
    for _ in range(60):
        limiter.charge_request("a", model("claude-sonnet-5-5"))

    with pytest.raises(RequestRejectedError) as refused:
        limiter.charge_request("a", model("claude-sonnet-5-5"))
    headers = limiter.headers("a", model("claude-sonnet-5-5"))
    reset = datetime.fromisoformat(headers["anthropic-ratelimit-requests-reset"])

    assert refused.value.api_error.retry_after_s == 1
    assert headers["anthropic-ratelimit-requests-remaining"] == "0"
    assert 50 < (reset - datetime.now(UTC)).total_seconds() <= 61
    now[0] = 1
    limiter.charge_request("a", model("claude-sonnet-5-5"))


def test_limits_are_those_of_an_account_and_a_class_of_models() -> None:
    limiter = RateLimiter(RateLimits(requests_per_minute=1, enforced=True), lambda: 0.0)
    limiter.charge_request("a", model("claude-opus-4-8"))

    limiter.charge_request("a", model("claude-opus-5-5"))
    limiter.charge_request("a", model("claude-sonnet-4-6"))
    limiter.charge_request("b", model("claude-opus-4-8"))
    for same in ("claude-opus-4-8", "claude-opus-4-6", "claude-opus-4-5"):
        with pytest.raises(RequestRejectedError, match="1 requests per minute"):
            limiter.charge_request("a", model(same))
    limiter.charge_request("a", model("claude-opus-4-8"), is_fast=True)


def test_cache_reads_do_not_count_and_the_tokens_header_shows_the_tightest_limit() -> None:
    limits = RateLimits(input_tokens_per_minute=100_000, output_tokens_per_minute=10_000)
    limiter = RateLimiter(limits, lambda: 0.0)
    used = InputUsage(uncached=1_000, cache_read=50_000, cache_write_5m=9_000)
    limiter.charge("a", model("claude-opus-5-5"), used, 4_000)

    headers = limiter.headers("a", model("claude-opus-5-5"))

    assert headers["anthropic-ratelimit-input-tokens-remaining"] == "90000"
    assert headers["anthropic-ratelimit-output-tokens-remaining"] == "6000"
    assert headers["anthropic-ratelimit-tokens-remaining"] == "6000"
    assert headers["anthropic-ratelimit-tokens-limit"] == "10000"
    assert "anthropic-fast-input-tokens-limit" not in headers
    assert "anthropic-fast-input-tokens-limit" in limiter.headers("a", model("claude-opus-5-5"), is_fast=True)


async def test_a_request_over_an_enforced_limit_is_a_429_with_the_time_to_retry() -> None:
    limits = RateLimits(requests_per_minute=1, enforced=True)
    async with (
        Simulator(pace=Pace(ttft_s=0, tokens_per_s=0), rate_limits=limits) as simulator,
        AsyncAnthropic(api_key="any", base_url=simulator.url, max_retries=0) as client,
    ):
        ok = await client.messages.with_raw_response.create(
            model="claude-sonnet-5-5", max_tokens=50, messages=[{"role": "user", "content": "Hello"}]
        )
        with pytest.raises(anthropic.RateLimitError, match="rate limit of 1 requests per minute") as refused:
            await client.messages.create(
                model="claude-sonnet-5-5", max_tokens=50, messages=[{"role": "user", "content": "Hello"}]
            )
        await client.messages.create(
            model="claude-opus-5-5", max_tokens=50, messages=[{"role": "user", "content": "Hello"}]
        )

    assert ok.headers["anthropic-ratelimit-requests-remaining"] == "0"
    assert 50 < int(refused.value.response.headers["retry-after"]) <= 60
    assert [record.status for record in simulator.requests] == [200, 429, 200]
