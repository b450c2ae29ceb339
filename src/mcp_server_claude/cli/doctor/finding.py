"""A finding of the doctor, with a hint on how to fix it."""

from __future__ import annotations

from dataclasses import dataclass

from mcp_server_claude.anthropic_api.credentials import HOW_TO_SET_KEY

CHECK_TIMEOUT_S = 15.0
"""How long the API, and our own server, may take to answer."""

HINTS_BY_KIND = {
    "no_key": HOW_TO_SET_KEY,
    "missing_extra": "Run that command in the environment of this server.",
    "platform": "docs/platforms.md lists what each platform needs.",
    "keyring": "Save a key with `mcp-server-claude keys set`, or set MCP_CLAUDE_API_KEY.",
    "malformed_key": "Copy the key from the Anthropic Console again, in one piece.",
    "base_url": "Set it to the address before /v1/messages, or unset it for Anthropic's own API.",
    "tls": "Set SSL_CERT_FILE to a file with the certificate of your certificate authority.",
    "proxy": "Fix or unset the variable.",
    "authentication": "Check that the key is whole, not revoked, and meant for this base URL.",
    "permission": "Check in the Anthropic Console what the key's workspace may use.",
    "billing": "Add credit in the Anthropic Console.",
    "spend_limit": "Raise the limit in the Anthropic Console.",
    "rate_limit": "Wait a little, then run doctor again.",
    "overloaded": "Wait a little, then run doctor again.",
}
"""What to do about each kind of failure."""
NETWORK_HINT = "Check the network, a proxy in between (HTTPS_PROXY) and the base URL."


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at. `ok` is None for a warning."""

    name: str
    ok: bool | None
    text: str
    hint: str = ""
