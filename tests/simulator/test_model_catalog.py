"""`/v1/models` and `count_tokens`, as the installed SDK reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pytest
from anthropic import AsyncAnthropic, NotFoundError

from mcp_server_claude.simulator import Simulator
from mcp_server_claude.simulator.model_catalog import MODELS
from support.simulator_connection import message_request

if TYPE_CHECKING:
    from pydantic import BaseModel

pytestmark = pytest.mark.anyio


def unparsed(value: BaseModel) -> list[str]:
    """The fields that the SDK's type does not know, at any depth."""
    from pydantic import BaseModel as Model

    found = list(value.model_extra or {})
    for name in type(value).model_fields:
        child: object = getattr(value, name)
        found += [f"{name}.{inner}" for inner in unparsed(child)] if isinstance(child, Model) else []
    return found


async def test_every_model_is_parsed_fully_over_several_pages(client: AsyncAnthropic, simulator: Simulator) -> None:
    listed = [model async for model in client.models.list(limit=4)]

    assert [model.id for model in listed] == [model.id for model in MODELS]
    assert len(simulator.requests) == -(-len(MODELS) // 4)
    for model in listed:
        assert unparsed(model) == []
        assert model.capabilities
        assert model.capabilities.thinking.types
        assert model.max_tokens
        assert str(model.line) in model.id


async def test_a_page_has_its_cursors(client: AsyncAnthropic) -> None:
    ids = [model.id for model in MODELS]
    first = await client.models.list(limit=3)
    after = await client.models.list(limit=3, after_id=ids[-2])
    before = await client.models.list(limit=2, before_id=ids[3])

    assert (first.first_id, first.last_id, first.has_more) == (ids[0], ids[2], True)
    assert (after.first_id, after.last_id, after.has_more) == (ids[-1], ids[-1], False)
    assert (before.first_id, before.last_id, before.has_more) == (ids[1], ids[2], True)


async def test_a_model_is_found_by_its_id_and_its_alias(client: AsyncAnthropic) -> None:
    by_alias = await client.models.retrieve("claude-haiku-4-5")

    assert by_alias == await client.models.retrieve("claude-haiku-4-5-20251001")
    with pytest.raises(NotFoundError):
        await client.models.retrieve("claude-nobody")


async def test_lifecycles_state_which_models_are_deprecated_and_retired(client: AsyncAnthropic) -> None:
    old = await client.models.retrieve("claude-sonnet-4-5-20250929")
    retired = await client.models.retrieve("claude-opus-4-20250514")

    assert (old.lifecycle, old.retires_at and old.retires_at.date().isoformat()) == ("deprecated", "2026-11-30")
    assert retired.lifecycle == "retired"


async def test_capabilities_state_which_requests_a_model_accepts(client: AsyncAnthropic) -> None:
    newest = (await client.models.retrieve("claude-opus-5-5")).capabilities
    older = (await client.models.retrieve("claude-opus-4-5")).capabilities

    assert newest
    assert older
    assert (newest.thinking.types.adaptive.supported, newest.thinking.types.disabled.supported) == (True, False)
    assert (older.thinking.types.adaptive.supported, older.thinking.types.enabled.supported) == (False, True)
    assert (newest.effort.max.supported, older.effort.max.supported) == (True, False)


@pytest.mark.parametrize("models", ["empty", "missing", "foreign"])
async def test_a_gateway_may_list_anything_and_serves_every_name(
    models: Literal["empty", "missing", "foreign"],
) -> None:
    async with (
        Simulator(models=models, defaults="tokens=5 pace=0 ttft=0") as simulator,
        AsyncAnthropic(api_key="any", base_url=simulator.url) as client,
    ):
        if models == "missing":
            with pytest.raises(NotFoundError):
                await client.models.list()
        else:
            assert bool((await client.models.list()).data) == (models == "foreign")
        with pytest.raises(NotFoundError):
            await client.models.retrieve("claude-opus-5-5")
        reply = await client.messages.create(
            model="qwen3:8b", max_tokens=9, messages=[{"role": "user", "content": "Hello"}]
        )

    assert reply.model == "qwen3:8b"


async def test_count_tokens_returns_the_tokens_that_a_message_is_charged(client: AsyncAnthropic) -> None:
    counted = await client.messages.count_tokens(
        model="claude-opus-5-5", system="Be brief", messages=[{"role": "user", "content": "Hello there"}]
    )
    reply = await client.messages.create(
        model="claude-opus-5-5",
        max_tokens=9,
        system="Be brief",
        messages=[{"role": "user", "content": "Hello there"}],
    )

    assert counted.input_tokens == reply.usage.input_tokens
    with pytest.raises(NotFoundError):
        await client.messages.count_tokens(model="claude-nobody", messages=[{"role": "user", "content": "Hello"}])


async def test_a_reply_names_the_requested_model(client: AsyncAnthropic) -> None:
    body = message_request("Hello")
    reply = await client.messages.create(
        model=str(body["model"]), max_tokens=9, messages=[{"role": "user", "content": "Hello"}]
    )

    assert reply.model == body["model"]
