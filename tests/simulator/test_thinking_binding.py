"""The checks of thinking blocks that come back: prefix, chain, model and account."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from mcp_server_claude.simulator import Pace, Simulator
from mcp_server_claude.simulator.json_body import as_integer, as_list, as_object, as_text
from mcp_server_claude.simulator.model_catalog import MODELS
from mcp_server_claude.simulator.thinking_binding import BINDING_BETA, can_read_thinking, read_signature
from support.simulator_connection import HEADERS, message_request, simulator_connection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from mcp_server_claude.simulator.json_body import Json, Object

pytestmark = pytest.mark.anyio
BOUND = [model.id for model in MODELS if model.prefix_check != "none"]
TOOL: Object = {"name": "look", "input_schema": {"type": "object"}}
WITH_BETA = HEADERS | {"anthropic-beta": BINDING_BETA}
DROP: Object = {"type": "adaptive", "block_binding": {"prefix_mismatch_behavior": "drop_block"}}


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(pace=Pace(ttft_s=0, tokens_per_s=0), enforce_thinking_binding=True) as opened:
        yield opened


async def post(
    simulator: Simulator, body: Object, headers: Mapping[str, str] = HEADERS, path: str = "/v1/messages"
) -> tuple[int, Object]:
    async with simulator_connection(simulator) as connection:
        connection.send(body, path=path, headers=headers)
        status, _, raw = await connection.read_response()
    return status, json.loads(raw)


async def conversation(
    simulator: Simulator, *prompts: str, headers: Mapping[str, str] = HEADERS, model: str = "claude-sonnet-5-5"
) -> Object:
    """The request that asks the last of the prompts, after every earlier one has been answered."""
    body = message_request(prompts[0], model=model, stream=False, system="Be brief", tools=[TOOL])
    for prompt in prompts[1:]:
        body = await next_turn(simulator, body, prompt, headers)
    return body


async def next_turn(simulator: Simulator, body: Object, prompt: str, headers: Mapping[str, str] = HEADERS) -> Object:
    status, answer = await post(simulator, body, headers)
    assert status == 200, answer
    messages: list[Json] = [
        *as_list(body["messages"]),
        {"role": "assistant", "content": answer["content"]},
        {"role": "user", "content": prompt},
    ]
    return {**body, "messages": messages}


def first_thinking(body: Object) -> Object:
    return as_object(as_list(as_object(as_list(body["messages"])[1])["content"])[0])


def message_of(error: Object) -> str:
    return as_text(as_object(error["error"])["message"])


@pytest.mark.parametrize("model", BOUND)
async def test_an_unchanged_conversation_passes_every_check(model: str, simulator: Simulator) -> None:
    body = await conversation(simulator, "One?", "Two?", "Three?", model=model)

    status, answer = await post(simulator, body)
    assert status == 200
    assert as_object(as_list(answer["content"])[0])["type"] == "thinking"
    assert "input_transformations" not in answer


def with_fields(body: Object, **fields: Json) -> Object:
    return {**body, **fields}


def without(body: Object, name: str) -> Object:
    return {key: value for key, value in body.items() if key != name}


def with_message(body: Object, index: int, message: Object) -> Object:
    messages = as_list(body["messages"])
    return with_fields(body, messages=[*messages[:index], message, *messages[index + 1 :]])


CHANGES: dict[str, Callable[[Object], Object]] = {
    "system": lambda body: with_fields(body, system="Be long"),
    "a system prompt that is gone": lambda body: without(body, "system"),
    "a tool more": lambda body: with_fields(body, tools=[TOOL, {**TOOL, "name": "hear"}]),
    "no tools": lambda body: without(body, "tools"),
    "an earlier question": lambda body: with_message(body, 0, {"role": "user", "content": "1?"}),
}


@pytest.mark.parametrize("model", BOUND)
@pytest.mark.parametrize("change", CHANGES)
async def test_a_changed_prefix_is_an_error_that_names_the_block(model: str, change: str, simulator: Simulator) -> None:
    body = await conversation(simulator, "One?", "Two?", model=model)
    edited = CHANGES[change](body)

    for path in ("/v1/messages", "/v1/messages/count_tokens"):
        status, error = await post(simulator, edited, path=path)
        assert status == 400
        assert message_of(error).startswith(
            "messages.1.content.0: Invalid `signature` in `thinking` block. The block is bound to a different "
            'conversation. Remove the block, or set `thinking.block_binding.prefix_mismatch_behavior` to "drop_block". '
            "That setting requires the `thinking-binding-controls-2026-08-01` value in the `anthropic-beta` header."
        )


CACHED: Json = [{"type": "text", "text": "Be brief", "cache_control": {"type": "ephemeral"}}]
ONE: Object = {"role": "user", "content": [{"type": "text", "text": "One?"}]}
UNCHANGED: dict[str, Callable[[Object], Object]] = {
    "effort": lambda body: with_fields(body, output_config={"effort": "low"}),
    "a limit": lambda body: with_fields(body, max_tokens=999),
    "a tool choice": lambda body: with_fields(body, tool_choice={"type": "none"}),
    "a cache breakpoint": lambda body: with_fields(body, system=CACHED),
    "a thinking display": lambda body: with_fields(body, thinking={"type": "adaptive", "display": "summarized"}),
    "blocks for a string": lambda body: with_message(body, 0, ONE),
    "no thinking at all": lambda body: with_message(body, 1, {"role": "assistant", "content": "Yes."}),
}


@pytest.mark.parametrize("change", UNCHANGED)
async def test_fields_outside_the_prefix_may_change(change: str, simulator: Simulator) -> None:
    body = await conversation(simulator, "One?", "Two?")

    status, answer = await post(simulator, UNCHANGED[change](body))
    assert status == 200, answer


async def test_thinking_may_be_dropped_from_the_front_but_not_from_the_middle(simulator: Simulator) -> None:
    body = await conversation(simulator, "One?", "Two?", "Three?", "Four?")
    for index, expected in ((1, 200), (3, 400), (5, 200)):
        message = as_object(as_list(body["messages"])[index])
        edited = with_message(body, index, {**message, "content": as_list(message["content"])[1:]})
        assert (await post(simulator, edited))[0] == expected, index


async def test_a_request_may_let_the_blocks_be_dropped(simulator: Simulator) -> None:
    body = await conversation(simulator, "One?", "Two?", "Three?")
    edited = with_fields(body, system="Be long", thinking=DROP)

    status, answer = await post(simulator, edited, WITH_BETA)
    assert status == 200
    assert answer["input_transformations"] == [
        {"type": "thinking_dropped", "path": f"messages.{index}.content.0", "reason": "prefix_binding_mismatch"}
        for index in (1, 3)
    ]
    later = await next_turn(simulator, edited, "Four?", WITH_BETA)
    _, answer = await post(simulator, later, WITH_BETA)
    assert len(as_list(answer["input_transformations"])) == 2


async def test_dropped_blocks_are_not_billed(simulator: Simulator) -> None:
    body = await conversation(simulator, "One?", "Two?")
    _, kept = await post(simulator, body)
    _, dropped = await post(simulator, with_fields(body, system="Be curt.", thinking=DROP), WITH_BETA)

    signature = read_signature(as_text(first_thinking(body)["signature"]))
    assert signature
    before, after = (as_integer(as_object(answer["usage"])["input_tokens"], 0) for answer in (kept, dropped))
    assert before == after + signature.tokens


async def test_an_error_after_the_beta_header_does_not_suggest_it(simulator: Simulator) -> None:
    body = await conversation(simulator, "One?", "Two?")

    _, error = await post(simulator, with_fields(body, system="Be long"), WITH_BETA)
    assert "anthropic-beta" not in message_of(error)


async def test_on_an_old_account_a_changed_prefix_passes_and_is_listed() -> None:
    async with Simulator(
        pace=Pace(ttft_s=0, tokens_per_s=0), enforce_thinking_binding=True, new_account=False
    ) as simulator:
        body = with_fields(await conversation(simulator, "One?", "Two?"), system="Be long")
        status, answer = await post(simulator, body, WITH_BETA)
        assert (status, as_object(as_list(answer["input_transformations"])[0])["type"]) == (
            200,
            "thinking_mismatch_allowed",
        )
        body = await conversation(simulator, "One?", "Two?", model="claude-fable-5-2")
        assert (await post(simulator, with_fields(body, system="Be long")))[0] == 400


async def test_a_signature_that_was_tampered_with_is_a_distinct_error(simulator: Simulator) -> None:
    body = await conversation(simulator, "One?", "Two?")
    block = first_thinking(body)
    block["signature"] = as_text(block["signature"])[:-8] + "AAAAAAA="

    status, error = await post(simulator, with_fields(body, thinking=DROP), WITH_BETA)
    assert (status, message_of(error)) == (400, "messages.1.content.0: Invalid `signature` in `thinking` block")


async def test_thinking_of_another_model_or_account_is_dropped_silently(simulator: Simulator) -> None:
    body = await conversation(simulator, "One?", "Two?", model="claude-opus-5-5")
    _, answer = await post(simulator, with_fields(body, model="claude-sonnet-5-5"), WITH_BETA)
    assert answer["input_transformations"] == [
        {"type": "thinking_dropped", "path": "messages.1.content.0", "reason": "model_binding_mismatch"}
    ]

    body = await conversation(simulator, "One?", "Two?")
    _, answer = await post(simulator, body, WITH_BETA | {"authorization": "Bearer another"})
    assert answer["input_transformations"] == [
        {"type": "thinking_dropped", "path": "messages.1.content.0", "reason": "organization_binding_mismatch"}
    ]


async def test_a_conversation_may_switch_to_another_model_and_back(simulator: Simulator) -> None:
    body = await conversation(simulator, "One?", "Two?")
    for model in ("claude-haiku-5-5", "claude-opus-5-5", "claude-sonnet-5-5", "claude-fable-5-2"):
        body = await next_turn(simulator, {**body, "model": model}, "And then?")

    _, answer = await post(simulator, {**body, "model": "claude-sonnet-5-5"}, WITH_BETA)
    assert {as_text(as_object(entry)["reason"]) for entry in as_list(answer["input_transformations"])} == {
        "model_binding_mismatch"
    }


def test_every_model_reads_its_own_thinking_and_only_related_models_read_that_of_fable_5_2() -> None:
    for model in MODELS:
        assert can_read_thinking(model, model)
    fable = next(model for model in MODELS if model.id == "claude-fable-5-2")
    assert {model.id for model in MODELS if can_read_thinking(model, fable)} == {
        "claude-fable-5-2",
        "claude-mythos-5-2",
    }
