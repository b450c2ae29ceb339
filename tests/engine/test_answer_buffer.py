from __future__ import annotations

import gc
import tracemalloc

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mcp_server_claude.anthropic_api.message_stream import MessageStream
from mcp_server_claude.call_types import CallEvent, TextDelta, TextPending
from mcp_server_claude.engine.answer_buffer import AnswerBuffer
from mcp_server_claude.text_log import TextLog
from support.quick_run import examples

HALVES = ("\ud83d", "\ude00", "\ud83d\ud83d", "\N{GRINNING FACE}")
PIECE = "twelve chars"
PIECES = 60_000
START: list[dict[str, object]] = [
    {"type": "message_start", "message": {"model": "claude-test", "usage": {}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
]
DELTA: dict[str, object] = {
    "type": "content_block_delta",
    "index": 0,
    "delta": {"type": "text_delta", "text": PIECE},
}


@pytest.mark.parametrize("batch", [1, 64])
def test_an_answer_occupies_its_text_once_while_it_is_streamed_and_when_it_has_ended(batch: int) -> None:
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        published = TextLog()
        buffer = AnswerBuffer(lambda _: None, published)
        stream = MessageStream(buffer.on_event, buffer.log)
        stream.feed_events(START)
        for _ in range(PIECES // batch):
            stream.feed_events([DELTA] * batch)
        used = tracemalloc.get_traced_memory()[0] - before
        chars = PIECES // batch * batch * len(PIECE)
        assert stream.text_chars == published.chars == chars
        assert used < 1.1 * chars
        assert stream.text is published.slice(0)
        blocks = stream.blocks
        assert buffer.text is blocks[0]["text"]
        assert tracemalloc.get_traced_memory()[0] - before < 1.1 * chars
        del stream, published, buffer, blocks
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - before < 0.1 * chars
    finally:
        tracemalloc.stop()


@settings(deadline=None, max_examples=examples(200))
@given(
    st.lists(st.tuples(st.integers(0, 2), st.text() | st.sampled_from(HALVES)), max_size=12),
    st.sampled_from(["end_turn", "max_tokens", ""]),
    st.sampled_from(["published", "buffered"]),
)
@example([(0, "\ud83d"), (1, "x"), (0, "\ude00")], "end_turn", "published")
def test_no_text_that_is_published_holds_half_a_surrogate_pair(
    deltas: list[tuple[int, str]], stop_reason: str, mode: str
) -> None:
    events: list[CallEvent] = []
    published = TextLog()
    buffer = AnswerBuffer(events.append, published, buffered=mode == "buffered")
    buffer.begin_stream()
    stream = MessageStream(buffer.on_event, buffer.log)
    stream.feed_events([*START, {**START[1], "index": 1}, {**START[1], "index": 2}])
    for index, text in deltas:
        stream.feed_events([{**DELTA, "index": index, "delta": {"type": "text_delta", "text": text}}])
    if stop_reason:
        ends: list[dict[str, object]] = [{"type": "content_block_stop", "index": index} for index in range(3)]
        stop: dict[str, object] = {
            "type": "message_delta",
            "delta": {"stop_reason": stop_reason},
            "usage": {"output_tokens": 1},
        }
        stream.feed_events([*ends, stop, {"type": "message_stop"}])
    buffer.end_stream(complete=stop_reason == "end_turn")
    buffer.append_text("\ud83d")
    buffer.publish_buffered_text()
    texts = [event.text for event in events if type(event) is TextDelta]
    assert [text.encode().decode() for text in texts] == texts
    assert "".join(texts) == published.whole()


@pytest.mark.parametrize(("is_complete", "text"), [(True, "a\ufffd"), (False, "a")])
def test_half_a_pair_at_the_end_of_a_cut_answer_is_left_to_its_continuation(*, is_complete: bool, text: str) -> None:
    buffer = AnswerBuffer(lambda _: None, TextLog())
    buffer.on_event(TextDelta("a\ud83d"))
    buffer.end_stream(complete=is_complete)
    assert buffer.text == text


def test_the_blocks_around_a_tool_have_their_own_texts_without_the_separator_between_them() -> None:
    published = TextLog()
    buffer = AnswerBuffer(lambda _: None, published)
    stream = MessageStream(buffer.on_event, buffer.log)
    stream.feed_events([*START, DELTA, DELTA, {"type": "content_block_stop", "index": 0}])
    search = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "tea"}}
    stream.feed_events([{"type": "content_block_start", "index": 1, "content_block": search}])
    stream.feed_events([{"type": "content_block_stop", "index": 1}])
    stream.feed_events([{**START[1], "index": 2}, {**DELTA, "index": 2}, {**DELTA, "index": 2}])
    assert published.slice(0) == f"{PIECE}{PIECE}\n\n{PIECE}{PIECE}"
    assert [block.get("text") for block in stream.blocks] == [PIECE * 2, None, PIECE * 2]


def test_text_that_is_withdrawn_stays_in_the_blocks_of_its_message() -> None:
    buffer = AnswerBuffer(lambda _: None, TextLog(), buffered=True)
    buffer.begin_stream()
    stream = MessageStream(buffer.on_event, buffer.log)
    stream.feed_events([*START, DELTA])
    buffer.discard(buffered=True)
    stream.feed_events([DELTA])
    assert buffer.text == PIECE
    assert stream.text == PIECE * 2


def test_buffered_text_reaches_the_readers_only_when_it_is_flushed() -> None:
    events: list[CallEvent] = []
    published = TextLog()
    buffer = AnswerBuffer(events.append, published, buffered=True)
    buffer.on_event(TextDelta("one "))
    buffer.on_event(TextDelta("two"))
    assert (buffer.text, published.chars, buffer.take_unsaved()) == ("one two", 0, (0, ""))
    buffer.publish_buffered_text()
    assert (buffer.text, published.whole(), buffer.take_unsaved()) == ("one two", "one two", (0, "one two"))
    assert events == [TextPending(4), TextPending(7), TextDelta("one two")]


def test_discarded_text_is_never_published() -> None:
    published = TextLog()
    buffer = AnswerBuffer(lambda _: None, published, buffered=True)
    buffer.on_event(TextDelta("of the model that declined"))
    buffer.discard(buffered=False)
    buffer.begin_stream()
    buffer.on_event(TextDelta("of the fallback model"))
    assert published.whole() == "of the fallback model"


def test_the_unsaved_text_of_a_running_answer_continues_where_the_last_save_ended() -> None:
    published = TextLog()
    buffer = AnswerBuffer(lambda _: None, published)
    saved: list[tuple[int, str]] = []
    for piece in ("a" * 5_000, "b" * 10, "c" * 5_000):
        buffer.on_event(TextDelta(piece))
        saved.append(buffer.take_unsaved())
    assert [offset for offset, _ in saved] == [0, 5_000, 5_010]
    assert "".join(text for _, text in saved) == published.whole()
    assert buffer.take_unsaved() == (10_010, "")
