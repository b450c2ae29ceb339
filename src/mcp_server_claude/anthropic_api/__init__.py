"""The one window to the outside: the Messages API, streamed, with its faults told in words that help."""

from mcp_server_claude.anthropic_api.client import Claude, Count
from mcp_server_claude.anthropic_api.credentials import Credential, find
from mcp_server_claude.anthropic_api.error_classification import TOO_LONG
from mcp_server_claude.anthropic_api.message_stream import Answer
from mcp_server_claude.anthropic_api.platforms.platform import PLATFORMS, Platform
from mcp_server_claude.anthropic_api.request_body import MAX_SEARCHES, Body, Cache, body
from mcp_server_claude.anthropic_api.token_estimate import MARGIN

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
