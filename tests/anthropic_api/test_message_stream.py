from __future__ import annotations

import time
from itertools import pairwise
from typing import cast

import pytest
from anthropic import AsyncAnthropic, DefaultAsyncHttpxClient
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mcp_server_claude.anthropic_api.message_stream import MessageStream
from mcp_server_claude.call_types import MessageStart
from mcp_server_claude.lone_surrogates import replace_lone_surrogates
from support.quick_run import examples
from support.recorded_streams import (
    REQUEST_BODY,
    RecordedRun,
    ReplayTransport,
    message_events,
    recorded_stream,
    replay,
    sse_bytes,
    stream_names,
)

pytestmark = pytest.mark.anyio

GA_HELPER_IS_WRONG = {
    "sdk-python__compaction_response": "it does not know compaction_delta and leaves the block empty",
    "sdk-python__fallback_credit_response": "it drops usage fields that only message_delta carries: fallback_credit",
    "sdk-python__stream-a-refusal": "it drops usage fields that only message_delta carries: iterations",
    "sdk-python__stream-a-toolrefusal": "it drops usage fields that only message_delta carries: iterations",
    "sdk-python__stream-b-fallback": "it drops usage fields that only message_delta carries: iterations",
}
"""Where `messages.stream()` is wrong, and why. `beta.messages.stream()` is right there (and elsewhere names a field
`from_` that the API calls `from`)."""

BROKEN = {
    "derived__error-first-event": "overloaded",
    "derived__midstream-api_error": "api_error",
    "derived__midstream-overloaded": "overloaded",
    "derived__midstream-overloaded-nodetails": "overloaded",
    "derived__truncated-clean-eof": None,
    "derived__truncated-mid-frame": None,
}
"""Streams that end early, with the failure that is reported; a stream cut without a word has no stop reason."""


async def theirs(stream: bytes, *, beta: bool) -> dict[str, object]:
    """The message as the SDK's own helper puts it together."""
    http = DefaultAsyncHttpxClient(transport=ReplayTransport([stream]))
    async with AsyncAnthropic(api_key="any", max_retries=0, http_client=http) as client:
        request = {"model": "any", "max_tokens": 9, "messages": REQUEST_BODY["messages"]}
        manager = client.beta.messages.stream(**request) if beta else client.messages.stream(**request)  # type: ignore[arg-type]
        async with manager as helper:
            return (await helper.get_final_message()).model_dump(exclude_unset=True, warnings=False)


def ours(replayed: RecordedRun) -> dict[str, object]:
    answer = replayed.answer
    return {
        "content": [dict(block) for block in answer.blocks],
        "stop_reason": answer.stop_reason,
        "usage": answer.raw_usage,
    }


def the_same_of(message: dict[str, object]) -> dict[str, object]:
    usage = cast("dict[str, object]", message["usage"])
    known = {name: value for name, value in usage.items() if value is not None}
    return {"content": message["content"], "stop_reason": message.get("stop_reason"), "usage": known}


@pytest.mark.parametrize("name", [name for name in stream_names() if name not in BROKEN])
async def test_a_recorded_stream_gives_the_message_of_the_sdk_where_that_is_right(name: str) -> None:
    stream = recorded_stream(name)
    replayed = await replay(stream)
    assert replayed.failure is None
    assert ours(replayed) == the_same_of(await theirs(stream, beta=name in GA_HELPER_IS_WRONG))
    texts = [str(block["text"]) for block in replayed.answer.blocks if block["type"] == "text"]
    assert replayed.answer.text == replayed.event_text == "".join(texts)
    assert replayed.answer.request_id == "req_recorded"


@pytest.mark.parametrize("name", GA_HELPER_IS_WRONG)
async def test_each_listed_error_of_the_sdk_still_exists(name: str) -> None:
    stream = recorded_stream(name)
    assert ours(await replay(stream)) != the_same_of(await theirs(stream, beta=False))


@pytest.mark.parametrize(("name", "kind"), BROKEN.items())
async def test_a_broken_stream_is_recognised_as_incomplete(name: str, kind: str | None) -> None:
    replayed = await replay(recorded_stream(name))
    assert replayed.answer.stop_reason is None
    assert (replayed.failure.kind if replayed.failure else None) == kind
    assert replayed.answer.usage().estimated is (name != "derived__error-first-event")
    assert replayed.answer.usage().output_tokens >= len(replayed.answer.text) // 4


def split_at(stream: bytes, at: list[int]) -> list[bytes]:
    places = sorted({place % len(stream) for place in at} | {0, len(stream)})
    return [stream[begin:end] for begin, end in pairwise(places)]


@settings(deadline=None, max_examples=examples(150))
@given(st.sampled_from(stream_names()), st.lists(st.integers(0, 40_000), max_size=60))
async def test_the_place_of_a_cut_between_bytes_changes_nothing(name: str, at: list[int]) -> None:
    stream = recorded_stream(name)
    assert (await replay(*split_at(stream, at))).outcome() == (await replay(stream)).outcome()


@settings(deadline=None, max_examples=examples(100))
@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.lists(st.integers(0, 2000), max_size=40),
)
@example("é😀\u2028\u05d0\x85\x0b", "\r\n", list(range(2000)))
async def test_any_text_survives_any_framing_and_any_cut_inside_a_character(text: str, end: str, at: list[int]) -> None:
    replayed = await replay(*split_at(sse_bytes(*message_events(text, "", text), end=end), at))
    assert replayed.failure is None
    assert replayed.answer.text == replayed.event_text == text + text
    assert replayed.answer.stop_reason == "end_turn"


async def test_separate_halves_of_a_surrogate_pair_become_one_character() -> None:
    stream = sse_bytes(*message_events("\ud83d", "\ude00", "\ud83d"), escaped=True)
    assert replace_lone_surrogates((await replay(stream)).answer.text) == "\N{GRINNING FACE}\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize(
    ("deltas", "text"),
    [
        ([(0, "a\ud83d"), (7, "?"), (0, "\ude00b")], "a?\N{GRINNING FACE}b"),
        ([(0, "\ud83d"), (7, "\ud83d"), (7, "\ude00"), (0, "\ude01")], "\N{GRINNING FACE}\U0001f601"),
        ([(0, "\ud83d"), (7, "?"), (0, "b")], "?\N{REPLACEMENT CHARACTER}b"),
        (
            [(0, "a"), (7, "?\ud83d")],
            "a?\N{REPLACEMENT CHARACTER}",
        ),  # its block does not end: it is published with the message
    ],
)
async def test_text_of_another_block_does_not_split_a_surrogate_pair(deltas: list[tuple[int, str]], text: str) -> None:
    begin, start, *end = message_events()
    pieces = [
        {"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": piece}}
        for index, piece in deltas
    ]
    replayed = await replay(sse_bytes(begin, start, *pieces, *end, escaped=True))
    assert replayed.failure is None
    assert replace_lone_surrogates(replayed.event_text) == text


async def test_a_complete_message_in_the_first_event_is_read() -> None:
    begin, *_ = cast("list[dict[str, dict[str, object]]]", message_events())
    begin["message"] |= {"content": [{"type": "text", "text": "all at once"}], "stop_reason": "end_turn"}
    answer = (await replay(sse_bytes(begin, {"type": "message_stop"}))).answer
    assert (answer.text, answer.stop_reason) == ("all at once", "end_turn")
    assert not answer.usage().estimated


async def test_unknown_fields_of_the_api_are_preserved() -> None:
    begin, start, *rest = message_events("known")
    novelties: list[object] = [
        {"type": "content_block_start", "index": 1, "content_block": {"type": "dream", "scene": "a "}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "dream_delta", "scene": "sea"}},
        {"type": "content_block_stop", "index": 1},
        {"type": "weather", "sun": True},
    ]
    replayed = await replay(sse_bytes(begin, start, *novelties, *rest))
    assert replayed.failure is None
    assert replayed.answer.text == "known"
    assert replayed.answer.blocks[1] == {"type": "dream", "scene": "a sea"}
    assert not replayed.answer.has_only_text


async def test_the_input_of_a_tool_that_was_cut_is_its_readable_part() -> None:
    stream = recorded_stream("sdk-python__incomplete_partial_json_response")
    answer = (await replay(stream)).answer
    assert answer.stop_reason == "max_tokens"
    assert answer.blocks[-1]["type"] == "tool_use"
    assert isinstance(answer.blocks[-1]["input"], dict)


async def test_the_input_is_known_from_the_first_event_on() -> None:
    replayed = await replay(sse_bytes(*message_events("x")))
    started = [event for event in replayed.events if isinstance(event, MessageStart)]
    assert [event.usage.input_tokens for event in started] == [7]
    assert replayed.answer.usage().output_tokens == 5


def test_an_answer_is_empty_and_without_usage_before_its_first_event() -> None:
    answer = MessageStream(lambda _: None)
    usage = answer.usage()
    assert (answer.text, answer.blocks, answer.stop_reason) == ("", (), None)
    assert (usage.input_tokens, usage.output_tokens, usage.estimated) == (0, 0, False)
    assert answer.first_text_at is None or answer.first_text_at <= time.monotonic()


# --------------------------------------------------------------------- absurd and hostile values

ABSURD: list[object] = [-500, 2**63, 10**30, 1.5, [3]]


def stream_with(usage: object, **delta_usage: object) -> bytes:
    start, *rest = message_events("hello")
    message = cast("dict[str, dict[str, object]]", start)["message"] | {"usage": usage}
    events: list[object] = [{**cast("dict[str, object]", start), "message": message}, *rest]
    delta = next(each for each in events if cast("dict[str, object]", each)["type"] == "message_delta")
    cast("dict[str, object]", delta)["usage"] = delta_usage
    return sse_bytes(*events)


@pytest.mark.parametrize("value", ABSURD)
@pytest.mark.parametrize(
    "field", ["input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"]
)
async def test_a_count_that_is_no_number_of_tokens_is_unknown(field: str, value: object) -> None:
    replayed = await replay(stream_with({"input_tokens": 3, "output_tokens": 1}, **{"output_tokens": 2, field: value}))
    answer = replayed.answer
    assert (replayed.failure, answer.text, answer.stop_reason) == (None, "hello", "end_turn")
    assert answer.has_invalid_usage
    usage = answer.usage()
    assert usage.estimated
    counts = (usage.input_tokens, usage.output_tokens, usage.cache_read_input_tokens, usage.cache_creation_input_tokens)
    assert all(type(count) is int and 0 <= count < 2**53 for count in counts)


@pytest.mark.parametrize("value", ABSURD)
async def test_absurd_nested_counts_are_unknown_too(value: object) -> None:
    usage = {"input_tokens": 3, "server_tool_use": {"web_search_requests": value}}
    answer = (await replay(stream_with(usage, output_tokens=2))).answer
    assert answer.has_invalid_usage
    assert answer.usage().web_searches == 0


async def test_a_stream_without_message_start_is_not_an_answer() -> None:
    _, *rest = message_events("hello")
    replayed = await replay(sse_bytes(*rest))
    assert replayed.failure is not None
    assert replayed.failure.kind == "protocol"


async def test_names_from_upstream_hold_no_control_characters() -> None:
    start, *rest = message_events("hello")
    message = cast("dict[str, dict[str, object]]", start)["message"] | {"model": "claude\n\x1b[31mINFO forged"}
    answer = (await replay(sse_bytes({**cast("dict[str, object]", start), "message": message}, *rest))).answer
    assert answer.model.isprintable()
