"""No text of any source runs as code or causes a request to another host."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from mcp_server_claude.simulator import directive
from support.browser.browser_sessions import BrowserSessions
from support.browser.xss_payloads import CLICK_EVERYTHING, FIND_UNSAFE_ELEMENTS, XSS_FILE_NAMES, XSS_PAYLOADS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Browser

    from support.browser.page_driver import PageDriver
    from support.browser.page_server import PageServer

pytestmark = pytest.mark.anyio

RENDER = """
async text => {
  const { StreamingMarkdown, render } = await import(
    document.querySelector('script[type=module]').src.replace('chat.js', 'markdown.js'))
  for (const old of document.querySelectorAll('.probe')) old.remove()
  const probe = () => {
    const root = document.createElement('div')
    root.className = 'probe'
    document.querySelector('#trouble').append(root)
    return root
  }
  render(probe(), text)
  const growing = new StreamingMarkdown(probe())
  for (const letter of text) {
    growing.write(letter)
    growing.draw()
  }
  growing.end()
}
"""


@pytest.fixture(scope="module", params=["with its policy", "without any policy"])
async def bare_page(request: pytest.FixtureRequest, sessions_for_module: BrowserSessions) -> AsyncIterator[PageDriver]:
    """A chat page, also one in which nothing but our own code keeps scripts from running."""
    reader = await sessions_for_module.open_page(bypass_csp=request.param == "without any policy")
    await reader.goto()
    yield reader
    await reader.page.close()


@pytest.mark.parametrize("payload", XSS_PAYLOADS, ids=range(len(XSS_PAYLOADS)))
async def test_no_markdown_runs_anything(bare_page: PageDriver, payload: str) -> None:
    await bare_page.page.evaluate(RENDER, payload)
    assert await bare_page.page.evaluate(FIND_UNSAFE_ELEMENTS) == []
    await bare_page.page.evaluate(CLICK_EVERYTHING)
    bare_page.monitor.check()


async def test_the_check_finds_the_violations_that_these_tests_forbid(chromium: Browser, site: PageServer) -> None:
    """A control: the same payloads as HTML, without a policy, do what they are after."""
    sessions = BrowserSessions(chromium, site)
    reader = await sessions.open_page(bypass_csp=True)
    await reader.goto()
    await reader.page.evaluate(RENDER, "")
    html = "".join(XSS_PAYLOADS[1:3]) + '<a href="/signout" style="top: 0">x</a><img src="https://evil.example/">'
    async with reader.page.expect_event("dialog"), reader.page.expect_request("https://evil.example/"):
        await reader.page.evaluate("html => { document.querySelector('.probe').innerHTML = html }", html)
    assert {"IMG", "IMG onerror", "svg", "A style", "href /signout"} <= set(
        await reader.page.evaluate(FIND_UNSAFE_ELEMENTS)
    )
    for context in sessions.contexts:
        await context.close()
    assert "dialog: 1" in sessions.monitor.problems
    assert "request: https://evil.example/" in sessions.monitor.problems


async def test_a_whole_conversation_of_hostile_text_is_only_text(ada: PageDriver) -> None:
    everything = "\n\n".join(XSS_PAYLOADS)
    await ada.attach(*((name, b"x") for name in XSS_FILE_NAMES))
    await ada.ask(f"<img src=x onerror=alert(1)> {everything}\n{directive(text=everything, chars=7)}")
    await ada.wait_until_complete()
    for _ in range(2):
        assert await ada.page.evaluate(FIND_UNSAFE_ELEMENTS) == []
        await ada.page.evaluate(CLICK_EVERYTHING)
        await expect(ada.page.locator("#threads")).to_contain_text("<img src=x onerror=alert(1)>")
        await expect(ada.text).to_contain_text("<script>alert(1)</script>")
        assert await ada.page.title() != ""
        await ada.page.goto(ada.page.url)  # again, read from the store
        await expect(ada.account).to_be_visible()


async def test_hostile_text_of_the_server_itself_is_only_text(ada: PageDriver) -> None:
    """Errors, names of models, titles and usage may quote text of others."""
    evil = "<img src=x onerror=alert(1)>"
    usage = {"model": evil, "input_tokens": 1, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0}
    usage |= {"output_tokens": 1, "cost_usd": None, "duration_s": 1, "ttft_s": None, "retries": 0}
    messages = [
        {"role": "user", "text": evil, "files": [{"name": evil, "size": None, "kind": evil}]},
        {"role": "assistant", "text": evil, "call": "", "usage": usage, "running": False, "incomplete": evil},
    ]
    thread = {"id": evil, "title": evil, "updated": 0, "cost_usd": 1, "model": evil, "messages": messages}
    models = [{"id": evil, "name": evil, "efforts": [evil], "default": True}]
    ada.monitor.expect_message("418")
    await ada.page.route("**/threads.json", lambda route: route.fulfill(json=[thread]))
    await ada.page.route("**/models.json", lambda route: route.fulfill(json=models))
    await ada.page.route("**/threads/*.json", lambda route: route.fulfill(json=thread))
    await ada.page.route(
        "**/chat", lambda route: route.fulfill(status=418, json={"error": {"text": evil, "kind": evil}})
    )
    await ada.page.goto(f"{ada.url}/t/t_1")
    await expect(ada.note).to_contain_text(evil)
    await ada.ask("Hello")
    await expect(ada.answers).to_have_count(2)
    await expect(ada.note).to_contain_text(evil)
    await ada.page.get_by_role("button", name="Delete this thread").click()
    await expect(ada.page.get_by_role("dialog")).to_contain_text(evil)
    assert await ada.page.evaluate(FIND_UNSAFE_ELEMENTS) == []
