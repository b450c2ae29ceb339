"""The prompt cache's account."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_server_claude.simulator.model_catalog import MODELS, find_model
from mcp_server_claude.simulator.token_counting import PromptCache, count_input_tokens, token_count

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

    from mcp_server_claude.simulator.json_body import Json, Object

pytestmark = pytest.mark.anyio
OPUS = find_model("claude-opus-5-5") or MODELS[0]
LONG = "word " * 1000


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def asking(*texts: str, ttl: str = "", system: str = "") -> Object:
    control: Object = {"type": "ephemeral"}
    if ttl:
        control["ttl"] = ttl
    content: list[Json] = [{"type": "text", "text": text} for text in texts]
    body: Object = {"messages": [{"role": "user", "content": content}], "cache_control": control}
    return body | ({"system": system} if system else {})


def test_a_prefix_is_written_once_and_then_read() -> None:
    cache = PromptCache()
    first, second = (cache.charge(asking(LONG), OPUS, "k") for _ in range(2))

    assert (first.cache_write_5m, first.cache_read, first.uncached) == (count_input_tokens(asking(LONG)), 0, 0)
    assert (second.cache_write_5m, second.cache_read, second.uncached) == (0, count_input_tokens(asking(LONG)), 0)


def test_a_longer_conversation_reads_the_old_prefix_and_writes_the_rest() -> None:
    cache = PromptCache()
    first = cache.charge(asking(LONG), OPUS, "k")
    second = cache.charge(asking(LONG, LONG), OPUS, "k")

    assert second.cache_read == first.cache_write_5m
    assert second.cache_write_5m == token_count(len(LONG))


def test_a_prefix_is_warm_for_one_model_and_one_key() -> None:
    cache = PromptCache()
    cache.charge(asking(LONG), OPUS, "k")

    assert cache.charge(asking(LONG), OPUS, "another").cache_read == 0
    assert cache.charge(asking(LONG), MODELS[0], "k").cache_read == 0


@pytest.mark.parametrize(("ttl", "seconds"), [("", 300), ("5m", 300), ("1h", 3600)])
def test_a_prefix_stays_warm_for_its_time_to_live_since_its_last_use(ttl: str, seconds: float) -> None:
    clock = Clock()
    cache = PromptCache(clock)
    cache.charge(asking(LONG, ttl=ttl), OPUS, "k")
    clock.now += seconds - 1
    assert cache.charge(asking(LONG, ttl=ttl), OPUS, "k").cache_read
    clock.now += seconds - 1
    assert cache.charge(asking(LONG, ttl=ttl), OPUS, "k").cache_read
    clock.now += seconds + 1
    assert not cache.charge(asking(LONG, ttl=ttl), OPUS, "k").cache_read


def test_a_prefix_under_the_models_minimum_is_not_cached() -> None:
    cache = PromptCache()

    for _ in range(2):
        used = cache.charge(asking("short"), OPUS, "k")
        assert (used.uncached, used.cache_read, used.cache_write_5m) == (count_input_tokens(asking("short")), 0, 0)


def test_breakpoints_on_blocks_cache_up_to_themselves() -> None:
    body: Object = {
        "system": [{"type": "text", "text": LONG, "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
        "messages": [{"role": "user", "content": "Hello"}],
    }
    cache = PromptCache()
    first, second = (cache.charge(body, OPUS, "k") for _ in range(2))

    assert (first.cache_write_1h, first.cache_write_5m) == (token_count(len(LONG)), 0)
    assert second.cache_read == token_count(len(LONG))
    assert first.uncached == second.uncached == count_input_tokens(body) - token_count(len(LONG))


@given(st.lists(st.lists(st.sampled_from(["a", LONG, "b" * 3000]), min_size=1, max_size=5), min_size=1, max_size=6))
def test_the_token_counts_of_a_usage_add_up_to_the_prompt(requests: list[list[str]]) -> None:
    cache = PromptCache()
    for texts in requests:
        body = asking(*texts)
        assert cache.charge(body, OPUS, "k").total == count_input_tokens(body)


async def test_the_sdk_reads_what_was_written_and_read(client: AsyncAnthropic) -> None:
    first, second = [
        await client.messages.create(
            model="claude-opus-5-5",
            max_tokens=50,
            cache_control={"type": "ephemeral"},
            messages=[{"role": "user", "content": LONG}],
        )
        for _ in range(2)
    ]

    assert first.usage.cache_creation
    assert first.usage.cache_creation.ephemeral_5m_input_tokens == first.usage.cache_creation_input_tokens
    assert second.usage.cache_read_input_tokens == first.usage.cache_creation_input_tokens
    assert second.usage.input_tokens == 0
