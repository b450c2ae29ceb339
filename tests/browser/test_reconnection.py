"""Readers come and go: reloads, lost lines, threads that are left and opened again."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import anyio
import anyio.to_thread
import pytest
from playwright.async_api import Route, expect

from mcp_server_claude.simulator import directive
from support.browser.page_driver import PageDriver
from support.browser.page_server import cuttable_proxy, page_server

if TYPE_CHECKING:
    from pathlib import Path

    from support.browser.browser_sessions import BrowserSessions
    from support.browser.page_server import PageServer

pytestmark = pytest.mark.anyio

WORDS = " ".join(f"word{n}" for n in range(120))
SLOWLY = directive(text=WORDS, pace=5)
"""An answer so slow that it ends only when the simulator skips its delays."""
ENDLESS = " ".join(f"word{n}" for n in range(9000))


@pytest.mark.slow
async def test_a_reload_in_mid_stream_shows_the_rest(ada: PageDriver, site: PageServer) -> None:
    count_before = len(site.upstream_prompts())
    await ada.ask(f"Count. {SLOWLY}")
    await ada.wait_for_chars()
    await ada.page.reload()
    await expect(ada.page.get_by_role("button", name="Stop")).to_be_visible()
    await expect(ada.page.locator(".said")).to_contain_text("Count.")
    site.upstream.skip_delays()
    await ada.wait_until_complete()
    await expect(ada.text).to_have_text(WORDS)
    await expect(ada.page.locator(".turn")).to_have_count(2)
    assert len(site.upstream_prompts()) == count_before + 1


@pytest.mark.slow
async def test_a_reload_after_the_end_shows_the_same_text_and_usage(ada: PageDriver) -> None:
    await ada.ask(f"Count. {directive(text=WORDS)}")
    await ada.wait_until_complete()
    account, title = await ada.account.text_content(), await ada.page.title()
    cost = await ada.page.locator("#cost").text_content()
    await ada.page.reload()
    await expect(ada.text).to_have_text(WORDS)
    await expect(ada.account).to_have_text(account or "?")
    await expect(ada.page).to_have_title(title)
    await expect(ada.page.locator("#cost")).to_have_text(cost or "?")


@pytest.mark.slow
async def test_a_lost_connection_resumes_at_the_same_offset(sessions: BrowserSessions, site: PageServer) -> None:
    sessions.monitor.expect_message("ERR_")  # the browser reports the lost connection
    async with cuttable_proxy(site) as line:
        reader = await sessions.open_page(url=line.url)
        await reader.goto()
        resumed: list[str] = []
        reader.page.on("request", lambda request: resumed.append(request.headers.get("last-event-id", "")))
        await reader.ask(f"Count. {SLOWLY}")
        await reader.wait_for_chars()
        line.cut()
        await expect(reader.note).to_contain_text("Reconnecting")
        line.restore()
        site.upstream.skip_delays()
        await reader.wait_until_complete()
        await expect(reader.note).to_have_count(0)
        await expect(reader.text).to_have_text(WORDS)
        assert any(re.fullmatch(r"c_[0-9a-f]{24}:[1-9]\d*", place) for place in resumed)
        await reader.page.close()


@pytest.mark.slow
async def test_after_a_crash_the_saved_text_is_shown_with_its_cost_and_can_be_continued(
    sessions: BrowserSessions, site: PageServer, tmp_path: Path
) -> None:
    sessions.monitor.expect_message("ERR_|400")  # the lost connection; and more had been read than was saved
    async with page_server(tmp_path, site.upstream, {}, real=True) as first, cuttable_proxy(first) as line:
        reader = await sessions.open_page("", url=line.url)
        await reader.goto()
        await reader.ask(f"Count. {directive(text=ENDLESS, pace=300)}")
        await reader.wait_for_chars()
        await _wait_for_saved_text(tmp_path / "data" / "store.db")
        line.cut()
        first.server.kill()
        first.server.wait()
        await expect(reader.note).to_contain_text("Reconnecting")
        async with page_server(tmp_path, site.upstream, {}) as second:
            line.target = second.url
            line.restore()
            await _is_interrupted(reader)
            await reader.page.reload()
            await _is_interrupted(reader)
            await reader.note.get_by_role("button", name="Continue").click()
            await expect(reader.answers).to_have_count(2)
            await expect(reader.page.get_by_role("button", name="Continue")).to_have_count(0)
            await reader.wait_for_chars()
            site.upstream.skip_delays()
            await reader.wait_until_complete()
            await reader.page.close()


async def test_a_restart_is_reported_and_the_text_so_far_is_kept(
    sessions: BrowserSessions, site: PageServer, tmp_path: Path
) -> None:
    sessions.monitor.expect_message("ERR_|400")
    async with page_server(tmp_path, site.upstream, {}, drain_s=0) as first, cuttable_proxy(first) as line:
        reader = await sessions.open_page("", url=line.url)
        await reader.goto()
        await reader.ask(f"Count. {directive(text=ENDLESS, pace=300)}")
        await reader.wait_for_chars()
        first.server.terminate()
        await expect(reader.note).to_contain_text(re.compile(r"^The server is restarting…$|Reconnecting"))
        await anyio.to_thread.run_sync(first.server.wait)
        async with page_server(tmp_path, site.upstream, {}) as second:
            line.target = second.url
            await _is_interrupted(reader)
            await reader.page.close()


async def _is_interrupted(reader: PageDriver) -> None:
    await expect(reader.page.locator("[aria-busy]")).to_have_count(0)
    await expect(reader.note).to_contain_text("The server stopped before this answer was complete.")
    await expect(reader.note.get_by_role("button", name="Continue")).to_be_visible()
    assert ENDLESS.startswith((await reader.text.text_content() or "?").strip())
    for cost in (reader.page.locator("#cost"), reader.account):
        await expect(cost).to_contain_text("$")


async def _wait_for_saved_text(store: Path) -> None:
    """Wait until something of an answer is in the journal."""
    with closing(sqlite3.connect(store)) as connection, anyio.fail_after(60):
        while connection.execute("select count(*) from chunk").fetchone() == (0,):  # noqa: ASYNC110 - another process
            await anyio.sleep(0.05)


@pytest.mark.slow
async def test_two_tabs_read_the_same_answer(ada: PageDriver, site: PageServer) -> None:
    count_before = len(site.upstream_prompts())
    await ada.ask(f"Count. {SLOWLY}")
    await ada.wait_for_chars()
    other = PageDriver(await ada.page.context.new_page(), ada.url, ada.monitor)
    ada.monitor.attach(other.page)
    await other.page.goto(ada.page.url)
    await other.wait_for_chars()
    site.upstream.skip_delays()
    for tab in (ada, other):
        await tab.wait_until_complete()
        await expect(tab.text).to_have_text(WORDS)
    assert len(site.upstream_prompts()) == count_before + 1


@pytest.mark.slow
async def test_an_answer_continues_while_another_thread_is_open(ada: PageDriver, site: PageServer) -> None:
    count_before = len(site.upstream_prompts())
    await ada.ask(f"Count. {SLOWLY}")
    await ada.wait_for_chars()
    counting = ada.page.url
    await ada.page.get_by_role("button", name="New thread").click()
    await expect(ada.page.locator(".turn")).to_have_count(0)
    await expect(ada.page.get_by_label("answering")).to_have_count(1)
    await ada.ask(f"And meanwhile? {directive(tokens=10)}")
    await ada.wait_until_complete()
    await expect(ada.page.locator(".turn")).to_have_count(2)
    await ada.page.locator(f"#threads a[href='{counting.removeprefix(ada.url)}']").click()
    await expect(ada.page).to_have_url(counting)
    await ada.wait_for_chars()
    site.upstream.skip_delays()
    await ada.wait_until_complete()
    await expect(ada.text).to_have_text(WORDS)
    await expect(ada.page.get_by_label("answering")).to_have_count(0)
    await site.wait_until_idle()
    assert [each.end for each in site.upstream_prompts()[count_before:]] == ["complete", "complete"]


@pytest.mark.slow
async def test_back_and_forward_switch_between_threads(ada: PageDriver) -> None:
    await ada.ask(f"First. {directive(tokens=10)}")
    await ada.wait_until_complete()
    await ada.page.get_by_role("button", name="New thread").click()
    await ada.ask(f"Second. {directive(tokens=10)}")
    await ada.wait_until_complete()
    await ada.page.go_back()
    await expect(ada.page.locator(".said")).to_contain_text("First.")
    await ada.page.go_forward()
    await expect(ada.page.locator(".said")).to_contain_text("Second.")


@pytest.mark.slow
async def test_a_thread_is_deleted_after_a_question_and_never_while_it_is_answered(sessions: BrowserSessions) -> None:
    sessions.monitor.expect_message("40[49]|400")
    reader = await sessions.open_page()
    await reader.goto()
    page = reader.page
    await reader.ask(f"Delete me. {directive(tokens=3000, pace=50)}")
    await reader.wait_for_chars()
    here = page.url
    await page.get_by_role("button", name="Delete this thread").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("Delete this thread?")
    await dialog.get_by_role("button", name="Delete").click()
    await expect(dialog.get_by_role("alert")).to_contain_text("Stop it before you delete the thread.")
    await page.keyboard.press("Escape")
    await page.get_by_role("button", name="Stop").click()
    await reader.wait_until_complete()
    await page.get_by_role("button", name="Delete this thread").click()
    await dialog.get_by_role("button", name="Delete").click()
    await expect(page).to_have_url(f"{reader.url}/")
    await expect(page.locator(f"#threads a[href='{here.removeprefix(reader.url)}']")).to_have_count(0)
    await page.goto(here)
    await expect(page.locator("#trouble")).to_contain_text("This thread no longer exists.")


@pytest.mark.slow
async def test_an_expired_session_is_renewed_on_the_same_page(sessions: BrowserSessions, site: PageServer) -> None:
    sessions.monitor.expect_message("401")
    sessions.monitor.expect_message(
        "Autofocus processing was blocked"
    )  # where the page was quicker than the sign-in form
    reader = await sessions.open_page()
    await reader.goto()
    await reader.ask(f"First. {directive(tokens=10)}")
    await reader.wait_until_complete()
    here = reader.page.url
    await reader.page.context.clear_cookies()
    await reader.ask(f"Second. {directive(tokens=12)}")
    await expect(reader.page.get_by_role("heading", name="Sign in")).to_be_visible()
    await reader.page.get_by_label("Access token").fill(site.tokens["ada"])
    await reader.page.get_by_role("button", name="Sign in").click()
    await expect(reader.page).to_have_url(here)
    await expect(reader.page.locator(".said")).to_contain_text("First.")
    await expect(reader.question).to_have_value(re.compile(r"^Second\."))
    await reader.page.get_by_role("button", name="Send").click()
    await expect(reader.answers).to_have_count(2)
    await reader.wait_until_complete()


async def test_an_unknown_thread_is_a_new_one(ada: PageDriver) -> None:
    ada.monitor.expect_message("404")
    await ada.page.goto(f"{ada.url}/t/t_0123456789abcdef")
    await expect(ada.page.locator("#trouble")).to_contain_text("This thread no longer exists.")
    await ada.ask(f"Begin. {directive(tokens=10)}")
    await ada.wait_until_complete()
    await expect(ada.page).not_to_have_url(f"{ada.url}/t/t_0123456789abcdef")
    await expect(ada.page.locator("#trouble .note")).to_have_count(0)


@pytest.mark.slow
async def test_a_thread_that_failed_to_load_can_be_loaded_again(ada: PageDriver) -> None:
    ada.monitor.expect_message("ERR_FAILED")
    await ada.ask(f"First. {directive(tokens=10)}")
    await ada.wait_until_complete()
    await ada.page.route("**/threads/*.json", lambda route: route.abort(), times=1)
    await ada.page.reload()
    await ada.page.locator("#trouble").get_by_role("button", name="Try again").click()
    await expect(ada.page.locator(".said")).to_contain_text("First.")
    await expect(ada.page.locator("#trouble .note")).to_have_count(0)


@pytest.mark.slow
async def test_the_end_of_a_long_thread_is_loaded_first_and_the_beginning_follows(ada: PageDriver) -> None:
    turn: dict[str, object] = {"files": [], "call": "", "usage": None, "running": False, "incomplete": ""}
    turns = [{"role": role, "text": f"{role} {n}", **turn} for n in range(100) for role in ("user", "assistant")]
    thread = {"id": "t_long", "title": "Long", "model": "", "updated": 0, "cost_usd": 1.5, "messages": turns}
    await ada.page.route("**/threads/t_long.json", lambda route: route.fulfill(json=thread))
    await ada.page.goto(f"{ada.url}/t/t_long")
    await expect(ada.page.get_by_text("assistant 99", exact=True)).to_be_in_viewport()
    await expect(ada.page.locator(".turn")).to_have_count(200)
    await expect(ada.page.locator(".turn").first).to_contain_text("user 0")
    await expect(ada.page.get_by_text("assistant 99", exact=True)).to_be_in_viewport()


@pytest.mark.slow
async def test_two_tabs_of_a_thread_show_the_same_questions_and_answers(ada: PageDriver, site: PageServer) -> None:
    await ada.ask(f"First. {directive(tokens=10)}")
    await ada.wait_until_complete()
    other = PageDriver(await ada.page.context.new_page(), ada.url, ada.monitor)
    ada.monitor.attach(other.page)
    await other.page.goto(ada.page.url)
    await expect(other.answers).to_have_count(1)
    await ada.ask(f"Second. {SLOWLY}")
    await ada.wait_for_chars()
    await expect(other.page.locator(".said").last).to_contain_text("Second.")
    await other.wait_for_chars()
    await expect(other.page.get_by_role("button", name="Stop")).to_be_visible()
    site.upstream.skip_delays()
    await other.wait_until_complete()
    await other.ask(f"Third. {directive(tokens=10)}")
    await other.wait_until_complete()
    for tab in (ada, other):
        await expect(tab.answers).to_have_count(3)
        turn = [(text or "")[:6].rstrip(".") for text in await tab.page.locator(".said").all_text_contents()]
        assert turn == ["First", "Second", "Third"]
    await ada.page.get_by_role("button", name="Delete this thread").click()
    await ada.page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    await expect(other.page.locator("#trouble")).to_contain_text("This thread no longer exists.")


@pytest.mark.slow
async def test_a_question_that_is_sent_while_the_thread_is_read_gets_one_answer(ada: PageDriver) -> None:
    """The thread that arrives holds the answer already, but the page cannot know yet that this answer is its own."""
    await ada.ask(f"First. {directive(tokens=10)}")
    await ada.wait_until_complete()
    is_listed, is_answered, may_be_shown, is_read = (anyio.Event() for _ in range(4))

    async def hold_thread(route: Route) -> None:
        is_listed.set()
        await is_answered.wait()
        await route.fulfill(response=await route.fetch())
        is_read.set()

    async def hold_answer(route: Route) -> None:
        response = await route.fetch()
        is_answered.set()
        await may_be_shown.wait()
        await route.fulfill(response=response)

    await ada.page.route("**/threads/*.json", hold_thread)
    await ada.page.route("**/chat", hold_answer)
    announcement = "thread => new BroadcastChannel('mcp-server-claude').postMessage({ thread, isDeleted: false })"
    await ada.page.evaluate(announcement, ada.page.url.rpartition("/")[2])
    await is_listed.wait()
    await ada.ask(f"Second. {directive(tokens=12)}")
    await is_read.wait()
    await ada.page.unroute("**/threads/*.json")
    may_be_shown.set()
    await expect(ada.answers.last).to_contain_text("92 out")
    await ada.wait_until_complete()
    await expect(ada.answers).to_have_count(2)


@pytest.mark.slow
async def test_a_question_from_another_device_appears_when_the_page_is_looked_at(sessions: BrowserSessions) -> None:
    desktop = await sessions.open_page()
    await desktop.goto()
    await desktop.ask(f"First. {directive(tokens=10)}")
    await desktop.wait_until_complete()
    phone = await sessions.open_page()
    await phone.goto(desktop.page.url.removeprefix(desktop.url))
    await phone.ask(f"Second. {directive(tokens=10)}")
    await expect(phone.answers).to_have_count(2)
    await phone.wait_until_complete()
    await desktop.page.evaluate("() => document.dispatchEvent(new Event('visibilitychange'))")
    await expect(desktop.page.locator(".said")).to_have_count(2)
    await expect(desktop.page.locator(".said").last).to_contain_text("Second.")
    await expect(desktop.answers).to_have_count(2)


@pytest.mark.slow
async def test_a_message_that_is_sent_while_an_answer_is_written_waits_for_its_end(
    ada: PageDriver, site: PageServer
) -> None:
    await ada.ask(f"Count. {SLOWLY}")
    await ada.wait_for_chars()
    queued = ada.page.get_by_text("Your message will be sent when this answer is complete.").first
    await ada.ask(f"And then? {directive(tokens=10)}")
    await expect(queued).to_be_visible()
    await expect(ada.answers).to_have_count(1)
    await ada.page.get_by_role("button", name="Cancel").click()
    await expect(queued).to_be_hidden()
    await expect(ada.question).to_have_value(re.compile("^And then?"))
    await ada.question.press("Enter")
    await expect(queued).to_be_visible()
    site.upstream.skip_delays()
    await expect(ada.answers).to_have_count(2)
    await ada.wait_until_complete()
    await expect(queued).to_be_hidden()
    await expect(ada.question).to_have_value("")
    await expect(ada.page.locator(".said").last).to_contain_text("And then?")


@pytest.mark.slow
async def test_a_message_that_waits_is_not_sent_after_an_answer_that_was_stopped(ada: PageDriver) -> None:
    await ada.ask(f"Count. {directive(text=ENDLESS, pace=50)}")
    await ada.wait_for_chars()
    await ada.ask("And then?")
    await ada.page.keyboard.press("Escape")
    await ada.wait_until_complete()
    await expect(ada.page.get_by_role("button", name="Send")).to_be_enabled()
    await expect(ada.question).to_have_value("And then?")
    await expect(ada.answers).to_have_count(1)


@pytest.mark.slow
async def test_all_threads_can_be_reached(ada: PageDriver) -> None:
    threads = [{"id": f"t_{n:016x}", "title": f"Thread {n}", "updated": 1e9 - n, "cost_usd": 0} for n in range(220)]

    async def answer(route: Route) -> None:
        start = int(parse_qs(urlsplit(route.request.url).query).get("after", ["0:"])[0].split(":")[0])
        more = f'</threads.json?after={start + 100}:t_0>; rel="next"' if start < 200 else ""
        await route.fulfill(json=threads[start : start + 100], headers={"Link": more})

    await ada.page.route("**/threads.json*", answer)
    await ada.goto()
    links, more = ada.page.locator("#threads a"), ada.page.get_by_role("button", name="Show earlier threads")
    await expect(links).to_have_count(100)
    await more.click()
    await expect(links).to_have_count(200)
    await expect(links.nth(100)).to_be_focused()
    await ada.page.evaluate("() => document.dispatchEvent(new Event('visibilitychange'))")
    await more.press("Enter")
    await expect(links).to_have_count(220)
    await expect(more).to_have_count(0)
    assert await links.all_text_contents() == [thread["title"] for thread in threads]
