"""The one window to the outside: the Messages API, streamed, with its faults told in words that help."""

from mcp_server_claude.anthropic_api.client import ClaudeClient, TokenCount
from mcp_server_claude.anthropic_api.credentials import Credential, find_credential
from mcp_server_claude.anthropic_api.error_classification import TOO_LONG_MESSAGE
from mcp_server_claude.anthropic_api.message_stream import MessageStream
from mcp_server_claude.anthropic_api.platforms.platform import PLATFORMS, Platform
from mcp_server_claude.anthropic_api.request_body import MAX_WEB_SEARCHES, CacheTtl, RequestBody, build_request_body
from mcp_server_claude.anthropic_api.token_estimate import OVERESTIMATE_FACTOR

__all__ = [
    "MAX_WEB_SEARCHES",
    "OVERESTIMATE_FACTOR",
    "PLATFORMS",
    "TOO_LONG_MESSAGE",
    "CacheTtl",
    "ClaudeClient",
    "Credential",
    "MessageStream",
    "Platform",
    "RequestBody",
    "TokenCount",
    "build_request_body",
    "find_credential",
]
