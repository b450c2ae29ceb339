"""The page of the panel as a `ui://` resource, and the middleware that hides it from clients without MCP Apps."""

from __future__ import annotations

import re
from base64 import b64encode
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from mcp.server.apps import APP_MIME_TYPE, Apps, client_supports_apps
from mcp.server.mcpserver.resources import FunctionResource

from mcp_server_claude.server.panel.panel_tool import PANEL_TOOL, PANEL_URI

if TYPE_CHECKING:
    from mcp.server.context import CallNext, ServerRequestContext

PAGE_FILE = Path(__file__).with_name("panel.html")
POLICY_PLACEHOLDER = "{content-security-policy}"
INLINE_CODE = {
    "script-src": re.compile(r"<script>(.*?)</script>", re.DOTALL),
    "style-src": re.compile(r"<style>(.*?)</style>", re.DOTALL),
}
RESOURCE_META: dict[str, Any] = {"ui": {"csp": {"connectDomains": [], "resourceDomains": []}, "prefersBorder": True}}


def panel_extension() -> Apps:
    """The MCP Apps extension with the page. It is read from the disk when a host asks for it."""
    apps = Apps()
    apps.add_resource(
        FunctionResource(
            uri=PANEL_URI,
            name="panel",
            title="Claude: live text, spending, jobs",
            mime_type=APP_MIME_TYPE,
            meta=RESOURCE_META,
            fn=panel_html,
        )
    )
    return apps


@lru_cache(maxsize=1)
def panel_html() -> str:
    """The page. Its policy allows its own script and style, by their hashes, and no request to any host."""
    page = PAGE_FILE.read_text(encoding="utf-8")
    sources = [f"{directive} {_hash_source(code.findall(page))}" for directive, code in INLINE_CODE.items()]
    policy = "; ".join(["default-src 'none'", "base-uri 'none'", "form-action 'none'", *sources])
    return page.replace(POLICY_PLACEHOLDER, policy)


async def hide_panel_without_apps(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> Any:
    """Leave the panel out of the lists of a client that did not declare MCP Apps."""
    result = await call_next(ctx)
    if ctx.method in {"tools/list", "resources/list"} and isinstance(result, dict) and not client_supports_apps(ctx):
        lists = cast("dict[str, list[dict[str, object]]]", result)
        if ctx.method == "tools/list":
            lists["tools"] = [tool for tool in lists["tools"] if tool["name"] != PANEL_TOOL]
        else:
            lists["resources"] = [resource for resource in lists["resources"] if resource["uri"] != PANEL_URI]
    return cast("object", result)


def _hash_source(codes: list[str]) -> str:
    return " ".join(f"'sha256-{b64encode(sha256(code.encode()).digest()).decode()}'" for code in codes)
