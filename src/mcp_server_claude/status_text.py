"""The state of a running call in words for a person, the same for MCP progress, HTTP events and the pages."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mcp_server_claude import number_formatting
from mcp_server_claude.lone_surrogates import replace_lone_surrogates

if TYPE_CHECKING:
    from mcp_server_claude.call_types import Waiting

UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""What would break a line, or a terminal that shows it: control characters, line ends, reversals of direction."""

TOOL_VERBS = {
    "web_search": ("searching", "searching: "),
    "web_fetch": ("reading a page", "reading "),
    "code_execution": ("running code", "running code: "),
    "bash_code_execution": ("running code", "running code: "),
    "text_editor_code_execution": ("editing files", "editing "),
    "list": ("listing files", "listing "),
    "glob": ("looking for files", "looking for "),
    "grep": ("searching files", "searching files: "),
    "read": ("reading files", "reading "),
}
"""The words of the status line for each tool: the activity, and the prefix of its object. Of any
other tool, its name."""


def tool_text(tool: str, query: str) -> str:
    """The use of a tool: `searching: tea in China`, or `searching` without a query."""
    name = tool.replace("_", " ")
    alone, before = TOOL_VERBS.get(tool) or (name, f"{name}: ")
    return f"{before}{replace_lone_surrogates(query)}" if query else alone


def waiting_text(event: Waiting) -> str:
    """`overloaded, trying again in 4 s (2 of 9)`."""
    again = f", trying again in {number_formatting.format_seconds(event.seconds)}" if event.seconds is not None else ""
    return f"{event.reason}{again}" + (f" ({event.attempt} of {event.attempts})" if event.attempts else "")


def printable_line(text: str) -> str:
    """Text on one line, without control characters and lone surrogates."""
    return UNPRINTABLE.sub(" ", replace_lone_surrogates(text))
