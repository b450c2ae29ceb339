"""What the API refuses, by status and in its words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from anthropic import AsyncAnthropic, AuthenticationError, BadRequestError

from mcp_server_claude.simulator import Simulator
from mcp_server_claude.simulator.json_body import as_object, as_text
from support.simulator_connection import HEADERS, message_request, simulator_connection

if TYPE_CHECKING:
    from mcp_server_claude.simulator.json_body import Json, Object

pytestmark = pytest.mark.anyio
ERRORS = Path(__file__).parents[2].parent / "shared" / "streams" / "errors"
USER: Object = {"role": "user", "content": "Hello"}
TOOL: Json = [{"name": "look", "input_schema": {"type": "object"}}]
OLDER = "claude-haiku-4-5"


async def refusal(
    simulator: Simulator, body: Object | bytes, headers: dict[str, str] = HEADERS
) -> tuple[int, str, str]:
    async with simulator_connection(simulator) as line:
        line.send(body, headers=headers)
        status, response_headers, raw = await line.read_response()
    error: Object = json.loads(raw)
    assert response_headers["request-id"] == error["request_id"] == simulator.requests[-1].request_id
    assert error["type"] == "error"
    assert simulator.requests[-1].status == status
    return status, as_text(as_object(error["error"])["type"]), as_text(as_object(error["error"])["message"])


def without(name: str) -> Object:
    return {key: value for key, value in message_request("Hello").items() if key != name}


def saying(*messages: Object, model: str = "claude-sonnet-5-5") -> Object:
    return {**message_request("", model=model), "messages": [*messages]}


BREAKPOINT: Json = {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}
BAD: dict[str, tuple[Object, str]] = {
    "system message on a model that takes none": (
        saying(USER, {"role": "system", "content": "Be brief"}, model="claude-sonnet-5"),
        "role 'system' is not supported on this model",
    ),
    "system message in mid-turn": (
        saying(USER, {"role": "system", "content": "Be brief"}, USER),
        "messages.1: a system message follows",
    ),
    "citations beside a format": (
        message_request(
            "Hi",
            output_config={"format": {"type": "json_schema", "schema": {"type": "object"}}},
            tools=[{"type": "web_fetch_20260318", "name": "web_fetch", "citations": {"enabled": True}}],
        ),
        "output_config.format: structured outputs are not supported with citations",
    ),
    "five cache breakpoints": (
        message_request("Hi", system=[BREAKPOINT for _ in range(5)]),
        "A maximum of 4 blocks with cache_control may be provided. Found 5.",
    ),
    "inference geography on an older model": (
        message_request("Hi", model=OLDER, inference_geo="us"),
        "inference_geo:",
    ),
    "thinking between tools at the highest effort": (
        message_request("Hi", thinking={"type": "between_tools"}, output_config={"effort": "max"}),
        '"thinking.type.between_tools" takes no',
    ),
    "no max_tokens": (without("max_tokens"), "max_tokens: Field required"),
    "no model": (without("model"), "model: Field required"),
    "no messages": (without("messages"), "messages: Field required"),
    "empty messages": (saying(), "messages: at least one message is required"),
    "temperature": (message_request("Hi", temperature=1), "temperature: Extra inputs"),
    "top_p": (message_request("Hi", top_p=1), "top_p: Extra inputs"),
    "top_k": (message_request("Hi", top_k=1), "top_k: Extra inputs"),
    "too many tokens": (message_request("Hi", max_tokens=128_001), "max_tokens: 128001 > 128000"),
    "negative tokens": (message_request("Hi", max_tokens=-1), "max_tokens: Input should be"),
    "tokens as text": (message_request("Hi", max_tokens="9"), "max_tokens: Input should be a valid integer"),
    "empty text": (
        saying({"role": "user", "content": [{"type": "text", "text": ""}]}),
        "messages: text content blocks must be non-empty",
    ),
    "empty content": (message_request(""), "messages.0: user messages must have non-empty content"),
    "prefill": (
        saying(USER, {"role": "assistant", "content": "Well"}),
        "This model does not support assistant message prefill. The conversation must end with a user message.",
    ),
    "trailing whitespace": (
        saying(USER, {"role": "assistant", "content": "Well "}, model=OLDER),
        "messages: final assistant content cannot end with trailing whitespace",
    ),
    "assistant first": (saying({"role": "assistant", "content": "Hi"}, USER), "messages: first message must use"),
    "unknown role": (saying({"role": "tool", "content": "Hi"}), "messages.0.role: Input should be"),
    "unanswered tool call": (
        saying(USER, {"role": "assistant", "content": [{"type": "tool_use", "id": "t1"}]}, USER),
        "messages.1: `tool_use` ids were found without `tool_result` blocks immediately after: t1.",
    ),
    "effort": (
        message_request("Hi", model="claude-sonnet-4-6", output_config={"effort": "xhigh"}),
        "This model does not support effort level 'xhigh'. Supported levels: high, low, max, medium.",
    ),
    "no effort": (
        message_request("Hi", model=OLDER, output_config={"effort": "low"}),
        "This model does not support the effort",
    ),
    "enabled": (
        message_request("Hi", thinking={"type": "enabled", "budget_tokens": 1024}),
        '"thinking.type.enabled" is not supported for this model.',
    ),
    "adaptive": (
        message_request("Hi", model=OLDER, thinking={"type": "adaptive"}),
        '"thinking.type.adaptive" is not supported',
    ),
    "disabled": (
        message_request("Hi", model="claude-opus-5-5", thinking={"type": "disabled"}),
        '"thinking.type.disabled" is not supported',
    ),
    "small budget": (
        message_request("Hi", model=OLDER, thinking={"type": "enabled", "budget_tokens": 5}),
        "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024",
    ),
    "large budget": (
        message_request("Hi", model=OLDER, thinking={"type": "enabled", "budget_tokens": 4000}),
        "`max_tokens` must be greater than `thinking.budget_tokens`",
    ),
    "forced tool": (
        message_request("Hi", model="claude-opus-5-5", tools=TOOL, tool_choice={"type": "any"}),
        'tool_choice: type "tool" and "any" are not supported for this model.',
    ),
    "document": (
        saying(USER, {"role": "assistant", "content": [{"type": "document"}]}, USER),
        "messages.1.content.0: document blocks are not allowed",
    ),
    "too long": (message_request("x" * 800_004, model=OLDER), "prompt is too long: 200004 tokens > 200000 maximum"),
    "blank stop": (message_request("Hi", stop_sequences=[" "]), "stop_sequences.0: each stop sequence must contain"),
    "unknown directive": (message_request("Hi [[sim: nonsense=1]]"), "sim: there is no directive 'nonsense'."),
    "bad directive": (message_request("Hi [[sim: tokens=many]]"), "sim: 'tokens=many' cannot be read"),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_request_is_a_400_with_its_reason(name: str, simulator: Simulator) -> None:
    body, sentence = BAD[name]
    status, kind, message = await refusal(simulator, body)

    assert (status, kind) == (400, "invalid_request_error")
    assert message.startswith(sentence)


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"\xff"])
async def test_a_body_that_is_no_json_object_is_a_400(raw: bytes, simulator: Simulator) -> None:
    assert (await refusal(simulator, raw))[0] == 400


async def test_under_the_old_version_sampling_parameters_are_accepted(simulator: Simulator) -> None:
    async with simulator_connection(simulator) as line:
        line.send(
            message_request("Hi", temperature=1, stream=False), headers=HEADERS | {"anthropic-version": "2023-06-01"}
        )
        status, _, _ = await line.read_response()

    assert status == 200


@pytest.mark.parametrize("version", ["", "2030-01-01"])
async def test_a_version_is_required_and_checked(version: str, simulator: Simulator) -> None:
    status, _, message = await refusal(simulator, message_request("Hi"), HEADERS | {"anthropic-version": version})

    assert status == 400
    assert message.startswith("anthropic-version: ")


@pytest.mark.parametrize("model", ["claude-does-not-exist", "claude-opus-4-20250514", "claude-opus-4-0"])
async def test_an_unknown_or_retired_model_is_a_404(model: str, simulator: Simulator) -> None:
    assert await refusal(simulator, message_request("Hi", model=model)) == (404, "not_found_error", f"model: {model}")


async def test_a_body_over_32_mb_is_a_413(simulator: Simulator) -> None:
    raw = b" " * (32 * 1024 * 1024 + 1)

    assert (await refusal(simulator, raw))[:2] == (413, "request_too_large")


async def test_a_request_without_a_key_is_a_401(simulator: Simulator) -> None:
    headers = {name: value for name, value in HEADERS.items() if name != "authorization"}

    assert (await refusal(simulator, message_request("Hi"), headers))[:2] == (401, "authentication_error")
    assert simulator.requests[0].credential_header == "none"


async def test_where_a_key_is_configured_any_other_is_a_401() -> None:
    async with Simulator(key="right", defaults="ttft=0 pace=0") as simulator:
        async with AsyncAnthropic(api_key="wrong", base_url=simulator.url) as wrong:
            with pytest.raises(AuthenticationError):
                await wrong.models.list()
        async with AsyncAnthropic(api_key="right", base_url=simulator.url) as right:
            await right.models.list()
        async with simulator_connection(simulator) as line:
            headers = {"host": "x", "anthropic-version": "2026-10-21", "x-api-key": "right"}
            line.send(message_request("Hi", stream=False), headers=headers)
            status, _, _ = await line.read_response()

    assert status == 200
    assert [record.credential_header for record in simulator.requests] == ["bearer", "bearer", "x-api-key"]
    assert "right" not in json.dumps([record.log_entry() for record in simulator.requests])


async def test_the_sdk_raises_its_own_error_for_a_rejection(client: AsyncAnthropic) -> None:
    with pytest.raises(BadRequestError) as raised:
        await client.messages.create(model="claude-opus-5-5", max_tokens=9, messages=[])

    assert raised.value.type == "invalid_request_error"
    assert raised.value.api_message == "messages: at least one message is required"


async def test_recorded_errors_are_answered_with_the_same_text(simulator: Simulator) -> None:
    if not ERRORS.exists():
        pytest.skip("the recorded errors (shared/streams/errors beside the checkout) are not here")
    for file in sorted(ERRORS.glob("*.json")):
        real: Object = json.loads(file.read_text(encoding="utf-8"))
        error = as_object(as_object(real["body"])["error"])
        body, model = as_object(real["request"]), as_text(as_object(real["request"])["model"])
        if "context_length" in file.name or "auth_error" in file.name or model == "claude-opus-4-6":
            continue  # prompts that were not kept, keys that were wrong, a model that is not served
        body.setdefault("max_tokens", 9)
        assert await refusal(simulator, body) == (real["status"], error["type"], error["message"])
