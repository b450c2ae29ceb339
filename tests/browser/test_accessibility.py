"""axe-core finds no fault in any state of any page, light or dark, wide or narrow; nothing scrolls sideways."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

import pytest
from playwright.async_api import expect

from mcp_server_claude.simulator import directive
from support.browser.axe_core import RUN_AXE
from support.browser.browser_sessions import browser_sessions
from support.browser.page_server import page_server
from support.quick_run import slow_beyond

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.async_api import Browser

    from mcp_server_claude.simulator import Simulator
    from support.browser.browser_sessions import BrowserSessions
    from support.browser.page_driver import PageDriver

pytestmark = pytest.mark.anyio

Theme = Literal["light", "dark"]
SCREENS = slow_beyond(1, [("light", 1280), ("dark", 390), ("dark", 1280), ("light", 320)])
ANSWER = """\
# Title

Some *text* with `code`, a [link](https://example.org/) and ![a picture](https://example.org/p.png).

| a | b |
| :-- | --: |
| 1 | 2 |

```python
def f(x: int) -> str:  # a comment
    return f"{x}" + str(None)
```

> Quoted.

1. One
2. Two
   - nested

### Deeper
"""


async def no_fault(reader: PageDriver, axe: str) -> None:
    """Neither for axe, nor for who has a narrow screen."""
    await reader.page.evaluate(axe)
    assert await reader.page.evaluate(RUN_AXE) == []
    assert await reader.page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.slow
@pytest.mark.parametrize(("theme", "width"), SCREENS)
async def test_the_chat_page_is_accessible_in_all_its_states(
    sessions: BrowserSessions, axe: str, theme: Theme, width: int
) -> None:
    reader = await sessions.open_page(
        viewport={"width": width, "height": 800}, color_scheme=theme, reduced_motion="reduce"
    )
    await reader.goto()
    page = reader.page
    await no_fault(reader, axe)

    await reader.attach(("a.txt", b"x"))
    await reader.ask(f"Show. {directive(text=ANSWER)}")
    await reader.wait_until_complete()
    await expect(reader.text.locator(".hl-comment")).to_be_visible()
    await no_fault(reader, axe)

    await reader.ask(f"Slowly. {directive(think=0, tokens=5000, pace=20)}")
    await reader.wait_for_chars()
    await no_fault(reader, axe)
    await page.get_by_role("button", name="Stop").click()
    await reader.wait_until_complete()
    await expect(reader.note).to_be_visible()
    await no_fault(reader, axe)

    await page.get_by_role("button", name="Delete this thread").click()
    await no_fault(reader, axe)
    await page.keyboard.press("Escape")
    if width < 768:
        await page.get_by_role("button", name="Threads").click()
        await expect(page.get_by_role("button", name="New thread")).to_be_focused()
        await no_fault(reader, axe)
    await page.get_by_role("button", name="Shortcuts").click()
    await no_fault(reader, axe)


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_the_page_of_a_failure_is_accessible(sessions: BrowserSessions, axe: str, theme: Theme) -> None:
    sessions.monitor.expect_message("402")
    reader = await sessions.open_page("poor", color_scheme=theme)
    await reader.goto()
    await reader.ask("How much?")
    await expect(reader.note).to_contain_text(re.compile("budget"))
    await no_fault(reader, axe)


@pytest.mark.slow
@pytest.mark.parametrize(("theme", "width"), SCREENS)
async def test_a_cost_is_approved_by_keyboard(
    chromium: Browser, upstream: Simulator, tmp_path: Path, axe: str, theme: Theme, width: int
) -> None:
    async with (
        page_server(tmp_path, upstream, {"ada": "50/day"}, confirm_above_usd=0.05) as site,
        browser_sessions(chromium, site) as sessions,
    ):
        sessions.monitor.expect_message("402")
        reader = await sessions.open_page(
            viewport={"width": width, "height": 800}, color_scheme=theme, reduced_motion="reduce"
        )
        await reader.goto()
        await reader.ask(f"Write a book. {directive(tokens=10)}")
        await expect(reader.note).to_contain_text("Send it?")
        await no_fault(reader, axe)

        await reader.question.focus()
        for name in ("Edit", "Send"):
            await reader.page.keyboard.press("Shift+Tab")
            await expect(reader.note.get_by_role("button", name=name)).to_be_focused()
        await reader.page.keyboard.press("Enter")
        await expect(reader.question).to_be_focused()
        await reader.wait_until_complete()
        await expect(reader.question).to_be_focused()


@pytest.mark.parametrize(("theme", "width"), SCREENS)
async def test_the_sign_in_page_is_accessible(sessions: BrowserSessions, axe: str, theme: Theme, width: int) -> None:
    reader = await sessions.open_page("", viewport={"width": width, "height": 640}, color_scheme=theme)
    await reader.page.goto(f"{reader.url}/signin?wrong=1")
    await no_fault(reader, axe)


async def test_the_check_finds_the_violations_that_these_tests_forbid(sessions: BrowserSessions, axe: str) -> None:
    reader = await sessions.open_page("")
    await reader.page.set_content(
        "<html lang=en><title>x</title><main><h1>x</h1><p style='color: #ccc'>pale</p></main>"
    )
    await reader.page.evaluate(axe)
    (fault,) = await reader.page.evaluate(RUN_AXE)
    assert fault.startswith("serious color-contrast")
