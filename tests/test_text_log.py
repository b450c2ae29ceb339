from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mcp_server_claude.text_log import MAX_JOINED_CHARS, TextLog

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
    assert log.slice(start) == text[start:]
    assert log.slice(start, start + length) == text[start : start + length]
    assert log.has_text == bool(text.strip())
    assert log.whole() == text


@given(parts=pieces, other=st.text(max_size=20), more=st.text(max_size=20))
def test_a_shared_text_is_held_only_if_it_is_that_of_the_log(parts: list[str], other: str, more: str) -> None:
    log, text = TextLog(), "".join(parts)
    for part in parts:
        log.append(part)
    log.share_text(text[: len(text) // 2] + other)
    assert log.slice(0) == text
    log.share_text(text)
    assert log.slice(0) is text or not text
    log.append(more)
    assert log.slice(0) == text + more
    assert log.whole() == text + more


def test_the_log_and_its_readers_share_one_string() -> None:
    log = TextLog()
    for _ in range(3):
        log.append("x" * MAX_JOINED_CHARS)
    assert log.whole() is log.whole() is log.slice(0)
