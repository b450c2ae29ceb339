"""The pictures of the usage page in the docs, of a ledger that is made up. Run it with `scripts/pictures`."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import anyio
from playwright.async_api import expect

from mcp_server_claude.simulator import Simulator
from support.browser.browser_sessions import browser_sessions, launch_chromium
from support.browser.page_server import page_server
from support.browser.usage_page import open_usage_page
from support.sample_ledger import SampleLedger, write_sample_ledger

if TYPE_CHECKING:
    from support.browser.browser_sessions import BrowserSessions

IMAGES = Path(__file__).parents[3] / "docs" / "images"


async def main() -> None:
    """Take every picture."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_sample_ledger(folder / "data", SampleLedger(rows=20_000, until=datetime.now(UTC).date()))
        async with Simulator() as upstream, page_server(folder, upstream, {}) as site, launch_chromium() as chromium:
            if chromium is None:
                sys.exit("There is no Chromium here.")
            async with browser_sessions(chromium, site) as sessions:
                await _capture_desktop(sessions)
                await _capture_dark(sessions)
                await _capture_phone(sessions)


async def _capture_desktop(sessions: BrowserSessions) -> None:
    reader = await sessions.open_page("", color_scheme="light", reduced_motion="reduce")
    page = await open_usage_page(reader)
    await page.screenshot(path=IMAGES / "usage.png", full_page=True)


async def _capture_dark(sessions: BrowserSessions) -> None:
    reader = await sessions.open_page("", color_scheme="dark", reduced_motion="reduce")
    page = await open_usage_page(reader, "?days=30&model=claude-opus-5-5")
    chart = page.locator("#spend")
    await chart.focus()
    for _ in range(7):
        await page.keyboard.press("ArrowLeft")
    await expect(chart.locator(".tip")).to_be_visible()
    await page.screenshot(path=IMAGES / "usage-dark.png")


async def _capture_phone(sessions: BrowserSessions) -> None:
    reader = await sessions.open_page(
        "",
        viewport={"width": 390, "height": 844},
        device_scale_factor=1.5,
        color_scheme="dark",
        reduced_motion="reduce",
        is_mobile=True,
        has_touch=True,
    )
    page = await open_usage_page(reader)
    await page.screenshot(path=IMAGES / "usage-phone.png")


if __name__ == "__main__":
    anyio.run(main)
