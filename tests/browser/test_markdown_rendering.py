"""However a text is cut into pieces, what is drawn in the end is what is drawn of the whole text at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio.from_thread
import anyio.to_thread
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.quick_run import examples

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from support.browser.browser_sessions import BrowserSessions
    from support.browser.page_driver import PageDriver

pytestmark = pytest.mark.anyio

COMPARE = """
async ([text, cuts]) => {
  const { StreamingMarkdown, render } = await import(
    document.querySelector('script[type=module]').src.replace('chat.js', 'markdown.js'))
  const root = () => document.createElement('div')
  const shape = node => {
    if (node.nodeType === Node.TEXT_NODE) return node.data
    if (node.nodeName === 'CODE') return ['CODE', node.textContent]   // colours come when there is time
    const attributes = [...node.attributes].map(({ name, value }) => `${name}=${value}`)
    return [node.nodeName, ...attributes, ...[...node.childNodes].map(shape)]
  }
  const whole = root(), grown = root()
  render(whole, text)
  const growing = new StreamingMarkdown(grown)
  let at = 0
  for (const cut of [...cuts, text.length]) {
    growing.write(text.slice(at, cut))
    growing.draw()
    at = cut
  }
  growing.end()
  return [shape(whole), shape(grown)].map(each => JSON.stringify(each))
}
"""
TEXTS = [
    "Setext\n===\n\nlazy\n> quote\ngoes on\n\n- loose\n\n- list\n\n  para\n\n1. one\n1) other\n\n***\n\n***bold***\n",
    "para\n| a | b |\n| --- | --- |\n| 1 | 2 |\nnot a row?\n\n```py\nx = 1\n\n\n# no end",
    "See [this] and [that][x].\r\n\r\n- a\r\n\r\n  - b\r\n\r\n[this]: https://e.org 'T'\r\n[x]: https://e.org/x\r\n",
    "# A\n#### B\n## C\n\n    indented\n\n    more\n\ntext\n<div>\n*x*\n</div>\n\n~~~~\n~~~\n~~~~\n> ```\n> x\n\ny",
    "* a\n\n\n* b\n  + c\n\n    d\n* e\n\n10. x\n11. y\n\n- [ ] todo\n\nTwo  \nlines\\\nmore ![p](https://e.org/p) <https://e.org>",
]
PARTS = [
    *("a", "b c", " ", "  ", "\n", "\n\n", "\n    ", "\t", "\r\n", "\\", "é😀", "&amp;", "$x$"),
    *("# ", "## ", "===", "---", "***", "**", "*", "_", "~~", "`", "```", "```py\n", "~~~\n"),
    *("> ", ">", "- ", "+ ", "1. ", "2) ", "|", "| a | b |\n", "|---|:-:|\n", "<b>", "</div>", "<!--", "-->"),
    *("[", "]", "(", ")", "![", "[r]", "[r]: ", "\n[r]: https://e.org/r\n", "https://e.org/x", "mailto:a@e.org"),
]
MARKDOWN = st.lists(st.sampled_from(PARTS), max_size=30).map("".join)


@pytest.fixture(scope="module")
async def quiet_page(sessions_for_module: BrowserSessions) -> AsyncIterator[PageDriver]:
    reader = await sessions_for_module.open_page()
    await reader.goto()
    yield reader
    await reader.page.close()


@pytest.mark.parametrize("text", TEXTS, ids=["setext", "table", "definitions", "headings", "lists"])
@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 11, 64])
async def test_text_in_pieces_of_one_size_renders_as_the_whole(quiet_page: PageDriver, text: str, size: int) -> None:
    complete, grown = await quiet_page.page.evaluate(COMPARE, [text, list(range(size, len(text), size))])
    assert grown == complete


@pytest.mark.parametrize("mark", ["*", "_a*", ">", "> - ", "[", "![", "`", "~", "<", "&", "|", "- ", "1. "])
async def test_thousands_of_markers_are_rendered(quiet_page: PageDriver, mark: str) -> None:
    text = f"{mark * 4000}\n\nAnd then this. {'*' * 4000}"
    complete, grown = await quiet_page.page.evaluate(COMPARE, [text, list(range(0, len(text), 3000))])
    assert grown == complete
    assert "And then this." in complete


async def test_any_text_in_any_pieces_renders_as_the_whole(quiet_page: PageDriver) -> None:
    @settings(max_examples=examples(200), database=None)
    @given(MARKDOWN, st.data())
    def compare(text: str, data: st.DataObject) -> None:
        cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=12)))
        complete, grown = anyio.from_thread.run(quiet_page.page.evaluate, COMPARE, [text, cuts])
        assert grown == complete

    await anyio.to_thread.run_sync(compare)
