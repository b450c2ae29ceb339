from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from browser_door import Door, launched, standing_open
from browser_site import Site, opened

from mcp_server_claude.simulator import Pace, Simulator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from browser_reader import Reader
    from playwright.async_api import Browser


@pytest.fixture(scope="session")
async def chromium() -> AsyncIterator[Browser]:
    """One browser for all tests."""
    async with launched() as browser:
        if browser is None:
            pytest.skip("There is no Chromium here; `apt-get install chromium` brings one.")
        yield browser


@pytest.fixture(scope="session")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """A server with two users: ada has money, poor has none."""
    async with (
        Simulator(pace=Pace(ttft_s=0, tokens_per_s=0)) as upstream,
        opened(tmp_path_factory.mktemp("site"), upstream, {"ada": "50/day", "poor": "0.000001/day"}) as opened_site,
    ):
        yield opened_site


@pytest.fixture
async def door(chromium: Browser, site: Site) -> AsyncIterator[Door]:
    async with standing_open(chromium, site) as door:
        yield door


@pytest.fixture(scope="module")
async def door_for_module(chromium: Browser, site: Site) -> AsyncIterator[Door]:
    """For tests that share a page."""
    async with standing_open(chromium, site) as door:
        yield door


@pytest.fixture
async def ada(door: Door) -> Reader:
    """A reader with the chat page open."""
    reader = await door.enter()
    await reader.visit()
    return reader


@pytest.fixture(scope="session")
def axe(request: pytest.FixtureRequest) -> str:
    """axe-core, from the npm registry once and then from pytest's cache."""
    import browser_axe

    cache = request.config.cache
    return browser_axe.source(cache.mkdir("axe-core"))
