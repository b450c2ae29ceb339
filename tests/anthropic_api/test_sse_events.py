"""Events split out of bytes, and what a stream is judged by: the data of its events, in their order."""

from __future__ import annotations

import json
from itertools import combinations_with_replacement, pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_server_claude.anthropic_api.sse_events import (
    ErrorEventError,
    EventSplitter,
    MalformedEventError,
    parse_event,
    parse_json,
)
from mcp_server_claude.call_types import TextDelta
from support.recorded_streams import message_events, replay, sse_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

pytestmark = pytest.mark.anyio

STREAM = (
    b'\xef\xbb\xbf: hello\n\nevent: a\ndata: {"n": 1}\n\ndata: 2\ndata: 3\nid: x\n\n'
    b"event: b\ndata:4\n\n\ndata: 5\n\nevent: empty\n\ndata: 6"
)
EVENTS = [(b"a", b'{"n": 1}'), (b"", b"2\n3"), (b"b", b"4"), (b"", b"5"), (b"", b"6")]


def split(chunks: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    splitter = EventSplitter()
    return [event for chunk in chunks for event in splitter.feed(chunk)] + splitter.finish()


@given(cuts=st.lists(st.integers(0, 2 * len(STREAM)), max_size=12), line_end=st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_events_are_independent_of_cuts_and_line_endings(cuts: list[int], line_end: bytes) -> None:
    stream = STREAM.replace(b"\n", line_end)
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    assert split([stream[start:end] for start, end in pairwise(places)]) == EVENTS


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("before", [b"\n", b"\n\n", b"\n\n\n", b": hi\n\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n\n"])
def test_a_byte_order_mark_after_the_first_bytes_is_part_of_its_line_however_it_is_cut(
    before: bytes, line_end: bytes
) -> None:
    stream = (before + b"\xef\xbb\xbfdata: 1\n\ndata: 2\n\n").replace(b"\n", line_end)
    cuts = combinations_with_replacement(range(len(stream) + 1), 2)
    assert all(split([stream[:first], stream[first:last], stream[last:]]) == [(b"", b"2")] for first, last in cuts)
    assert split([stream[at : at + 1] for at in range(len(stream))]) == [(b"", b"2")]


LINES = (
    b"event: a",
    b"event:  b",
    b"event: ",
    b"event",
    b'data: {"n": 1}',
    b"data: ",
    b"data:2",
    b"data: event: a",
    b": hello",
    b"id: x",
    b"xevent: a",
    b"",
)


def events_by_the_standard(lines: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    """The events of a stream, line by line (WHATWG HTML, "Interpreting an event stream")."""
    events: list[tuple[bytes, bytes]] = []
    name, data = b"", list[bytes]()
    for line in [*lines, b""]:
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"event":
            name = value
        elif field == b"data":
            data.append(value)
        elif not line:
            events += [(name, b"\n".join(data))] if data else []
            name, data = b"", []
    return events


@given(
    lines=st.lists(st.sampled_from(LINES) | st.sampled_from(LINES[:5:4]), max_size=24),
    usual=st.integers(0, 3),
    cut=st.integers(0, 200),
)
def test_events_in_any_form_are_read_by_the_standard(lines: list[bytes], usual: int, cut: int) -> None:
    lines = [b"event: first", b"data: 0", b"", *([b"event: a", b"data: {}", b""] * usual), *lines, b""]
    stream = b"".join(line + b"\n" for line in lines)
    first, rest = stream[:23], stream[23:]
    assert split([first, rest]) == events_by_the_standard(lines)
    assert split([first, rest[:cut], rest[cut:]]) == events_by_the_standard(lines)


def test_data_that_repeats_the_beginning_of_an_event_is_read_once() -> None:
    """A page about such events, from a gateway that names none. With a search from each of them this takes hours."""
    data = b"event: " * 1_000_000
    assert split([b": hi\n\ndata: " + data + b"\n\n"]) == [(b"", data)]


def test_an_event_is_delivered_as_soon_as_its_blank_line_arrives() -> None:
    for line_end in (b"\n", b"\r\n", b"\r"):
        splitter = EventSplitter()
        assert splitter.feed(b"data: 1" + line_end) == []
        assert splitter.feed(line_end) == [(b"", b"1")]


@pytest.mark.parametrize("name", [b"", b"content_block_delta", b"ping", b"error", b"content_bl\xffck"])
def test_the_type_in_the_data_outranks_the_event_name(name: bytes) -> None:
    assert parse_event(name, b'{"type": "content_block_stop", "index": 0}') == {
        "type": "content_block_stop",
        "index": 0,
    }


@pytest.mark.parametrize(
    ("name", "data"), [(b"ping", b"{}"), (b"", b'{"type": "ping"}'), (b"", b"[DONE]"), (b"x", b"")]
)
def test_pings_and_events_without_data_are_passed_over(name: bytes, data: bytes) -> None:
    assert parse_event(name, data) is None


@pytest.mark.parametrize("data", [b"{", b"[]", b"7", b'{"type": 3}', b'{"no": "type"}', b"\xff", b"[" * 5000])
def test_data_that_is_no_object_with_a_type_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedEventError):
        parse_event(b"content_block_delta", data)


@pytest.mark.parametrize(
    ("name", "data"), [(b"", b'{"type": "error", "error": {}}'), (b"error", b"{}"), (b"error", b"out of cheese")]
)
def test_an_error_is_raised_with_its_body(name: bytes, data: bytes) -> None:
    with pytest.raises(ErrorEventError) as raised:
        parse_event(name, data)
    assert raised.value.body == (json.loads(data) if data.startswith(b"{") else data.decode())


def test_halves_of_surrogate_pairs_are_preserved() -> None:
    assert parse_json(b'{"a": "\\ud83d"}') == {"a": "\ud83d"}


# --------------------------------------------------------------------- a whole stream, as every call reads it


def parsed_events() -> list[Any]:
    return list(message_events("Hello."))


def events_without(kind: str) -> list[Any]:
    return [event for event in parsed_events() if event["type"] != kind]


async def test_a_damaged_event_line_loses_no_text() -> None:
    complete = sse_bytes(*message_events("Hello."))
    for damaged in (b"event: content_block_d", b"event: ping", b"evnt: content_block_delta", b": comment"):
        replayed = await replay(complete.replace(b"event: content_block_delta", damaged))
        assert (replayed.answer.text, replayed.failure, replayed.answer.stop_reason) == ("Hello.", None, "end_turn")


async def test_nothing_counts_after_the_end_of_the_message() -> None:
    complete = sse_bytes(*message_events("Hello."))
    for more in (
        complete,
        sse_bytes(*message_events("Other.")),
        b"event: x\ndata: {\n\n",
        sse_bytes({"type": "error", "error": {}}),
    ):
        replayed = await replay(complete, more)
        assert (replayed.answer.text, replayed.failure, replayed.answer.stop_reason) == ("Hello.", None, "end_turn")
        joined = await replay(complete + more)
        assert joined.outcome() == replayed.outcome()


async def test_a_stream_that_does_not_begin_with_message_start_is_malformed() -> None:
    replayed = await replay(sse_bytes(*events_without("message_start")))
    assert replayed.failure is not None
    assert (replayed.failure.kind, replayed.answer.text, replayed.answer.stop_reason) == ("protocol", "", None)


async def test_a_second_message_start_is_malformed() -> None:
    start, *rest = message_events("Hello.")
    replayed = await replay(sse_bytes(start, start, *rest))
    assert replayed.failure is not None
    assert replayed.failure.kind == "protocol"


async def test_text_for_a_block_that_was_never_started_is_preserved() -> None:
    replayed = await replay(sse_bytes(*events_without("content_block_start")))
    assert (replayed.answer.text, replayed.failure, replayed.answer.blocks) == (
        "Hello.",
        None,
        ({"type": "text", "text": "Hello."},),
    )


async def test_a_refusal_outranks_any_later_stop_reason() -> None:
    *events, delta, stop = parsed_events()
    refusal = {**delta, "delta": {"stop_reason": "refusal"}}
    replayed = await replay(sse_bytes(*events, refusal, delta, stop))
    assert replayed.answer.stop_reason == "refusal"


async def test_text_before_a_malformed_event_of_the_same_read_is_preserved() -> None:
    start, block, text, *_ = message_events("Hello.")
    replayed = await replay(sse_bytes(start, block, text) + b"data: {\n\n")
    assert replayed.failure is not None
    assert (replayed.failure.kind, replayed.answer.text) == ("protocol", "Hello.")


async def test_a_message_with_an_unreadable_event_after_its_stop_reason_is_not_complete() -> None:
    start, block, text, *_, delta, stop = parsed_events()
    for broken in (b"event: x\ndata: {\n\n", sse_bytes({"type": "content_block_delta", "index": "0", "delta": {}})):
        replayed = await replay(sse_bytes(start, block, text, delta) + broken + sse_bytes(text, stop))
        assert replayed.failure is not None
        assert (replayed.failure.kind, replayed.answer.stop_reason, replayed.answer.text) == (
            "protocol",
            None,
            "Hello.",
        )


@pytest.mark.parametrize("kind", [{"a": 1}, ["text"], 7, None])
async def test_a_block_with_an_invalid_type_is_malformed(kind: object) -> None:
    start, block, *rest = parsed_events()
    replayed = await replay(sse_bytes(start, {**block, "content_block": {"type": kind}}, *rest))
    assert replayed.failure is not None
    assert replayed.failure.kind == "protocol"


async def test_deltas_of_one_read_are_delivered_together() -> None:
    start, block, text, *rest = message_events("Hello.")
    replayed = await replay(sse_bytes(start, block, text, text, text, *rest))
    assert [event.text for event in replayed.events if isinstance(event, TextDelta)] == ["Hello." * 3]


@pytest.mark.parametrize("count", [-1, 2**63, 2**53 + 1, True, "7", 1.5, [1], 10**30])
@pytest.mark.parametrize("field", ["input_tokens", "output_tokens", "cache_read_input_tokens"])
async def test_an_invalid_count_is_unknown(field: str, count: object) -> None:
    start, *rest, delta, stop = parsed_events()
    usage: Mapping[str, object] = {"output_tokens": 5, field: count}
    replayed = await replay(sse_bytes(start, *rest, {**delta, "usage": usage}, stop))
    assert (replayed.failure, replayed.answer.text, replayed.answer.has_invalid_usage) == (None, "Hello.", True)
    used = replayed.answer.usage()
    assert used.estimated
    assert all(0 <= number < 100 for number in (used.input_tokens, used.output_tokens, used.cache_read_input_tokens))


async def test_a_negative_number_of_searches_counts_as_none() -> None:
    start, *rest, delta, stop = parsed_events()
    usage = {"output_tokens": 5, "server_tool_use": {"web_search_requests": -500}}
    replayed = await replay(sse_bytes(start, *rest, {**delta, "usage": usage}, stop))
    assert (replayed.answer.usage().web_searches, replayed.answer.has_invalid_usage) == (0, True)
