from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_server_claude.heap_memory import trim_heap
from mcp_server_claude.text_log import MAX_JOINED_CHARS, MIN_LARGE_CHARS, TextLog, TextPart

pieces = st.lists(st.one_of(st.text(max_size=20), st.just("x" * MAX_JOINED_CHARS), st.just(" \n")), max_size=12)


@given(parts=pieces, start=st.integers(0, 20_000), length=st.integers(0, 20_000), joined=st.booleans())
def test_a_slice_is_that_of_the_joined_text(parts: list[str], start: int, length: int, *, joined: bool) -> None:
    log = TextLog()
    for part in parts[:6]:
        log.append(part)
    if joined:
        log.whole()
    for part in parts[6:]:
        log.append(part)
    text = "".join(parts)
    assert log.chars == len(text)
    assert log.slice(start) == log.since(start) == text[start:]
    assert log.slice(start, start + length) == text[start : start + length]
    assert log.has_text == bool(text.strip())
    assert log.whole() == text


@given(parts=pieces, others=st.lists(st.sampled_from(["", "x", " \n", "\n\n"]), max_size=12), joined=st.booleans())
def test_a_part_has_the_pieces_that_were_appended_to_it_whatever_its_log_has(
    parts: list[str], others: list[str], *, joined: bool
) -> None:
    log, part = TextLog(), TextPart()
    for index, piece in enumerate(parts):
        start = log.chars
        log.append(others[index] if index < len(others) else "")  # a separator, or what the log has in its place
        if index % 5 < 4:
            log.append(piece)
        part.append_logged(piece, log, start)
        if joined and index == 3:
            log.whole()
    assert part.whole() == "".join(parts)


def test_a_part_that_is_all_of_its_log_is_the_logs_own_string() -> None:
    log, part = TextLog(), TextPart()
    assert part.whole() == ""
    for piece in ("one, ", "two, ", "x" * MAX_JOINED_CHARS, "three"):
        start = log.chars
        log.append(piece)
        part.append_logged(piece, log, start)
    assert part.whole() is log.whole()
    log.append(" more")
    assert part.whole() == log.slice(0)[: -len(" more")]
    part.append(" of its own")
    assert part.whole() == log.slice(0)[: -len(" more")] + " of its own"


@pytest.mark.parametrize("character", ["x", "é", "は", "🍵"])
@pytest.mark.parametrize("size", [MAX_JOINED_CHARS, 8 * MAX_JOINED_CHARS])
def test_a_large_text_is_joined_without_being_held_twice(character: str, size: int) -> None:
    trim_heap()  # imports something when it is called first
    tracemalloc.start()
    try:
        log = TextLog()
        for number in range(2 * MIN_LARGE_CHARS // size):
            log.append(f"{number:04}" + character * (size - 4))
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        text = log.whole()
        # It grows by a quarter of its size at a time.
        assert tracemalloc.get_traced_memory()[1] < 1.3 * before
        assert tracemalloc.get_traced_memory()[0] < 1.01 * before
    finally:
        tracemalloc.stop()
    assert text == "".join(f"{number:04}" + character * (size - 4) for number in range(2 * MIN_LARGE_CHARS // size))
    assert log.slice(size, size + 4) == "0001"
    assert log.chars == len(text) == 2 * MIN_LARGE_CHARS


def test_the_log_and_its_readers_share_one_string() -> None:
    log = TextLog()
    for _ in range(3):
        log.append("x" * MAX_JOINED_CHARS)
    assert log.whole() is log.whole() is log.slice(0)
