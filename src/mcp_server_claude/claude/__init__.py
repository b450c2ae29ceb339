"""The one window to the outside: the Messages API, streamed, with its faults told in words that help."""

from mcp_server_claude.claude.answer import Answer
from mcp_server_claude.claude.client import Claude, Count
from mcp_server_claude.claude.credentials import Credential, find
from mcp_server_claude.claude.estimate import MARGIN
from mcp_server_claude.claude.faults import TOO_LONG
from mcp_server_claude.claude.platforms import PLATFORMS, Platform
from mcp_server_claude.claude.request import MAX_SEARCHES, Body, Cache, body

__all__ = [
    "MARGIN",
    "MAX_SEARCHES",
    "PLATFORMS",
    "TOO_LONG",
    "Answer",
    "Body",
    "Cache",
    "Claude",
    "Count",
    "Credential",
    "Platform",
    "body",
    "find",
]
