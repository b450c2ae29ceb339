r"""The encoding of events: exact for every parser of the standard, and readable for the parsers that are not."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from mcp_server_claude.calls.answer_feed import DoneEvent, FeedEvent, StartEvent, TextEvent
from mcp_server_claude.web.routes.server_sent_events import SseEncoder

CALL = "c_0123456789abcdef"
TEXTS = st.lists(st.text(alphabet="ab \n\r\té.", max_size=6), max_size=12)


def encoded(chunks: list[str], *, is_json: bool = False) -> list[str]:
    """The events of an answer that arrives in these chunks, each without its empty line."""
    encoder, offset = SseEncoder(CALL, is_json=is_json), 0
    sent = encoder.encode_event(FeedEvent(0, StartEvent(CALL, "t_1", "sonnet")))
    for chunk in chunks:
        offset += len(chunk)
        sent += encoder.encode_event(FeedEvent(offset, TextEvent(chunk)))
    done = DoneEvent(complete=True, incomplete="", stop_reason="end_turn", notes=(), files=())
    sent += encoder.encode_event(FeedEvent(offset, done))
    return sent.decode().split("\n\n")[:-1]


def text_events(events: list[str]) -> list[str]:
    """The data of the unnamed events, by the HTML standard."""
    unnamed = [event.split("\n") for event in events if "\nevent: " not in f"\n{event}"]
    return ["\n".join(line.removeprefix("data:").removeprefix(" ") for line in lines[1:]) for lines in unnamed]


def normalized(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


@given(TEXTS)
def test_the_events_joined_are_the_answer_with_its_line_ends_normalized(chunks: list[str]) -> None:
    assert "".join(text_events(encoded(chunks))) == normalized("".join(chunks))


@given(TEXTS)
def test_no_event_but_the_first_begins_with_white_space_and_none_but_the_last_ends_with_a_line_break(
    chunks: list[str],
) -> None:
    events = text_events(encoded(chunks))
    assert not any(text[0].isspace() for text in events[1:])
    assert not any(text.endswith("\n") for text in events[:-1])


@given(TEXTS)
def test_an_id_counts_the_characters_that_were_sent(chunks: list[str]) -> None:
    answer, sent = "".join(chunks), ""
    events = encoded(chunks)
    for event, text in zip(
        [event for event in events if "\nevent: " not in f"\n{event}"], text_events(events), strict=True
    ):
        sent += text
        offset = int(event.split("\n")[0].rpartition(":")[2])
        assert normalized(answer[:offset]) == sent


@given(TEXTS)
def test_a_reader_that_searches_for_data_and_a_space_gets_exactly_the_answer(chunks: list[str]) -> None:
    lines = "\n\n".join(encoded(chunks)).split("\n")
    seen = "".join(line.removeprefix("data: ") for line in lines if line.startswith("data: "))
    assert seen == normalized("".join(chunks)).replace("\n", "")


def test_named_events_are_json_without_the_optional_space() -> None:
    start = encoded([])[0].split("\n")
    assert start[:2] == [f"id: {CALL}:0", "event: start"]
    assert json.loads(start[2].removeprefix("data:")) == {"call": CALL, "thread": "t_1", "model": "sonnet"}
    assert start[2].startswith("data:{")


def test_json_is_one_event() -> None:
    assert text_events(encoded(['{"a": 1}'], is_json=True)) == ['{"a": 1}']
