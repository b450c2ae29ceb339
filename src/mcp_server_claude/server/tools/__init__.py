"""The tools a client sees. To add one: a file here, its name in `TOOLS`, a test file, a schema snapshot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcp.types import ToolAnnotations

from mcp_server_claude.server.strict_tool import StrictTool
from mcp_server_claude.server.tools.ask import claude_ask
from mcp_server_claude.server.tools.info import claude_info
from mcp_server_claude.server.tools.jobs import claude_jobs

if TYPE_CHECKING:
    from mcp.server.mcpserver.tools import Tool

RESULT_META = {"anthropic/maxResultSizeChars": 500_000}
"""Claude Code keeps results up to this many characters inline; its default is 50,000 and 500,000 its most."""

READ_ONLY_HINTS = {"read_only_hint": True, "destructive_hint": False, "idempotent_hint": False}
"""`read_only_hint` is what lets Claude Code run calls in parallel."""


def build_tools() -> list[Tool]:
    """Every tool, made anew: a server owns its tools."""
    return [
        StrictTool.for_function(
            claude_ask,
            title="Ask Claude",
            annotations=ToolAnnotations(title="Ask Claude", open_world_hint=True, **READ_ONLY_HINTS),
            meta=RESULT_META
            | {"anthropic/alwaysLoad": True, "anthropic/searchHint": "ask claude delegate second opinion review"},
        ),
        StrictTool.for_function(
            claude_jobs,
            title="Claude: calls and their text",
            annotations=ToolAnnotations(
                title="Claude jobs",
                read_only_hint=False,
                destructive_hint=False,
                idempotent_hint=True,
                open_world_hint=False,
            ),
            meta=RESULT_META | {"anthropic/searchHint": "claude call job result timed out cancelled read again"},
        ),
        StrictTool.for_function(
            claude_info,
            title="Claude: models, usage, configuration",
            annotations=ToolAnnotations(title="Claude info", open_world_hint=False, **READ_ONLY_HINTS),
            meta=RESULT_META | {"anthropic/searchHint": "claude models prices cost spend usage budget configuration"},
        ),
    ]
