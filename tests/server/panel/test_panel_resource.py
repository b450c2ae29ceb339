"""The panel is there for hosts with MCP Apps, hidden from other clients, and runs no code but its own."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest
from mcp.client import advertise
from mcp.server.apps import APP_MIME_TYPE, EXTENSION_ID
from mcp.types import TextResourceContents

from mcp_server_claude.server.panel.panel_resource import panel_html
from mcp_server_claude.server.panel.panel_tool import PANEL_TOOL, PANEL_URI
from support.mcp_session import ProtocolMode, connect

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio
APPS = advertise(EXTENSION_ID, {"mimeTypes": [APP_MIME_TYPE]})


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_host_with_mcp_apps_finds_the_page_and_its_tool(tmp_path: Path, mode: ProtocolMode) -> None:
    async with connect("memory", mode, tmp_path, extensions=[APPS]) as at:
        tools = {tool.name: tool for tool in (await at.client.list_tools()).tools}
        resources = [resource.uri for resource in (await at.client.list_resources()).resources]
        (page,) = (await at.client.read_resource(PANEL_URI)).contents

    assert tools[PANEL_TOOL].meta == {"ui": {"resourceUri": PANEL_URI, "visibility": ["app"]}}
    for name, tool in tools.items():
        assert (tool.meta or {})["ui"]["resourceUri"] == PANEL_URI, name
    assert PANEL_URI in resources
    assert isinstance(page, TextResourceContents)
    assert page.mime_type == APP_MIME_TYPE
    assert (page.meta or {})["ui"]["csp"] == {"connectDomains": [], "resourceDomains": []}


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_client_without_mcp_apps_sees_neither(tmp_path: Path, mode: ProtocolMode) -> None:
    async with connect("memory", mode, tmp_path) as at:
        tools = [tool.name for tool in (await at.client.list_tools()).tools]
        resources = [resource.uri for resource in (await at.client.list_resources()).resources]

    assert PANEL_TOOL not in tools
    assert PANEL_URI not in resources
    assert "claude_ask" in tools
    assert "claude://usage" in resources


def test_the_policy_allows_only_the_code_of_the_page() -> None:
    page = panel_html()
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    directives = dict(each.split(" ", 1) for each in policy.split("; "))

    assert directives["default-src"] == "'none'"
    for tag, directive in (("script", "script-src"), ("style", "style-src")):
        (code,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        assert directives[directive] == f"'sha256-{b64encode(sha256(code.encode()).digest()).decode()}'"


def test_the_page_names_no_host_and_writes_no_markup() -> None:
    page = panel_html()
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", page)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|\bon\w+=", page)
