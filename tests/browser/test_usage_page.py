"""The usage page: every number is the ledger's, and what is shown stands in the address.

`USAGE_ROWS=1000000` fills the ledger with so many rows first (two minutes), the usual is 5,000.
"""

from __future__ import annotations

import csv
import io
import os
import re
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from playwright.async_api import Page, Route, expect

from mcp_server_claude.simulator import Simulator
from mcp_server_claude.store.sqlite_connection import open_connection
from support.browser.axe_core import RUN_AXE
from support.browser.box_fonts import FONTS_AND_WIDTHS, use_box_font, wait_for_box_font
from support.browser.browser_sessions import browser_sessions
from support.browser.page_server import page_server
from support.browser.usage_page import ExpectedUsagePage, format_percent, open_usage_page, read_table, wait_for_figures
from support.browser.xss_payloads import XSS_FILE_NAMES
from support.quick_run import slow_beyond
from support.reference_usage import ReferenceUsage
from support.sample_ledger import SampleLedger, entry_row, insert_entries, write_sample_ledger

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from pathlib import Path

    from playwright.async_api import Browser

    from support.browser.box_fonts import BoxFont
    from support.browser.browser_sessions import BrowserSessions
    from support.browser.page_driver import PageDriver
    from support.browser.page_server import PageServer

pytestmark = pytest.mark.anyio

ROWS = int(os.environ.get("USAGE_ROWS", "5000"))
TODAY = datetime.now(UTC).date()
MONTH = {"since": str(TODAY - timedelta(days=29)), "until": str(TODAY)}
QUERY = f"?since={MONTH['since']}&until={MONTH['until']}"

COLOURED_PIXELS = """
canvas => {
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height)
  let count = 0
  for (let i = 0; i < data.length; i += 4) {
    const [red, green, blue, alpha] = data.slice(i, i + 4)
    count += alpha > 200 && Math.max(red, green, blue) - Math.min(red, green, blue) > 60
  }
  return count
}
"""


@dataclass(frozen=True)
class FilledServer:
    """A server whose ledger a team has filled, and the ledger itself."""

    site: PageServer
    data_dir: Path
    ledger: ReferenceUsage


@asynccontextmanager
async def filled_server(folder: Path, users: dict[str, str], team: SampleLedger) -> AsyncGenerator[FilledServer]:
    write_sample_ledger(folder / "data", team)
    with ReferenceUsage.open_ledger(folder / "data") as ledger:
        async with Simulator() as upstream, page_server(folder, upstream, users) as site:
            yield FilledServer(site, folder / "data", ledger)


@pytest.fixture(scope="module")
async def server_with_ledger(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FilledServer]:
    """Without users, so that the reader is the operator."""
    many = ROWS > 100_000
    team = SampleLedger(rows=ROWS, users=200 if many else 12, days=120, until=TODAY)
    async with filled_server(tmp_path_factory.mktemp("books"), {}, team) as server_with_ledger:
        yield server_with_ledger


@pytest.fixture
async def sessions(chromium: Browser, server_with_ledger: FilledServer) -> AsyncIterator[BrowserSessions]:
    async with browser_sessions(chromium, server_with_ledger.site) as sessions:
        yield sessions


@pytest.fixture
async def operator(sessions: BrowserSessions) -> PageDriver:
    return await sessions.open_page("")


async def agrees(page: Page, expected: ExpectedUsagePage) -> None:
    """Every number that is on the page."""
    assert await page.locator("#figures .value").all_text_contents() == expected.figures()
    notes = await page.locator("#figures .note").all_text_contents()
    assert [notes[1], notes[3], notes[4]] == list(expected.notes())
    for name, rows in {
        "spend": expected.spend(),
        "tokens": expected.tokens(),
        "ttft": expected.ttft(),
        "failures": expected.error_rows(),
    }.items():
        assert await read_table(page, f"{name}-table") == rows, name
    for name, totals in expected.legends().items():
        assert await page.locator(f"#{name}-legend b").all_text_contents() == totals, name
    for key in ("model", "user", "tool"):
        assert await read_table(page, f"by-{key}") == expected.shares(key), key


@pytest.mark.parametrize(
    ("per", "only"),
    [
        ("day", {}),
        ("month", {}),
        ("day", {"user": "grace"}),
        ("day", {"model": "claude-haiku-5-5", "tool": "chat"}),
    ],
)
async def test_every_number_on_the_page_is_the_ledgers(
    operator: PageDriver, server_with_ledger: FilledServer, per: str, only: dict[str, str]
) -> None:
    query = "".join(f"&{name}={value}" for name, value in only.items())
    page = await open_usage_page(operator, f"{QUERY}&per={per}{query}")
    await agrees(page, ExpectedUsagePage(server_with_ledger.ledger, **MONTH, per=per, only=tuple(only.items())))


@pytest.mark.slow
async def test_the_change_is_relative_to_the_same_number_of_days_before(
    operator: PageDriver, server_with_ledger: FilledServer
) -> None:
    page = await open_usage_page(operator, QUERY)
    now = server_with_ledger.ledger.totals(**MONTH)
    before = server_with_ledger.ledger.totals(
        since=str(TODAY - timedelta(days=59)), until=str(TODAY - timedelta(days=30))
    )
    notes = await page.locator("#figures .note").all_text_contents()
    for note, name in ((notes[0], "totalCost"), (notes[2], "calls")):
        change = now[name] / before[name] - 1
        assert note == f"{'+' if change >= 0 else '−'}{format_percent(abs(change))} vs. the previous 30 days"
    page = await open_usage_page(operator, "?days=90")  # the ledger has not so many days before
    await expect(page.locator("#figures")).not_to_contain_text("previous")


@pytest.mark.slow
async def test_the_filter_is_in_the_address_and_the_back_button_restores_it(operator: PageDriver) -> None:
    page = await open_usage_page(operator)
    spent = page.locator("#figures .value").first
    everybodys = await spent.text_content()
    await page.get_by_label("User").select_option("grace")
    await expect(page).to_have_url(re.compile(r"/usage\?user=grace$"))
    await wait_for_figures(page)
    await expect(spent).not_to_have_text(everybodys or "")
    graces = await spent.text_content() or ""
    await page.get_by_role("link", name="claude-opus-5-5").click()
    await expect(page).to_have_url(re.compile(r"/usage\?user=grace&model=claude-opus-5-5$"))
    await wait_for_figures(page)
    await expect(page.locator("#by-model tbody tr")).to_have_count(1)
    await page.get_by_label("Period").select_option("7")
    await expect(page).to_have_url(re.compile(r"/usage\?days=7&user=grace&model=claude-opus-5-5$"))
    await page.go_back()
    await expect(page.get_by_label("Period")).to_have_value("30")
    await page.get_by_role("link", name="Model claude-opus-5-5: remove this filter").click()
    await expect(page).to_have_url(re.compile(r"/usage\?user=grace$"))
    await expect(spent).to_have_text(graces)
    await expect(page.get_by_role("heading", name="Usage")).to_be_focused()
    await page.go_back()
    await page.go_back()
    await expect(page.get_by_label("User")).to_have_value("grace")
    await expect(spent).to_have_text(graces)
    await page.reload()
    await expect(spent).to_have_text(graces)
    await page.go_back()
    await expect(spent).to_have_text(everybodys or "")
    await expect(page.get_by_label("User")).to_have_value("")


@pytest.mark.slow
async def test_days_can_be_chosen_one_by_one(operator: PageDriver, server_with_ledger: FilledServer) -> None:
    page = await open_usage_page(operator)
    await page.get_by_label("Period").select_option("dates")
    first, last = TODAY - timedelta(days=10), TODAY - timedelta(days=3)
    await page.get_by_label("From", exact=True).fill(str(first))
    await page.get_by_label("To", exact=True).fill(str(last))
    await expect(page).to_have_url(re.compile(rf"since={first}&until={last}$"))
    await wait_for_figures(page)
    await agrees(page, ExpectedUsagePage(server_with_ledger.ledger, str(first), str(last)))
    await page.get_by_label("Group by").select_option("month")
    await expect(page).to_have_url(re.compile(r"per=month$"))
    await expect(page.locator("#spend-table thead")).to_contain_text("Month")


@pytest.mark.slow
async def test_the_download_has_the_rows_of_the_current_filter(
    operator: PageDriver, server_with_ledger: FilledServer
) -> None:
    page = await open_usage_page(operator, f"{QUERY}&user=grace&tool=chat")
    async with page.expect_download() as started:
        await page.get_by_role("link", name="CSV").click()
    download = await started.value
    assert download.suggested_filename == f"usage-{MONTH['since']}-{MONTH['until']}.csv"
    text = await anyio.Path(await download.path()).read_text(encoding="utf-8")
    lines = list(csv.DictReader(io.StringIO(text)))
    sums = server_with_ledger.ledger.totals(**MONTH, user="grace", tool="chat")
    assert sum(int(line["calls"]) for line in lines) == sums["calls"] > 0
    assert {(line["user"], line["tool"]) for line in lines} == {("grace", "chat")}


@pytest.mark.slow
async def test_the_most_expensive_names_are_shown_and_the_others_on_request(operator: PageDriver) -> None:
    page = await open_usage_page(operator, QUERY)
    shown = page.locator("#by-user tbody tr:visible")
    await expect(shown).to_have_count(8)
    await page.get_by_role("button", name=re.compile("Show all")).press("Enter")
    await expect(shown).to_have_count(await page.locator("#by-user tbody tr").count())
    await expect(page.locator("#by-user tbody tr").nth(8).locator("a")).to_be_focused()


@pytest.mark.slow
async def test_a_chart_can_be_read_with_the_keyboard_and_a_screen_reader(
    operator: PageDriver, server_with_ledger: FilledServer
) -> None:
    page = await open_usage_page(operator, QUERY)
    chart = page.locator("#failures")
    await expect(chart).to_have_role("img")
    await expect(chart).to_have_attribute("aria-label", re.compile(r"^Failures and retries by day: [\d,]+ failed"))
    await chart.focus()
    await page.keyboard.press("ArrowLeft")
    last = ExpectedUsagePage(server_with_ledger.ledger, MONTH["since"], MONTH["until"]).error_rows()[0]
    await expect(page.get_by_role("status")).to_have_text(f"{last[0]}: Retries {last[4]}, Failed {last[3]}")
    await expect(chart.locator(".tip")).to_contain_text(last[0])
    await page.keyboard.press("Escape")
    await expect(chart.locator(".tip")).to_be_hidden()
    await page.locator("#failures ~ details summary").press("Enter")
    await expect(page.get_by_role("region", name="Failures and retries, table")).to_be_visible()


@pytest.mark.slow
async def test_a_change_of_the_filter_is_announced(operator: PageDriver) -> None:
    page = await open_usage_page(operator, QUERY)
    await expect(page.get_by_role("status")).to_be_empty()
    await page.get_by_label("User").select_option("ada")
    await expect(page.get_by_role("status")).to_have_text(re.compile(r"UTC: \$[\d,.]+ in [\d,]+ calls\.$"))


@pytest.mark.slow
async def test_an_outage_is_reported_and_can_be_retried(sessions: BrowserSessions) -> None:
    sessions.monitor.expect_message(r"Failed to load resource")
    reader = await sessions.open_page("")
    away = True

    async def answer(route: Route) -> None:
        await (route.abort() if away else route.continue_())

    await reader.page.route("**/usage.json*", answer)
    page = await open_usage_page(reader)
    await expect(page.get_by_role("alert")).to_contain_text("cannot be reached")
    await expect(page.locator("#report")).to_be_hidden()
    away = False
    await page.get_by_role("button", name="Try again").click()
    await expect(page.locator("#figures")).to_be_visible()
    await expect(page.get_by_role("alert")).to_be_hidden()


@pytest.mark.slow
async def test_an_invalid_address_shows_the_error_of_the_server(sessions: BrowserSessions) -> None:
    sessions.monitor.expect_message(r"status of 4\d\d")
    reader = await sessions.open_page("")
    page = await open_usage_page(reader, "?since=2026-11-02&until=2026-11-01")
    await expect(page.get_by_role("alert")).to_contain_text("since must not be later than until")
    await expect(page.get_by_role("button", name="Try again")).to_be_hidden()
    await page.get_by_label("Period").select_option("30")
    await expect(page.locator("#figures")).to_be_visible()
    await expect(page.get_by_role("alert")).to_be_hidden()


@pytest.mark.slow
async def test_an_empty_result_is_reported_plainly(operator: PageDriver) -> None:
    page = await open_usage_page(operator, "?since=2020-01-01&until=2020-01-31")
    await expect(page.get_by_role("heading", name="No usage in this period.")).to_be_visible()
    await expect(page.locator("#report")).to_be_hidden()
    page = await open_usage_page(operator, f"{QUERY}&tool=nothing")
    await page.get_by_role("link", name="Remove the filters").click()
    await expect(page.locator("#figures")).to_be_visible()


@pytest.mark.slow
async def test_a_user_sees_only_their_usage_and_an_empty_ledger_is_reported(chromium: Browser, tmp_path: Path) -> None:
    async with (
        filled_server(
            tmp_path, {"grace": "5/day", "new": "5/day"}, SampleLedger(rows=900, until=TODAY)
        ) as server_with_ledger,
        browser_sessions(chromium, server_with_ledger.site) as sessions,
    ):
        reader = await sessions.open_page("grace")
        page = await open_usage_page(reader, QUERY)
        expected = ExpectedUsagePage(server_with_ledger.ledger, **MONTH, only=(("user", "grace"),))
        assert await page.locator("#figures .value").all_text_contents() == expected.figures()
        await expect(page.get_by_label("User")).to_be_hidden()
        await expect(page.locator("#by-user")).to_be_hidden()
        reader = await sessions.open_page("new")
        page = await open_usage_page(reader)
        await expect(page.get_by_role("heading", name="No usage in this period.")).to_be_visible()
        sessions.monitor.expect_message(r"status of 403")
        page = await open_usage_page(reader, "?user=grace")
        await expect(page.get_by_role("alert")).to_contain_text("Only operators can see the usage of other users.")
        reader = await sessions.open_page("")
        await reader.page.goto(f"{reader.url}/usage")
        await expect(reader.page).to_have_url(f"{reader.url}/signin?to=%2Fusage")


async def test_invented_names_are_only_text(chromium: Browser, tmp_path: Path) -> None:
    hostile = [*XSS_FILE_NAMES, '"><svg onload=alert(1)>', "{{constructor}}", "\u202eevil", "javascript:alert(1)"]
    async with (
        filled_server(tmp_path, {}, SampleLedger(rows=0)) as server_with_ledger,
        browser_sessions(chromium, server_with_ledger.site) as sessions,
    ):
        noon = datetime.combine(TODAY, datetime.min.time(), UTC).timestamp()
        connection = open_connection(server_with_ledger.data_dir / "store.db")
        lines: list[dict[str, Any]] = [{"model": name, "user": name, "tool": name} for name in hostile]
        insert_entries(connection, [entry_row(n, noon, cost_micros=100 - n, **line) for n, line in enumerate(lines)])
        connection.close()
        reader = await sessions.open_page("")
        page = await open_usage_page(reader)
        for key in ("model", "user", "tool"):
            assert [cells[0] for cells in await read_table(page, f"by-{key}")] == hostile
        for element in ("#content img", "#content script", "#content svg[onload]", "#content [onerror]"):
            await expect(page.locator(element)).to_have_count(0)
        link = page.locator("#by-model a", has_text="<img").first
        await link.click()
        await wait_for_figures(page)
        await expect(page.get_by_role("link", name=f"Model {hostile[0]}: remove this filter")).to_be_visible()
        await page.locator("#spend").focus()
        await page.keyboard.press("ArrowLeft")
        await expect(page.locator("#spend .tip")).to_contain_text("<img")
        hrefs = await page.evaluate("() => [...document.querySelectorAll('#content a')].map(a => a.protocol)")
        assert set(hrefs) == {"http:"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("theme", "width"), slow_beyond(1, [("dark", 1280), ("light", 320), ("light", 1280), ("dark", 390)])
)
async def test_axe_finds_no_fault_and_nothing_scrolls_sideways(
    sessions: BrowserSessions, axe: str, theme: str, width: int
) -> None:
    sessions.monitor.expect_message(r"status of 400")
    reader = await sessions.open_page(
        "", viewport={"width": width, "height": 800}, color_scheme=theme, reduced_motion="reduce"
    )
    for query in (
        QUERY,
        f"{QUERY}&per=month&model=claude-opus-5-5",
        "?days=365",
        f"{QUERY}&tool=none",
        "?since=1999-01-01",
    ):
        page = await open_usage_page(reader, query)
        if await page.locator("#report").is_visible():
            for summary in await page.locator("summary").all():
                await summary.click()
        await page.evaluate(axe)
        assert await page.evaluate(RUN_AXE) == [], query
        assert await page.evaluate("() => document.documentElement.scrollWidth <= innerWidth"), query


@pytest.mark.slow
async def test_the_first_day_has_points_in_its_charts_and_no_negative_saving(chromium: Browser, tmp_path: Path) -> None:
    async with (
        filled_server(tmp_path, {}, SampleLedger(rows=0)) as server_with_ledger,
        browser_sessions(chromium, server_with_ledger.site) as sessions,
    ):
        noon = datetime.combine(TODAY, datetime.min.time(), UTC).timestamp()
        connection = open_connection(server_with_ledger.data_dir / "store.db")
        first = entry_row(
            1, noon, model="claude-sonnet-5-5", cache_creation_input_tokens=4000, ttft_ms=700, cost_micros=25_000
        )
        insert_entries(connection, [first])
        connection.close()
        page = await open_usage_page(await sessions.open_page("", color_scheme="light"))
        await expect(page.locator("#figures")).to_contain_text("Cost of the cache$0.0020")
        await expect(page.locator("#figures")).not_to_contain_text("−")
        assert await page.locator("#ttft canvas").evaluate(COLOURED_PIXELS) > 10
        assert await page.locator("#spend canvas").evaluate(COLOURED_PIXELS) > 10


@pytest.mark.slow
async def test_a_printed_page_has_colours_and_is_not_cut_off(operator: PageDriver) -> None:
    await operator.page.emulate_media(color_scheme="dark")
    page = await open_usage_page(operator, QUERY)
    await page.locator("#spend ~ details summary").click()
    await page.evaluate("() => dispatchEvent(new Event('beforeprint'))")
    await page.emulate_media(media="print", color_scheme="dark")
    await page.set_viewport_size({"width": 700, "height": 900})
    await expect(page.locator("#spend-legend .key").first).to_have_css("print-color-adjust", "exact")
    await expect(page.locator("body")).to_have_css("color", "rgb(31, 28, 24)")
    table = page.get_by_role("region", name="Spend, table")
    assert await table.evaluate("scroll => getComputedStyle(scroll).overflow === 'visible'")
    assert await page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.slow
@pytest.mark.parametrize(("font", "width"), FONTS_AND_WIDTHS)
async def test_the_usage_page_fits_its_window_with_any_font(
    sessions: BrowserSessions, font: BoxFont, width: int
) -> None:
    reader = await sessions.open_page("", viewport={"width": width, "height": 800}, bypass_csp=True)
    await use_box_font(reader.page, font)
    for query in (QUERY, f"{QUERY}&per=month&user=grace&model=claude-opus-5-5", f"{QUERY}&tool=none"):
        page = await open_usage_page(reader, query)
        await wait_for_box_font(page)
        for summary in await page.locator("summary").all():
            if await summary.is_visible():
                await summary.click()
        assert await page.evaluate("() => document.documentElement.scrollWidth <= innerWidth"), query


@pytest.mark.slow
async def test_another_theme_redraws_the_charts(sessions: BrowserSessions) -> None:
    reader = await sessions.open_page("", color_scheme="light")
    page = await open_usage_page(reader, QUERY)
    canvas = page.locator("#spend canvas")
    picture = "canvas => { canvas.dataset.old = ''; return canvas.toDataURL() }"
    light = await canvas.evaluate(picture)
    await page.emulate_media(color_scheme="dark")
    await expect(page.locator("#spend canvas[data-old]")).to_have_count(0)
    await expect(canvas).to_have_count(1)
    assert await canvas.evaluate(picture) != light
