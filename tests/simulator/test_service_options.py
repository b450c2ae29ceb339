"""Fast mode, service tiers, the place of inference and the lifecycle of models."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import anthropic
import pytest
from anthropic import AsyncAnthropic

from mcp_server_claude.simulator import Pace, Simulator

if TYPE_CHECKING:
    from anthropic.types import Message

pytestmark = pytest.mark.anyio
FAST_BETA = {"anthropic-beta": "fast-mode-2026-02-01"}


async def ask(client: AsyncAnthropic, model: str, headers: dict[str, str] | None = None, **more: Any) -> Message:
    return await client.messages.create(
        model=model,
        max_tokens=200,
        messages=[{"role": "user", "content": "Hello [[sim: think=0]]"}],
        extra_headers=headers,
        extra_body=more,
    )


@pytest.mark.parametrize("model", ["claude-fable-5-2", "claude-mythos-5-2", "claude-opus-5-5"])
async def test_fast_mode_costs_twice_as_much(simulator: Simulator, client: AsyncAnthropic, model: str) -> None:
    fast = await ask(client, model, speed="fast")
    await ask(client, model)

    dear, plain = (billed.usd for billed in simulator.bill())

    assert fast.usage.speed == "fast"
    assert dear is not None
    assert plain is not None
    assert dear == 2 * plain


async def test_fast_mode_has_a_cache_of_its_own(client: AsyncAnthropic) -> None:
    system: Any = [{"type": "text", "text": "Rules. " * 1000, "cache_control": {"type": "ephemeral"}}]
    await ask(client, "claude-opus-5-5", system=system)

    again = await ask(client, "claude-opus-5-5", system=system)
    fast = await ask(client, "claude-opus-5-5", system=system, speed="fast")

    assert again.usage.cache_read_input_tokens
    assert not fast.usage.cache_read_input_tokens


@pytest.mark.parametrize(
    ("model", "headers", "message"),
    [
        ("claude-sonnet-5-5", FAST_BETA, "does not support fast mode"),
        ("claude-opus-4-7", FAST_BETA, "does not support fast mode"),
        ("claude-opus-5", {}, "requires the `fast-mode-2026-02-01` beta"),
        ("claude-opus-4-8", {}, "requires the `fast-mode-2026-02-01` beta"),
    ],
)
async def test_fast_mode_is_rejected_where_it_is_not_offered(
    client: AsyncAnthropic, model: str, headers: dict[str, str], message: str
) -> None:
    with pytest.raises(anthropic.BadRequestError, match=message):
        await ask(client, model, headers, speed="fast")


async def test_older_models_need_a_beta_for_fast_mode_or_ignore_it(
    simulator: Simulator, client: AsyncAnthropic
) -> None:
    beta = await ask(client, "claude-opus-5", FAST_BETA, speed="fast")
    ignored = await ask(client, "claude-opus-4-6", speed="fast")

    assert beta.usage.speed == "fast"
    assert ignored.usage.speed == "standard"
    assert (
        simulator.bill()[1].usd == Decimal(ignored.usage.input_tokens * 5 + ignored.usage.output_tokens * 25) / 1000000
    )


@pytest.mark.parametrize(("name", "value"), [("speed", "slow"), ("service_tier", "priority")])
async def test_unknown_speeds_and_tiers_are_rejected(client: AsyncAnthropic, name: str, value: str) -> None:
    with pytest.raises(anthropic.BadRequestError, match=f"{name}: Input should be"):
        await ask(client, "claude-opus-5-5", None, **{name: value})


async def test_usage_names_the_tier_and_the_region_of_inference(client: AsyncAnthropic) -> None:
    standard = await ask(client, "claude-opus-5-5", service_tier="auto", inference_geo="us")
    old = await ask(client, "claude-haiku-4-5")

    assert (standard.usage.service_tier, standard.usage.inference_geo) == ("standard", "us")
    assert old.usage.inference_geo == "not_available"


@pytest.mark.parametrize(
    ("today", "lifecycle", "fast"),
    [("2026-11-29", "deprecated", True), ("2026-11-30", "retired", False)],
)
async def test_a_model_is_served_until_the_day_it_retires(today: str, lifecycle: str, fast: bool) -> None:  # noqa: FBT001
    async with (
        Simulator(pace=Pace(ttft_s=0, tokens_per_s=0), today=today) as simulator,
        AsyncAnthropic(api_key="any", base_url=simulator.url, max_retries=0) as client,
    ):
        listed = await client.models.retrieve("claude-sonnet-4-5")
        assert listed.lifecycle == lifecycle
        for request, is_served in (
            (ask(client, "claude-sonnet-4-5"), lifecycle != "retired"),
            (ask(client, "claude-opus-4-8", FAST_BETA, speed="fast"), fast),
        ):
            if is_served:
                await request
            else:
                with pytest.raises(anthropic.APIStatusError) as refused:
                    await request
                assert refused.value.status_code in {400, 404}


async def test_a_prefilled_answer_cannot_have_a_format(client: AsyncAnthropic) -> None:
    schema: dict[str, object] = {"type": "object", "properties": {}, "additionalProperties": False}
    with pytest.raises(anthropic.BadRequestError, match="not supported with output formats"):
        await client.messages.create(
            model="claude-haiku-4-5",
            max_tokens=100,
            output_config={"format": {"type": "json_schema", "schema": schema}},
            messages=[{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "{"}],
        )
