"""Markdown while it is being written: what is rendered looks from the first frame as it will in the end."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.markdown import Markdown

from mcp_server_claude.cli.markdown_stream import MarkdownStream, provisional_markdown, without_control_characters

ANSWER = """\
Through **four pairs** of hands, a *few* letters: see [the docs](https://example.com/a_b) and `x ^ y`.

## Steps

1. **Your editor** calls `claude_ask` and says ***that*** it waits.
2. __The server__ writes, then:

   a nested paragraph with `code`.

- one *starred* thing
- two ~~struck~~ things

| name | value |
| --- | --- |
| a | **1** |
| b | 2 |

```python
def power(x):

    return pow(x, 2)
```

> A quote, **bold** in it.

Done: 2 * 3 * 4 is snake_case_name."""
MARKERS = re.compile(r"\*\*|~~|__|`|\]\(|^ *#|\| ?-", re.MULTILINE)


def render_markdown(markdown: str) -> str:
    console = Console(width=100, file=io.StringIO())
    with console.capture() as capture:
        console.print(Markdown(markdown))
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def lines(markdown: str) -> list[str]:
    return [line for line in render_markdown(markdown).splitlines() if line]


@pytest.mark.parametrize("step", [1, 7])
def test_no_marker_is_shown_at_any_moment(step: int) -> None:
    stream = MarkdownStream()
    for start in range(0, len(ANSWER), step):
        stream.feed_markdown(ANSWER[start : start + step])
        shown = render_markdown(stream.preview)
        assert not MARKERS.search(shown), (stream.rest, shown)


@given(st.data())
def test_finished_blocks_and_the_rest_are_the_text(data: st.DataObject) -> None:
    text = data.draw(st.one_of(st.just(ANSWER), st.text(alphabet="ab *_`\n#-1.|~[]()>", max_size=200)))
    stream, finished = MarkdownStream(), ""
    position = 0
    while position < len(text):
        length = data.draw(st.integers(1, 30))
        finished += stream.feed_markdown(text[position : position + length])
        position += length
        assert stream.preview is not None
    assert finished + stream.rest == text


def test_blocks_that_are_rendered_one_by_one_look_like_the_whole() -> None:
    stream, blocks = MarkdownStream(), list[str]()
    for character in ANSWER:
        if block := stream.feed_markdown(character):
            blocks.append(block)
    blocks.append(stream.rest)

    assert len(blocks) >= 6
    assert [line for block in blocks for line in lines(block)] == lines(ANSWER)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("It is **bol", "It is **bol**"),
        ("It is **", "It is "),
        ("It is *", "It is "),
        ("a `cod", "a `cod`"),
        ("see [the do", "see the do"),
        ("see [the docs](https://exa", "see the docs"),
        ("2 * 3", "2 * 3"),
        ("snake_case", "snake_case"),
        ("| a | b |", ""),
        ("text\n1", "text\n"),
        ("```python\n**x", "```python\n**x"),
    ],
)
def test_an_open_marker_is_closed_and_an_incomplete_one_is_held_back(text: str, shown: str) -> None:
    assert provisional_markdown(text) == shown


def test_control_characters_of_an_answer_do_not_reach_the_terminal() -> None:
    assert without_control_characters("a\x1b]0;title\x07b\tc\r\nd\x9b2J") == "a�]0;title�b\tc\nd�2J"
