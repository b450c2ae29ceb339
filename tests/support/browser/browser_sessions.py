"""The way into the server: a browser of one's own, signed in, and watched."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from shutil import which
from typing import TYPE_CHECKING

from playwright.async_api import async_playwright, expect

from support.browser.page_driver import EXPECT_TIMEOUT_MS, PageDriver, PageMonitor

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from playwright.async_api import Browser, BrowserContext, StorageState

    from support.browser.page_server import PageServer

DESKTOP = {"width": 1280, "height": 800}
CHROMIUM_FLAGS = [
    "--no-sandbox",  # CI runs as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass
class BrowserSessions:
    """Lets readers in, in browsers of their own, and sees to it that nothing went wrong in any."""

    browser: Browser
    site: PageServer
    monitor: PageMonitor = field(default_factory=PageMonitor)
    contexts: list[BrowserContext] = field(default_factory=list["BrowserContext"])

    async def open_page(self, user: str = "ada", *, url: str = "", **options: object) -> PageDriver:
        """A reader who is signed in, or with an empty name not yet."""
        url = url or self.site.url
        state = await self._sign_in(user, url) if user else None
        manner = {"viewport": DESKTOP, "storage_state": state, **options}
        context = await self.browser.new_context(**manner)  # pyright: ignore[reportArgumentType] - its own options
        self.contexts.append(context)
        await context.grant_permissions(["clipboard-read", "clipboard-write"], origin=url)
        return await PageDriver.open(context, url, self.monitor)

    async def _sign_in(self, user: str, url: str) -> StorageState:
        context = await self.browser.new_context()
        answer = await context.request.post(
            f"{url}/signin", form={"token": self.site.tokens[user]}, headers={"Origin": url}, max_redirects=0
        )
        assert answer.status == 303
        state = await context.storage_state()
        await context.close()
        return state


@asynccontextmanager
async def browser_sessions(browser: Browser, site: PageServer) -> AsyncGenerator[BrowserSessions]:
    sessions = BrowserSessions(browser, site)
    yield sessions
    for context in sessions.contexts:
        await context.close()
    sessions.monitor.check()


@asynccontextmanager
async def launch_chromium() -> AsyncGenerator[Browser | None]:
    """The system's Chromium, where there is one."""
    path = which("chromium") or which("/usr/bin/chromium")
    if path is None:
        yield None
        return
    expect.set_options(timeout=EXPECT_TIMEOUT_MS)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=CHROMIUM_FLAGS)
        yield browser
        await browser.close()
