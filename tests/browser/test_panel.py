"""The panel in a browser, in a sandboxed frame of a small host that speaks MCP Apps to it and MCP to the server."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from mcp.client import advertise
from mcp.server.apps import APP_MIME_TYPE, EXTENSION_ID
from playwright.async_api import expect

from mcp_server_claude.server.panel.panel_tool import PANEL_URI
from mcp_server_claude.simulator import directive
from support.browser.axe_core import RUN_AXE
from support.mcp_session import McpSession, connect

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from playwright.async_api import Browser, Frame, Page

    from mcp_server_claude.simulator import Simulator

pytestmark = pytest.mark.anyio
APPS = advertise(EXTENSION_ID, {"mimeTypes": [APP_MIME_TYPE]})
HOST_PAGE = """
<!doctype html><title>host</title><iframe sandbox="allow-scripts" style="width:700px;height:600px"></iframe><script>
const frame = document.querySelector('iframe')
window.show = (html, tool) => {
  window.addEventListener('message', async event => {
    if (event.source !== frame.contentWindow) return
    const { id, method, params } = event.data
    if (method === 'ui/initialize')
      answer(id, {
        protocolVersion: '2026-01-26', hostInfo: { name: 'test', version: '1' }, hostCapabilities: { serverTools: {} },
        hostContext: {
          theme: 'dark', toolInfo: { tool: { name: tool, inputSchema: {} } },
          styles: { variables: { '--color-text-primary': '#ffeedd' } }
        }
      })
    else if (method === 'ui/notifications/initialized') window.panelIsReady()
    else if (method === 'tools/call') answer(id, await window.callTool(params.name, params.arguments))
  })
  const answer = (id, result) => frame.contentWindow.postMessage({ jsonrpc: '2.0', id, result }, '*')
  frame.srcdoc = html
}
window.notifyPanel = (method, params) => frame.contentWindow.postMessage({ jsonrpc: '2.0', method, params }, '*')
</script>
"""
HOST_POLICY = "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; frame-src *"
"""The specification's restrictive default, which a host adds to what the page says itself."""


@dataclass
class AppHost:
    """A host with the panel of one tool call in a frame. `problems` are errors of the console and foreign requests."""

    page: Page
    at: McpSession
    problems: list[str] = field(default_factory=list[str])

    @property
    def panel(self) -> Frame:
        return self.page.frames[1]

    async def notify(self, method: str, params: dict[str, Any]) -> None:
        await self.page.evaluate("([method, params]) => window.notifyPanel(method, params)", [method, params])


@asynccontextmanager
async def app_host(browser: Browser, at: McpSession, tool: str) -> AsyncGenerator[AppHost]:
    context = await browser.new_context()
    page = await context.new_page()
    host, ready = AppHost(page, at), anyio.Event()

    def set_ready() -> None:
        ready.set()

    async def call_tool(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        result = await at.client.call_tool(name, arguments)
        return result.model_dump(mode="json", by_alias=True, exclude_none=True)

    page.on(
        "console", lambda message: host.problems.append(message.text) if message.type in {"error", "warning"} else None
    )
    page.on("request", lambda sent: host.problems.append(sent.url) if "host.test" not in sent.url else None)
    await page.expose_function("callTool", call_tool)  # pyright: ignore[reportUnknownMemberType]
    await page.expose_function("panelIsReady", set_ready)  # pyright: ignore[reportUnknownMemberType]
    await page.route(
        "https://host.test/",
        lambda route: route.fulfill(
            body=HOST_PAGE, content_type="text/html", headers={"Content-Security-Policy": HOST_POLICY}
        ),
    )
    await page.goto("https://host.test/")
    (content,) = (await at.client.read_resource(PANEL_URI)).contents
    await page.evaluate("([html, tool]) => window.show(html, tool)", [content.model_dump()["text"], tool])
    await ready.wait()
    yield host
    await context.close()
    assert host.problems == []


async def test_a_running_answer_is_shown_live_and_ends_with_its_usage(
    chromium: Browser, tmp_path: Path, upstream: Simulator
) -> None:
    prompt = f"Explain tea. {directive(text='Tea <b>is</b> a drink. ' * 200, think=0, pace=800)}"
    async with (
        connect("memory", "auto", tmp_path, base_url=upstream.url, extensions=[APPS]) as at,
        app_host(chromium, at, "claude_ask") as host,
        anyio.create_task_group() as tasks,
    ):
        results: list[dict[str, Any]] = []
        answered = anyio.Event()

        async def ask() -> None:
            result = await at.ask(prompt)
            results.append(result.model_dump(mode="json", by_alias=True, exclude_none=True))
            answered.set()

        tasks.start_soon(ask)
        await host.notify("ui/notifications/tool-input", {"arguments": {"prompt": prompt}})
        log = host.panel.get_by_role("log")
        await expect(log).to_contain_text("Tea <b>is</b> a drink. Tea")
        await expect(host.panel.locator("#live-title")).to_contain_text("running")
        assert results == []
        await answered.wait()
        await host.notify("ui/notifications/tool-result", results[0])
        await expect(host.panel.locator("#live-title")).to_contain_text("complete")
        assert await log.text_content() == "Tea <b>is</b> a drink. " * 200
        await expect(host.panel.locator("#live-note")).to_contain_text("$")
        assert await host.panel.evaluate("getComputedStyle(document.body).color") == "rgb(255, 238, 221)"


@pytest.mark.slow
async def test_the_stop_button_stops_the_call(chromium: Browser, tmp_path: Path, upstream: Simulator) -> None:
    prompt = f"Slowly. {directive(think=0, tokens=5000, pace=50)}"
    async with (
        connect("memory", "auto", tmp_path, base_url=upstream.url, extensions=[APPS]) as at,
        app_host(chromium, at, "claude_ask") as host,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(at.ask, prompt)
        await host.notify("ui/notifications/tool-input", {"arguments": {"prompt": prompt}})
        await host.panel.get_by_role("button", name="Stop").press("Enter")
        await expect(host.panel.locator("#live-title")).not_to_contain_text("running")
        await expect(host.panel.get_by_role("button", name="Stop")).to_be_hidden()
        await expect(host.panel.get_by_role("log")).to_be_focused()


@pytest.mark.slow
async def test_spending_and_jobs_are_shown_and_the_page_is_accessible(
    chromium: Browser, tmp_path: Path, upstream: Simulator, axe: str
) -> None:
    async with connect("memory", "auto", tmp_path, base_url=upstream.url, extensions=[APPS]) as at:
        await at.ask(directive(text="Yes."), model="haiku")
        await at.ask(f"<i>A job.</i> {'Without_a_space.' * 9}", background=True)
        async with app_host(chromium, at, "claude_info") as host:
            panel = host.panel
            await expect(panel.locator("#spending-title")).to_contain_text("request")
            await expect(panel.locator("#models")).to_contain_text("haiku")
            assert await panel.locator("#chart rect").count() >= 30
            await panel.get_by_role("tab", name="Jobs").click()
            await expect(panel.locator("#job-rows")).to_contain_text("<i>A job.</i>")
            await host.page.evaluate("document.querySelector('iframe').style.width = '320px'")
            scrolled = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
            assert not await panel.evaluate(scrolled)
            await panel.get_by_role("tab", name="Jobs").press("ArrowLeft")
            await expect(panel.get_by_role("tab", name="Spending")).to_be_focused()
            await panel.evaluate(axe)
            assert await panel.evaluate(RUN_AXE) == []
