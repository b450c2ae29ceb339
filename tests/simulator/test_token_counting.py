"""The prompt cache's account."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_server_claude.simulator.model_catalog import MODELS, find
from mcp_server_claude.simulator.token_counting import PromptCache, count, tokens

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

    from mcp_server_claude.simulator.json_body import Json, Object

pytestmark = pytest.mark.anyio
OPUS = find("claude-opus-5-5") or MODELS[0]
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
    first, second = (cache.account(asking(LONG), OPUS, "k") for _ in range(2))

    assert (first.written_5m, first.read, first.fresh) == (count(asking(LONG)), 0, 0)
    assert (second.written_5m, second.read, second.fresh) == (0, count(asking(LONG)), 0)


def test_a_longer_conversation_reads_the_old_prefix_and_writes_the_rest() -> None:
    cache = PromptCache()
    first = cache.account(asking(LONG), OPUS, "k")
    second = cache.account(asking(LONG, LONG), OPUS, "k")

    assert second.read == first.written_5m
    assert second.written_5m == tokens(len(LONG))


def test_a_prefix_is_warm_for_one_model_and_one_key() -> None:
    cache = PromptCache()
    cache.account(asking(LONG), OPUS, "k")

    assert cache.account(asking(LONG), OPUS, "another").read == 0
    assert cache.account(asking(LONG), MODELS[0], "k").read == 0


@pytest.mark.parametrize(("ttl", "seconds"), [("", 300), ("5m", 300), ("1h", 3600)])
def test_a_prefix_stays_warm_for_its_time_to_live_since_its_last_use(ttl: str, seconds: float) -> None:
    clock = Clock()
    cache = PromptCache(clock)
    cache.account(asking(LONG, ttl=ttl), OPUS, "k")
    clock.now += seconds - 1
    assert cache.account(asking(LONG, ttl=ttl), OPUS, "k").read
    clock.now += seconds - 1
    assert cache.account(asking(LONG, ttl=ttl), OPUS, "k").read
    clock.now += seconds + 1
    assert not cache.account(asking(LONG, ttl=ttl), OPUS, "k").read


def test_a_prefix_under_the_models_minimum_is_not_cached() -> None:
    cache = PromptCache()

    for _ in range(2):
        used = cache.account(asking("short"), OPUS, "k")
        assert (used.fresh, used.read, used.written_5m) == (count(asking("short")), 0, 0)


def test_breakpoints_on_blocks_cache_up_to_themselves() -> None:
    body: Object = {
        "system": [{"type": "text", "text": LONG, "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
        "messages": [{"role": "user", "content": "Hello"}],
    }
    cache = PromptCache()
    first, second = (cache.account(body, OPUS, "k") for _ in range(2))

    assert (first.written_1h, first.written_5m) == (tokens(len(LONG)), 0)
    assert second.read == tokens(len(LONG))
    assert first.fresh == second.fresh == count(body) - tokens(len(LONG))


@given(st.lists(st.lists(st.sampled_from(["a", LONG, "b" * 3000]), min_size=1, max_size=5), min_size=1, max_size=6))
def test_the_parts_of_an_account_add_up_to_the_prompt(requests: list[list[str]]) -> None:
    cache = PromptCache()
    for texts in requests:
        body = asking(*texts)
        assert cache.account(body, OPUS, "k").total == count(body)


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
