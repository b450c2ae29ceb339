from __future__ import annotations

import re
from typing import TYPE_CHECKING

import anyio
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from playwright.async_api import expect

from mcp_server_claude.simulator import directive
from support.browser.axe_core import RUN_AXE

if TYPE_CHECKING:
    from support.browser.page_driver import PageDriver
    from support.browser.page_server import PageServer

pytestmark = pytest.mark.anyio


async def start_job(site: PageServer, user: str, prompt: str) -> None:
    """Ask a question in the background, as an MCP client does."""
    headers = {"Authorization": f"Bearer {site.tokens[user]}"}
    async with (
        create_mcp_http_client(headers=headers) as http,
        Client(streamable_http_client(f"{site.url}/mcp", http_client=http)) as client,
    ):
        result = await client.call_tool("claude_ask", {"prompt": prompt, "background": True})
        assert not result.is_error, result


async def test_jobs_are_listed_with_their_progress_stopped_and_downloaded(
    ada: PageDriver, site: PageServer, axe: str
) -> None:
    page, dialog = ada.page, ada.page.get_by_role("dialog")
    await page.get_by_role("button", name="Jobs").click()
    await expect(dialog).to_contain_text("No jobs.")
    await start_job(site, "ada", f"Quickly. {directive(text='The answer of a job.')}")
    first = dialog.locator(".job", has_text="Quickly.")
    await expect(first).to_contain_text(re.compile(r"Complete · (<)?\$0\.0"))
    await start_job(site, "ada", f"Slowly. {directive(think=0, tokens=5000, pace=20)}")
    second = dialog.locator(".job", has_text="Slowly.")
    await expect(second).to_contain_text("Running")
    await page.evaluate(axe)
    assert await page.evaluate(RUN_AXE) == []
    await second.get_by_role("button", name=re.compile("^Stop")).press("Enter")
    await expect(second).to_contain_text("Stopped")
    await expect(second.get_by_role("button")).to_have_count(0)
    async with page.expect_download() as started:
        await first.get_by_role("link", name=re.compile("JSONL$")).click()
    download = await started.value
    assert "The answer of a job." in await anyio.Path(await download.path()).read_text(encoding="utf-8")
    await page.keyboard.press("Escape")
    await expect(dialog).to_be_hidden()
    await expect(page.get_by_role("button", name="Jobs")).to_be_focused()
