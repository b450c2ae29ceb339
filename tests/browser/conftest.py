from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mcp_server_claude.simulator import Pace, Simulator
from support.browser.browser_sessions import BrowserSessions, browser_sessions, launch_chromium
from support.browser.page_server import PageServer, page_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Browser

    from support.browser.page_driver import PageDriver


@pytest.fixture(scope="session")
async def chromium() -> AsyncIterator[Browser]:
    """One browser for all tests."""
    async with launch_chromium() as browser:
        if browser is None:
            pytest.skip("There is no Chromium here; `apt-get install chromium` brings one.")
        yield browser


@pytest.fixture(scope="session")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PageServer]:
    """A server with two users: ada has money, poor has none."""
    async with (
        Simulator(pace=Pace(ttft_s=0, tokens_per_s=0)) as upstream,
        page_server(
            tmp_path_factory.mktemp("site"), upstream, {"ada": "50/day", "poor": "0.000001/day"}
        ) as opened_site,
    ):
        yield opened_site


@pytest.fixture
async def sessions(chromium: Browser, site: PageServer) -> AsyncIterator[BrowserSessions]:
    async with browser_sessions(chromium, site) as sessions:
        yield sessions


@pytest.fixture(scope="module")
async def sessions_for_module(chromium: Browser, site: PageServer) -> AsyncIterator[BrowserSessions]:
    """For tests that share a page."""
    async with browser_sessions(chromium, site) as sessions:
        yield sessions


@pytest.fixture
async def ada(sessions: BrowserSessions) -> PageDriver:
    """A reader with the chat page open."""
    reader = await sessions.open_page()
    await reader.goto()
    return reader


@pytest.fixture(scope="session")
def axe(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """axe-core, from the npm registry once and then from pytest's cache, unless `-p no:cacheprovider` has none."""
    from support.browser import axe_core

    cache: pytest.Cache | None = getattr(request.config, "cache", None)
    return axe_core.load_axe(tmp_path_factory.mktemp("axe-core") if cache is None else cache.mkdir("axe-core"))
