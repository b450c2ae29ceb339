"""The tools that a client sees, a module each. To add one: a module with its function, a test module, a snapshot."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from mcp_server_claude.server.tools.ask import ask_tool
from mcp_server_claude.server.tools.info import info_tool
from mcp_server_claude.server.tools.jobs import jobs_tool
from mcp_server_claude.server.tools.map import map_tool

if TYPE_CHECKING:
    from mcp.server.mcpserver.tools import Tool


def build_tools() -> list[Tool]:
    """Every tool, as copies that a server owns. Their schemas are the same for all servers of a process."""
    return [tool.model_copy() for tool in _prototypes()]


@cache
def _prototypes() -> tuple[Tool, ...]:
    """The tools, built once, since the schema of each takes tens of milliseconds of CPU."""
    return ask_tool(), map_tool(), jobs_tool(), info_tool()
