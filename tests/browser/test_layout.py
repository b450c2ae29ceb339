"""The pages fit their window with any font, and every part of them can be reached with the keyboard."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from mcp_server_claude.simulator import directive
from support.browser.axe_core import RUN_AXE
from support.browser.box_fonts import FONTS_AND_WIDTHS, use_box_font, wait_for_box_font

if TYPE_CHECKING:
    from support.browser.box_fonts import BoxFont
    from support.browser.browser_sessions import BrowserSessions
    from support.browser.page_driver import PageDriver
    from support.browser.page_server import PageServer

pytestmark = pytest.mark.anyio

PARAGRAPHS = "\n\n".join(f"Paragraph {n} of an answer that is long enough to wrap." for n in range(12))
FITS_VERTICALLY = "() => document.documentElement.scrollHeight <= innerHeight && scrollY === 0"
FITS_HORIZONTALLY = "() => document.documentElement.scrollWidth <= innerWidth"
WAIT_UNTIL_NEAR_THE_TOP = """
log => new Promise(done => {
  const look = () => log.scrollTop < innerHeight / 4 ? done() : requestAnimationFrame(look)
  look()
})
"""
DISTANCE_AFTER_KEY_AND_TEXT = """
async (log, key) => {
  log.scrollTop = log.scrollHeight
  await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))
  log.dispatchEvent(new KeyboardEvent('keydown', { key }))  // scrolls nothing by itself: as before the first step
  const text = document.createElement('pre')
  text.textContent = 'line\\n'.repeat(40)
  document.querySelector('#turns').append(text)
  await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))
  return log.scrollHeight - log.scrollTop - log.clientHeight
}
"""
SCROLLS_BY_ITSELF = "log => log.scrollHeight > log.clientHeight + 200"
ANSWER = """\
# A heading that is not short

Text with `code` and a [link](https://example.org/).

| A column | Another column |
| :-- | --: |
| 1 | 2 |

```python
def function(parameter: int) -> str: return f"{parameter}" + "a line that is longer than a phone is wide"
```
"""


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
async def test_a_long_thread_scrolls_in_its_log_and_never_in_the_window(sessions: BrowserSessions, width: int) -> None:
    reader = await sessions.open_page(viewport={"width": width, "height": 800})
    page = reader.page
    turn: dict[str, object] = {"files": [], "call": "", "usage": None, "running": False, "incomplete": ""}
    messages = [{"role": role, "text": PARAGRAPHS, **turn} for _ in range(10) for role in ("user", "assistant")]
    thread = {"id": "t_ten", "title": "Ten turns", "model": "", "updated": 0, "cost_usd": 0, "messages": messages}
    await page.route("**/threads/t_ten.json", lambda route: route.fulfill(json=thread))
    await reader.goto("/t/t_ten")
    await expect(page.locator(".turn")).to_have_count(20)
    log = page.locator("#log")
    assert await log.evaluate(SCROLLS_BY_ITSELF)
    for key, follows in (("x", True), ("Home", False), ("End", True), ("ArrowUp", False)):
        assert (await log.evaluate(DISTANCE_AFTER_KEY_AND_TEXT, key) < 2) is follows, key
    assert await page.evaluate(FITS_VERTICALLY)
    await page.mouse.move(30, 400)
    await page.mouse.wheel(0, 3000)
    for key in ("PageDown", "End", "Alt+ArrowUp", "Alt+ArrowUp", "PageUp", "Home"):
        await page.keyboard.press(key)
        assert await page.evaluate(FITS_VERTICALLY), key
    await expect(reader.question).to_be_in_viewport(ratio=1)


@pytest.mark.slow
async def test_the_log_can_be_read_with_the_keyboard_while_an_answer_is_written(
    ada: PageDriver, site: PageServer, axe: str
) -> None:
    page, log = ada.page, ada.page.locator("#log")
    await ada.ask(f"Slowly. {directive(text=PARAGRAPHS * 8, pace=400)}")
    await expect(page.get_by_role("button", name="Stop")).to_be_visible()
    await ada.wait_for_chars(3000)
    assert await log.evaluate(SCROLLS_BY_ITSELF)
    await page.evaluate(axe)
    assert await page.evaluate(RUN_AXE) == []
    await page.get_by_role("button", name="Delete this thread").focus()
    await page.keyboard.press("Tab")
    await expect(log).to_be_focused()
    await page.keyboard.press("Home")
    # Not quite 0: the page scrolls smoothly, while the text grows.
    await log.evaluate(WAIT_UNTIL_NEAR_THE_TOP)
    site.upstream.skip_delays()
    await ada.wait_until_complete()


@pytest.mark.slow
async def test_a_printed_thread_shows_all_of_its_code_and_tables(ada: PageDriver) -> None:
    await ada.ask(f"Show. {directive(text=ANSWER)}")
    await ada.wait_until_complete()
    page = ada.page
    await page.emulate_media(media="print", color_scheme="dark")
    await page.set_viewport_size({"width": 700, "height": 900})
    for part in (".code pre", ".read .table"):
        assert await page.locator(part).evaluate("part => part.scrollWidth <= part.clientWidth"), part
    await expect(page.locator("#log")).to_have_css("overflow", "visible")
    await expect(page.locator("body")).to_have_css("color", "rgb(31, 28, 24)")


@pytest.mark.slow
@pytest.mark.parametrize(("font", "width"), FONTS_AND_WIDTHS)
async def test_the_chat_page_fits_its_window_with_any_font(
    sessions: BrowserSessions, font: BoxFont, width: int
) -> None:
    reader = await sessions.open_page(viewport={"width": width, "height": 800}, bypass_csp=True)
    page = reader.page
    await use_box_font(page, font)
    await reader.goto()
    await wait_for_box_font(page)
    assert await page.evaluate(FITS_HORIZONTALLY)
    await reader.attach(("a-name-that-is-longer-than-most-names-are.txt", b"x"))
    await reader.ask(f"Show. {directive(text=ANSWER)}")
    await reader.wait_until_complete()
    assert await page.evaluate(FITS_HORIZONTALLY)
    assert await page.evaluate(FITS_VERTICALLY)
    await expect(page.get_by_role("button", name="Send")).to_be_in_viewport(ratio=1)
    if width < 768:
        await page.get_by_role("button", name="Threads").click()
        await expect(page.get_by_role("button", name="New thread")).to_be_focused()
    await page.get_by_role("button", name="Shortcuts").click()
    assert await page.evaluate(FITS_HORIZONTALLY)
    await page.keyboard.press("Escape")
    await page.get_by_role("button", name="Jobs").click()
    assert await page.evaluate(FITS_HORIZONTALLY)


@pytest.mark.slow
@pytest.mark.parametrize("font", ["narrow", "wide"])
@pytest.mark.parametrize("width", [880, 320])
async def test_the_sign_in_page_fits_its_window_with_any_font(
    sessions: BrowserSessions, font: BoxFont, width: int
) -> None:
    reader = await sessions.open_page("", viewport={"width": width, "height": 640}, bypass_csp=True)
    await use_box_font(reader.page, font)
    await reader.page.goto(f"{reader.url}/signin?wrong=1")
    await wait_for_box_font(reader.page)
    assert await reader.page.evaluate(FITS_HORIZONTALLY)
