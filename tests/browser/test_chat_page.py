from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from mcp_server_claude.engine.stop_reasons import BUDGET_CUT
from mcp_server_claude.simulator import directive
from support.browser.browser_sessions import browser_sessions
from support.browser.page_server import page_server

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.async_api import Browser

    from mcp_server_claude.simulator import Simulator
    from support.browser.browser_sessions import BrowserSessions
    from support.browser.page_driver import PageDriver
    from support.browser.page_server import PageServer

pytestmark = pytest.mark.anyio

CODE = 'def shout(text: str) -> str:\n    """<b>Loud</b>."""\n\n\treturn text.upper() + "!"  # 1 < 2 & 3 > 2'
WATCH_IT_GROW = """
() => {
  const sizes = new Set()
  const look = () => {
    sizes.add(document.querySelector('.turn.answer .read')?.textContent.length ?? 0)
    document.body.dataset.sizes = sizes.size
  }
  const everything = { subtree: true, childList: true, characterData: true }
  new MutationObserver(look).observe(document.querySelector('#turns'), everything)
}
"""
WATCH_THE_NOTES = """
() => {
  const look = records => {
    for (const { addedNodes } of records) {
      for (const { className, textContent } of addedNodes) {
        if (className === 'note') document.body.dataset.noted = textContent
      }
    }
  }
  new MutationObserver(look).observe(document.querySelector('#turns'), { subtree: true, childList: true })
}
"""


async def test_signing_in_opens_the_chat_and_signing_out_closes_it(sessions: BrowserSessions, site: PageServer) -> None:
    sessions.monitor.expect_message("Clear-Site-Data")  # Chromium reports that it cleared the storage of the page
    reader = await sessions.open_page("")
    page = reader.page
    await page.goto(site.url)
    await expect(page).to_have_url(f"{site.url}/signin")
    await page.get_by_label("Access token").fill(site.tokens["ada"])
    await page.get_by_role("button", name="Sign in").click()
    await expect(page).to_have_url(f"{site.url}/")
    await expect(page.locator("#who")).to_have_text("ada")
    await expect(page.locator("#spent")).to_have_text(re.compile(r"^(<)?\$\d+\.\d\d of \$50\.00 today$"))
    await page.get_by_role("button", name="Sign out").click()
    await expect(page).to_have_url(f"{site.url}/signin")
    await page.goto(site.url)
    await expect(page).to_have_url(f"{site.url}/signin")


async def test_a_wrong_token_is_reported(sessions: BrowserSessions, site: PageServer) -> None:
    reader = await sessions.open_page("")
    await reader.page.goto(f"{site.url}/signin")
    await expect(reader.page.get_by_role("alert")).to_be_hidden()
    await reader.page.get_by_label("Access token").fill("mcpc_wrong")
    await reader.page.get_by_label("Access token").press("Enter")
    await expect(reader.page.get_by_role("alert")).to_contain_text("This token is not valid")


async def test_an_answer_is_shown_while_it_is_written_and_ends_with_its_usage(
    ada: PageDriver, site: PageServer
) -> None:
    await ada.page.evaluate(WATCH_IT_GROW)
    await ada.ask(f"What is tea? {directive(think=10, tokens=150, pace=20)}")
    await expect(ada.page.locator("body")).to_have_attribute("data-sizes", re.compile(r"^([5-9]|\d\d+)$"))
    await expect(ada.answer.locator(".doing")).to_be_hidden()
    site.upstream.skip_delays()
    await ada.wait_until_complete()
    await expect(ada.account).to_have_text(re.compile(r"Sonnet 5\.5\d+ in160 out(<)?\$0\.00\d[\d.]+ m?s"))
    await expect(ada.page.locator("#cost")).to_have_text(re.compile(r"^(<)?\$0\.00\d+$"))
    await expect(ada.page.locator("#threads a[aria-current=page]")).to_contain_text("What is tea?")
    await expect(ada.page).to_have_title(re.compile(r"^What is tea\? .* · mcp-server-claude$"))
    assert (await site.wait_until_idle()).end == "complete"


async def test_a_second_question_continues_the_thread(ada: PageDriver, site: PageServer) -> None:
    await ada.ask(f"My name is Ada. {directive(tokens=10)}")
    await ada.wait_until_complete()
    await ada.ask(f"What is my name? {directive(tokens=12)}")
    await expect(ada.answers).to_have_count(2)
    await ada.wait_until_complete()
    body = site.upstream_prompts()[-1].body
    assert isinstance(body, dict)
    assert len(body["messages"]) == 3  # pyright: ignore[reportArgumentType] - a list
    await expect(ada.page.locator("#threads a[aria-current=page]")).to_have_count(1)


@pytest.mark.slow
async def test_copying_yields_the_exact_code_and_answer(ada: PageDriver) -> None:
    answer = f"Like **this**:\n\n```python\n{CODE}\n```\n\nThat is all."
    await ada.ask(f"Show me. {directive(text=answer)}")
    await ada.wait_until_complete()
    await expect(ada.text.locator(".hl-keyword").first).to_have_text("def")
    await ada.answer.get_by_role("button", name="Copy this code").click()
    await ada.wait_for_clipboard(CODE)
    await ada.answer.get_by_role("button", name="Copy the answer as Markdown").click()
    await ada.wait_for_clipboard(answer)


async def test_escape_stops_the_answer_and_the_upstream_is_closed(ada: PageDriver, site: PageServer) -> None:
    await ada.ask(f"Go on and on. {directive(think=0, tokens=5000, pace=50)}")
    await ada.wait_for_chars()
    await ada.page.keyboard.press("Escape")
    await ada.wait_until_complete()
    await expect(ada.note).to_contain_text("This answer is not complete")
    await expect(ada.page.get_by_role("button", name="Send")).to_be_visible()
    assert (await site.wait_until_idle()).end == "disconnected"


@pytest.mark.slow
async def test_the_stop_button_works_before_the_first_text(ada: PageDriver, site: PageServer) -> None:
    count_before = len(site.upstream_prompts())
    await ada.ask(f"Think long. {directive(ttft=3600)}")
    await site.wait_for_requests(count_before + 1)
    await ada.page.get_by_role("button", name="Stop").click()
    await expect(ada.note).to_contain_text("Stopped before the first word.")
    await expect(ada.page.locator("[aria-busy]")).to_have_count(0)
    await expect(ada.account).to_be_hidden()
    assert (await site.wait_until_idle()).end == "disconnected"


@pytest.mark.slow
async def test_a_retry_is_shown_while_it_waits_and_removed_afterwards(ada: PageDriver) -> None:
    await ada.page.evaluate(WATCH_THE_NOTES)
    await ada.ask(f"Patience. {directive(status=529, times=1, retry_after=1, tokens=20)}")
    await expect(ada.page.locator("body")).to_have_attribute("data-noted", re.compile("trying again in"))
    await ada.wait_until_complete()
    await expect(ada.note).to_have_count(0)
    await expect(ada.account).to_contain_text("1 retry")


@pytest.mark.slow
async def test_a_retry_counts_down(ada: PageDriver, site: PageServer) -> None:
    count_before = len(site.upstream_prompts())
    await ada.ask(f"Patience. {directive(status=529, times=1, retry_after=30, tokens=20)}")
    countdown = re.compile(r"trying again in (\d+) s \(\d of \d+\)")
    await expect(ada.note).to_contain_text(countdown)
    shown = countdown.search(await ada.note.inner_text())
    assert shown is not None  # of about 30 seconds
    await expect(ada.note).not_to_contain_text(f"in {shown[1]} s")
    await expect(ada.note).to_contain_text(countdown)
    await ada.page.keyboard.press("Escape")
    await expect(ada.note).to_contain_text("Stopped before the first word.")
    assert len(site.upstream_prompts()) == count_before + 1


@pytest.mark.slow
async def test_thinking_is_shown_on_a_line_of_its_own(ada: PageDriver, site: PageServer) -> None:
    await ada.ask(f"Ponder. {directive(think=900, tokens=20, pace=10)}")
    await expect(ada.answer.locator(".doing")).to_have_text(re.compile(r"^Thinking · [1-9]\d* s$"))
    site.upstream.skip_delays()
    await ada.wait_until_complete()
    await expect(ada.answer.locator(".doing")).to_be_hidden()


@pytest.mark.slow
async def test_an_answer_that_was_cut_shows_the_reason_and_can_be_continued(ada: PageDriver) -> None:
    await ada.ask(f"At length. {directive(tokens=40, stop='max_tokens')}")
    await ada.wait_until_complete()
    await expect(ada.note).to_contain_text("This answer is not complete: it reached max_tokens")
    await ada.page.reload()
    await ada.note.get_by_role("button", name="Continue").click()
    await expect(ada.answers).to_have_count(2)
    await ada.wait_until_complete()
    await expect(ada.page.locator(".said").last).to_have_text("Continue exactly where you left off.")
    await expect(ada.answers.first.get_by_role("button", name="Continue")).to_have_count(0)


@pytest.mark.slow
async def test_an_answer_that_a_budget_cut_offers_no_continuation(
    chromium: Browser, upstream: Simulator, tmp_path: Path
) -> None:
    async with (
        page_server(tmp_path, upstream, {"eve": "0.01/day"}) as site,
        browser_sessions(chromium, site) as sessions,
    ):
        reader = await sessions.open_page("eve")
        await reader.goto()
        await reader.ask(f"At length. {directive(tokens=5000)}")
        await reader.wait_until_complete()
        for _ in range(2):
            await expect(reader.note).to_contain_text(BUDGET_CUT)
            await expect(reader.page.get_by_role("button", name="Continue")).to_have_count(0)
            await reader.page.reload()


@pytest.mark.slow
async def test_a_full_thread_offers_a_new_one_and_no_continuation(ada: PageDriver) -> None:
    await ada.ask(f"At length. {directive(tokens=40, stop='model_context_window_exceeded')}")
    await ada.wait_until_complete()
    await expect(ada.note).to_contain_text("context window")
    await expect(ada.page.get_by_role("button", name="Continue")).to_have_count(0)
    await ada.page.reload()
    await ada.note.get_by_role("button", name="New thread").click()
    await expect(ada.page).to_have_url(f"{ada.url}/")


@pytest.mark.slow
async def test_a_server_without_a_key_reports_it_before_the_first_question(
    sessions: BrowserSessions, site: PageServer, tmp_path: Path
) -> None:
    sessions.monitor.expect_message("status of 500")
    users = {"ada": "5/day"}
    async with page_server(tmp_path, site.upstream, users, api_key="") as server:
        sessions.site = server
        reader = await sessions.open_page("ada")
        await reader.page.goto(server.url)
        await expect(reader.page.get_by_role("alert").first).to_contain_text("no API key")
        await expect(reader.page.get_by_role("alert").first).to_contain_text("Tell the operator of this server.")
        await expect(reader.page.locator("body")).not_to_contain_text("MCP_CLAUDE")
        await reader.page.close()
    operator = tmp_path / "operator"
    operator.mkdir()
    async with page_server(operator, site.upstream, {}, api_key="") as server:
        reader = await sessions.open_page("", url=server.url)
        await reader.page.goto(server.url)
        await expect(reader.page.get_by_role("alert").first).to_contain_text(
            "Set MCP_CLAUDE_API_KEY in the environment"
        )
        await reader.page.close()


@pytest.mark.slow
async def test_right_to_left_text_is_displayed_from_right_to_left(ada: PageDriver) -> None:
    answer = "# مرحبا\n\nEnglish\n\n- עברית"
    await ada.ask(f"שלום. {directive(text=answer)}")
    await ada.wait_until_complete()
    for place, way in ((".said", "rtl"), (".read .h1", "rtl"), (".read p", "ltr"), (".read ul", "rtl")):
        await expect(ada.page.locator(place).first).to_have_css("direction", way)


async def test_a_rejected_question_shows_the_reason_and_is_restored_to_the_form(sessions: BrowserSessions) -> None:
    sessions.monitor.expect_message("402")
    poor = await sessions.open_page("poor")
    await poor.goto()
    await poor.ask("How much is the fish?")
    await expect(poor.note).to_contain_text(re.compile("budget.*UTC", re.DOTALL))
    await poor.note.get_by_role("button", name="Edit").click()
    await expect(poor.question).to_have_value("How much is the fish?")
    await expect(poor.page.locator(".turn")).to_have_count(0)
    await expect(poor.page).to_have_url(f"{poor.url}/")


@pytest.mark.slow
async def test_a_temporary_failure_can_be_retried(sessions: BrowserSessions) -> None:
    reader = await sessions.open_page()
    await reader.goto()
    sessions.monitor.expect_message("ERR_FAILED")
    await reader.page.route("**/chat", lambda route: route.abort(), times=1)
    await reader.ask(f"Hello? {directive(tokens=10)}")
    await expect(reader.note).to_contain_text("The server cannot be reached.")
    await reader.note.get_by_role("button", name="Try again").click()
    await reader.wait_until_complete()
    await expect(reader.page.locator(".turn")).to_have_count(2)


@pytest.mark.slow
async def test_the_chosen_model_and_effort_are_used_and_remembered(ada: PageDriver, site: PageServer) -> None:
    await ada.page.get_by_label("Model").select_option(label="Opus 5.5")
    await ada.page.get_by_label("Effort").select_option(label="Low effort")
    await ada.ask(f"Quickly! {directive(tokens=10)}")
    await ada.wait_until_complete()
    await expect(ada.account).to_contain_text("Opus 5.5")
    body = site.upstream_prompts()[-1].body
    assert isinstance(body, dict)
    assert (body["model"], body["output_config"]) == ("claude-opus-5-5", {"effort": "low"})
    await ada.goto()
    await expect(ada.page.get_by_label("Model")).to_have_value("claude-opus-5-5")
    await expect(ada.page.get_by_label("Effort")).to_have_value("low")


@pytest.mark.slow
async def test_the_effort_can_be_chosen_where_the_model_has_a_choice(ada: PageDriver) -> None:
    await ada.page.get_by_label("Model").select_option(label="Haiku 4.5")
    await expect(ada.page.get_by_label("Effort")).to_be_hidden()
    await ada.page.get_by_label("Model").select_option(label="Opus 5.5")
    await expect(ada.page.get_by_label("Effort")).to_be_visible()


@pytest.mark.slow
async def test_everything_can_be_done_with_the_keyboard(ada: PageDriver) -> None:
    page = ada.page
    await expect(ada.question).to_be_focused()
    await page.keyboard.type("One")
    await page.keyboard.press("Shift+Enter")
    await page.keyboard.type(f"Two {directive(tokens=10)}")
    await page.keyboard.press("Enter")
    await ada.wait_until_complete()
    await expect(page.locator(".said")).to_contain_text("One\nTwo", use_inner_text=True)
    await page.keyboard.press("Alt+ArrowUp")
    await expect(ada.answer).to_be_focused()
    await page.keyboard.press("Alt+ArrowUp")
    await expect(page.locator(".turn.user")).to_be_focused()
    await page.keyboard.press("Control+/")
    await expect(ada.question).to_be_focused()
    await page.keyboard.press("Control+Shift+O")
    await expect(page).to_have_url(f"{ada.url}/")
    await expect(page.locator(".turn")).to_have_count(0)
    await expect(ada.question).to_be_focused()


@pytest.mark.slow
async def test_on_a_phone_the_threads_are_in_a_drawer_and_enter_adds_a_line(sessions: BrowserSessions) -> None:
    phone = await sessions.open_page(viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    await phone.goto()
    page = phone.page
    await phone.ask(f"One {directive(tokens=30)}")
    await expect(page.locator(".turn")).to_have_count(0)
    await page.get_by_role("button", name="Send").tap()
    await phone.wait_until_complete()
    await expect(page.get_by_role("button", name="New thread")).to_be_hidden()
    await page.get_by_role("button", name="Threads").tap()
    await expect(page.get_by_role("button", name="New thread")).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("button", name="Threads")).to_be_focused()
    assert await page.evaluate("() => document.documentElement.scrollWidth") <= 390


@pytest.mark.slow
async def test_a_server_without_users_needs_no_sign_in_and_shows_no_budget(
    sessions: BrowserSessions, site: PageServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    async with page_server(tmp_path_factory.mktemp("local"), site.upstream, {}) as local:
        reader = await sessions.open_page("", url=local.url)
        await reader.goto()
        await expect(reader.page.locator("#who")).to_have_text("local")
        await expect(reader.page.locator("#spent")).to_have_text("$0.00 today")
        await expect(reader.page.get_by_role("progressbar")).to_be_hidden()
        await expect(reader.page.get_by_role("button", name="Sign out")).to_be_hidden()
        await reader.page.close()


@pytest.mark.slow
async def test_an_expensive_question_is_sent_once_its_price_is_approved(
    chromium: Browser, upstream: Simulator, tmp_path: Path
) -> None:
    async with (
        page_server(tmp_path, upstream, {"ada": "50/day"}, confirm_above_usd=0.05) as site,
        browser_sessions(chromium, site) as sessions,
    ):
        sessions.monitor.expect_message("402")
        reader = await sessions.open_page()
        await reader.goto()
        await reader.ask(f"Write a book. {directive(tokens=10)}")
        await expect(reader.note).to_have_text(
            re.compile(r"^This answer may cost up to \$\d+\.\d+\. Send it\?SendEdit$")
        )
        await expect(reader.note).not_to_have_class(re.compile("bad"))
        assert not site.upstream_prompts()
        await reader.note.get_by_role("button", name="Edit").click()
        await expect(reader.answers).to_have_count(0)
        await expect(reader.question).to_have_value(re.compile("^Write a book"))
        await reader.question.press("Enter")
        await reader.note.get_by_role("button", name="Send").click()
        await reader.wait_until_complete()
        await expect(reader.answers).to_have_count(1)
        await expect(reader.note).to_have_count(0)
        await reader.ask("And a second volume.")  # an approval holds for one answer
        await expect(reader.note).to_contain_text("Send it?")
        assert len(site.upstream_prompts()) == 1
