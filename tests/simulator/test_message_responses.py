"""What the installed SDK makes of the simulator's answers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from mcp_server_claude.simulator import directive
from mcp_server_claude.simulator.json_body import as_object
from support.simulator_connection import message_request, parse_events, read_stream

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic
    from anthropic.types import MessageParam

    from mcp_server_claude.simulator import Simulator
    from mcp_server_claude.simulator.json_body import Json

pytestmark = pytest.mark.anyio
PROMPT = "Explain optimistic locking to a tired colleague"
GO_ON = (
    "Your previous response was interrupted. It ended with: {end!r}. "
    "Begin by repeating the last 40 characters, then continue exactly from there."
)
WEATHER: dict[str, object] = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1}},
    "required": ["city", "days"],
}
CLOSED_WEATHER: dict[str, object] = {
    **WEATHER,
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "additionalProperties": False,
}


async def test_streamed_and_complete_answers_have_the_same_text(client: AsyncAnthropic, simulator: Simulator) -> None:
    expected = simulator.answer_to(message_request(PROMPT))
    async with client.messages.stream(
        model="claude-sonnet-5-5", max_tokens=4000, messages=[{"role": "user", "content": PROMPT}]
    ) as stream:
        final = await stream.get_final_message()
    complete = await client.messages.create(
        model="claude-sonnet-5-5", max_tokens=4000, messages=[{"role": "user", "content": PROMPT}]
    )

    assert final.content[0].type == "text"
    assert complete.content[0].type == "text"
    assert final.content[0].text == complete.content[0].text == expected
    assert [record.text for record in simulator.requests] == [expected, expected]
    assert final.usage.output_tokens == complete.usage.output_tokens == simulator.requests[0].output_tokens


def test_different_prompts_have_different_answers_that_mention_them() -> None:
    from mcp_server_claude.simulator.generated_text import generate_answer

    one, two = generate_answer("Name a pelican"), generate_answer("Name a pelican", turn_number=2)

    assert one != two
    assert one != generate_answer("Name a pelican", system="Be brief")
    assert "“Name a pelican”" in one
    assert 100 <= len(one) // 4 <= 300


@pytest.mark.parametrize("tokens", [1, 2, 7, 100, 5000])
async def test_tokens_sets_the_exact_length(tokens: int, client: AsyncAnthropic) -> None:
    reply = await client.messages.create(
        model="claude-sonnet-5-5",
        max_tokens=8000,
        messages=[{"role": "user", "content": f"Tell me [[sim: tokens={tokens}]]"}],
    )

    assert reply.usage.output_tokens == tokens


@pytest.mark.parametrize("text", ["", "é", "a\r\nb\u2028c\x00d", "😀" * 30, "\ud83d lonely", '{\n  "a": 1}'])
@pytest.mark.parametrize("keys", ["chars=1", "chars=3", "split=surrogates", "split=surrogates chars=5"])
async def test_an_exact_text_arrives_exactly(text: str, keys: str, simulator: Simulator) -> None:
    prompt = f"Say it {directive(text=text)} [[sim: {keys}]]"

    deltas = [as_object(e.get("delta")) for e in parse_events(await read_stream(simulator, message_request(prompt)))]

    joined = "".join(str(delta["text"]) for delta in deltas if delta.get("type") == "text_delta")
    assert joined.encode("utf-16-le", "surrogatepass") == text.encode("utf-16-le", "surrogatepass")
    assert simulator.answer_to(message_request(prompt)) == simulator.requests[0].text == text


async def test_split_surrogates_arrive_as_two_escapes_in_two_deltas(simulator: Simulator) -> None:
    raw = await read_stream(simulator, message_request(f"{directive(text='x😀y', split='surrogates')}"))

    assert b'"text":"x\\ud83d"}' in raw
    assert b'"text":"\\ude00y"}' in raw


async def test_max_tokens_cuts_the_answer_and_counts_thinking(client: AsyncAnthropic) -> None:
    reply = await client.messages.create(
        model="claude-opus-5-5", max_tokens=60, messages=[{"role": "user", "content": f"{PROMPT} [[sim: think=20]]"}]
    )

    assert reply.stop_reason == "max_tokens"
    assert reply.usage.output_tokens == 60
    assert reply.usage.output_tokens_details
    assert reply.usage.output_tokens_details.thinking_tokens == 20
    assert [block.type for block in reply.content] == ["thinking", "text"]


async def test_max_tokens_can_end_within_the_thinking(client: AsyncAnthropic) -> None:
    reply = await client.messages.create(
        model="claude-opus-5-5", max_tokens=10, messages=[{"role": "user", "content": PROMPT}]
    )

    assert (reply.stop_reason, [block.type for block in reply.content]) == ("max_tokens", ["thinking"])
    assert reply.usage.output_tokens == 10


async def test_max_tokens_of_zero_warms_the_cache_and_returns_no_text(client: AsyncAnthropic) -> None:
    reply = await client.messages.create(
        model="claude-opus-5-5", max_tokens=0, messages=[{"role": "user", "content": PROMPT}]
    )

    assert (reply.content, reply.stop_reason, reply.usage.output_tokens) == ([], "max_tokens", 0)


async def test_a_stop_sequence_ends_the_answer_before_it(client: AsyncAnthropic, simulator: Simulator) -> None:
    reply = await client.messages.create(
        model="claude-sonnet-5-5",
        max_tokens=4000,
        stop_sequences=["never", "###"],
        messages=[{"role": "user", "content": PROMPT}],
    )

    assert (reply.stop_reason, reply.stop_sequence) == ("stop_sequence", "###")
    assert simulator.answer_to(message_request(PROMPT)).split("###")[0] == simulator.requests[0].text


@pytest.mark.parametrize("reason", ["max_tokens", "refusal", "pause_turn", "model_context_window_exceeded"])
async def test_stop_ends_the_answer_in_the_middle_for_any_reason(
    reason: str, client: AsyncAnthropic, simulator: Simulator
) -> None:
    async with client.messages.stream(
        model="claude-sonnet-5-5",
        max_tokens=4000,
        messages=[{"role": "user", "content": f"{PROMPT} [[sim: stop={reason}]]"}],
    ) as stream:
        final = await stream.get_final_message()

    assert final.stop_reason == simulator.requests[0].stop_reason == reason
    assert (final.stop_details is not None) == (reason == "refusal")
    assert simulator.answer_to(message_request(PROMPT)).startswith(simulator.requests[0].text)


async def test_a_paused_turn_sent_back_unchanged_continues_to_the_end(
    client: AsyncAnthropic, simulator: Simulator
) -> None:
    prompt: MessageParam = {"role": "user", "content": f"{PROMPT} [[sim: stop=pause_turn]]"}
    first = await client.messages.create(model="claude-opus-5-5", max_tokens=4000, messages=[prompt])
    second = await client.messages.create(
        model="claude-opus-5-5", max_tokens=4000, messages=[prompt, {"role": "assistant", "content": first.content}]
    )

    assert (first.stop_reason, second.stop_reason) == ("pause_turn", "end_turn")
    assert "server_tool_use" in [block.type for block in first.content]
    assert "".join(record.text for record in simulator.requests) == simulator.answer_to(message_request(PROMPT))


async def test_hidden_thinking_is_a_signature_without_text(client: AsyncAnthropic) -> None:
    async with client.messages.stream(
        model="claude-opus-5-5", max_tokens=4000, messages=[{"role": "user", "content": PROMPT}]
    ) as stream:
        kinds = [e.delta.type async for e in stream if e.type == "content_block_delta"]
        final = await stream.get_final_message()

    assert kinds[0] == "signature_delta"
    assert "thinking_delta" not in kinds
    assert final.content[0].type == "thinking"
    assert (final.content[0].thinking, bool(final.content[0].signature)) == ("", True)


async def test_summarized_thinking_is_streamed(client: AsyncAnthropic) -> None:
    async with client.messages.stream(
        model="claude-opus-5-5",
        max_tokens=4000,
        thinking={"type": "adaptive", "display": "summarized"},
        messages=[{"role": "user", "content": PROMPT}],
    ) as stream:
        final = await stream.get_final_message()

    assert final.content[0].type == "thinking"
    assert final.usage.output_tokens_details
    assert len(final.content[0].thinking) == 4 * final.usage.output_tokens_details.thinking_tokens


async def test_the_token_count_beta_estimates_hidden_thinking(client: AsyncAnthropic) -> None:
    stream = await client.beta.messages.create(
        model="claude-opus-5-5",
        max_tokens=4000,
        betas=["thinking-token-count-2026-05-13"],
        stream=True,
        messages=[{"role": "user", "content": "Hm [[sim: think=64]]"}],
    )
    async with stream:
        deltas = [event.delta async for event in stream if event.type == "content_block_delta"]

    assert sum(delta.estimated_tokens or 0 for delta in deltas if delta.type == "thinking_delta") == 64


async def test_a_forced_tool_is_called_with_plausible_input(client: AsyncAnthropic) -> None:
    async with client.messages.stream(
        model="claude-sonnet-5",
        max_tokens=4000,
        tools=[{"name": "other", "input_schema": {}}, {"name": "weather", "input_schema": WEATHER}],
        tool_choice={"type": "tool", "name": "weather"},
        messages=[{"role": "user", "content": PROMPT}],
    ) as stream:
        pieces = [event.partial_json async for event in stream if event.type == "input_json"]
        final = await stream.get_final_message()

    assert final.stop_reason == "tool_use"
    assert final.content[0].type == "tool_use"
    assert (final.content[0].name, set(final.content[0].input)) == ("weather", {"city", "days"})
    assert len(pieces) > 2


async def test_after_a_tools_result_the_answer_quotes_it(client: AsyncAnthropic) -> None:
    prompt: MessageParam = {"role": "user", "content": "What is the weather? [[sim: stop=tool_use]]"}
    first = await client.messages.create(
        model="claude-opus-5-5",
        max_tokens=4000,
        tools=[{"name": "weather", "input_schema": WEATHER}],
        messages=[prompt],
    )
    call = first.content[-1]
    assert call.type == "tool_use"
    second = await client.messages.create(
        model="claude-opus-5-5",
        max_tokens=4000,
        tools=[{"name": "weather", "input_schema": WEATHER}],
        messages=[
            prompt,
            {"role": "assistant", "content": first.content},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "Rain at noon"}]},
        ],
    )

    assert second.stop_reason == "end_turn"
    assert second.content[-1].type == "text"
    assert "“Rain at noon”" in second.content[-1].text


async def test_a_web_search_returns_results_citations_and_a_count(client: AsyncAnthropic) -> None:
    async with client.messages.stream(
        model="claude-sonnet-5-5",
        max_tokens=4000,
        tools=[{"type": "web_search_20250305", "name": "web_search"}],
        messages=[{"role": "user", "content": "Search for pelicans in Bavaria"}],
    ) as stream:
        final = await stream.get_final_message()

    assert [block.type for block in final.content] == ["server_tool_use", "web_search_tool_result", "text", "text"]
    assert final.content[-1].type == "text"
    assert final.content[-1].citations
    assert final.usage.server_tool_use
    assert final.usage.server_tool_use.web_search_requests == 1


async def test_a_schema_is_answered_with_valid_json(client: AsyncAnthropic) -> None:
    reply = await client.messages.create(
        model="claude-opus-5-5",
        max_tokens=4000,
        output_config={"format": {"type": "json_schema", "schema": CLOSED_WEATHER}},
        messages=[{"role": "user", "content": PROMPT}],
    )

    assert reply.content[-1].type == "text"
    found = json.loads(reply.content[-1].text)
    assert isinstance(found["city"], str)
    assert isinstance(found["days"], int)


@pytest.mark.parametrize("cut", [1, 57, 200])
async def test_a_prefill_is_continued_to_the_original_answer(cut: int, simulator: Simulator) -> None:
    body = message_request(PROMPT, model="claude-haiku-4-5")
    complete = simulator.answer_to(body)
    partial = complete[:cut].rstrip()
    body["messages"] = [{"role": "user", "content": PROMPT}, {"role": "assistant", "content": partial}]

    await read_stream(simulator, body)

    assert partial + simulator.requests[0].text == complete
    assert simulator.requests[0].is_continuation


@pytest.mark.parametrize("model", ["claude-opus-5-5", "claude-sonnet-4-6"])
async def test_an_interrupted_answer_is_continued_from_its_repeated_end(model: str, simulator: Simulator) -> None:
    complete = simulator.answer_to(message_request(PROMPT))
    partial = complete[:123]
    body = message_request(PROMPT, model=model)
    body["messages"] = [
        {"role": "user", "content": PROMPT},
        {"role": "assistant", "content": partial},
        {"role": "user", "content": GO_ON.format(end=partial[-40:])},
    ]

    await read_stream(simulator, body)

    assert partial[:-40] + simulator.requests[0].text == complete


async def test_a_partial_answer_with_the_stray_text_of_a_fault_is_continued_where_it_ends(simulator: Simulator) -> None:
    complete = simulator.answer_to(message_request(PROMPT))
    partial = f"?{complete[:40]}?{complete[40:100]}"
    body = message_request(PROMPT, model="claude-haiku-4-5")
    body["messages"] = [{"role": "user", "content": PROMPT}, {"role": "assistant", "content": partial}]
    prefilled = simulator.answer_to(body)
    body = message_request(PROMPT, model="claude-sonnet-4-6")
    body["messages"] = [
        {"role": "user", "content": PROMPT},
        {"role": "assistant", "content": partial},
        {"role": "user", "content": GO_ON},
    ]
    repeated = simulator.answer_to(body)

    assert prefilled == complete[100:]
    assert repeated == partial[-40:] + complete[100:]


async def test_a_continuation_that_is_cut_again_can_be_continued(simulator: Simulator) -> None:
    prompt = f"{PROMPT} [[sim: anchor=off]]"
    complete = simulator.answer_to(message_request(prompt))
    messages: list[Json] = [{"role": "user", "content": prompt}]
    for start, end in ((0, 90), (90, 180)):
        messages.append({"role": "assistant", "content": complete[start:end]})
        messages.append({"role": "user", "content": GO_ON})
    body = message_request(prompt)
    body["messages"] = messages

    await read_stream(simulator, body)

    assert complete[:180] + simulator.requests[0].text == complete


async def test_a_request_to_continue_a_finished_answer_is_a_new_question(simulator: Simulator) -> None:
    body = message_request(PROMPT)
    complete = simulator.answer_to(body)
    body["messages"] = [
        {"role": "user", "content": PROMPT},
        {"role": "assistant", "content": complete},
        {"role": "user", "content": "Please continue with an example"},
    ]

    assert "in the second turn" in simulator.answer_to(body)
