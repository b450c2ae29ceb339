"""Lone surrogates in text: what has none is not copied."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mcp_server_claude.lone_surrogates import SEARCHED_CHARS, replace_lone_surrogates

any_text = st.text(st.characters(codec=None, categories=None), max_size=20)


@given(head=any_text, length=st.sampled_from([0, SEARCHED_CHARS - 1, SEARCHED_CHARS]), tail=any_text)
def test_text_without_surrogates_is_returned_itself_and_other_text_can_be_encoded(
    head: str, length: int, tail: str
) -> None:
    text = head + "é" * length + tail
    replaced = replace_lone_surrogates(text)
    assert replaced.encode("utf-16-le") == text.encode("utf-16-le", "surrogatepass").decode(
        "utf-16-le", "replace"
    ).encode("utf-16-le")
    if not any("\ud800" <= character <= "\udfff" for character in text):
        assert replaced is text
