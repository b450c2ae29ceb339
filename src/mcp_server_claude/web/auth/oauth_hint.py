"""A hint for OAuth clients at the addresses of an authorization server, which this server is not.

Clients of MCP 2025-03-26, and those that find no metadata, take the server itself for an authorization server and show
its 404 to their user. So that answer says how to get a token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcp_server_claude.errors import RequestError

if TYPE_CHECKING:
    from mcp_server_claude.settings import Settings

AUTHORIZATION_SERVER_PATHS = (
    "/register",
    "/authorize",
    "/token",
    "/.well-known/oauth-authorization-server",
    "/.well-known/openid-configuration",
)


def is_authorization_server_path(path: str) -> bool:
    """True for the endpoints and metadata of an authorization server, also with a path appended (RFC 8414)."""
    return any(path == known or path.startswith(f"{known}/") for known in AUTHORIZATION_SERVER_PATHS)


def no_authorization_server(settings: Settings) -> RequestError:
    """The 404 at these addresses, which says where tokens come from."""
    if settings.oidc_issuer:
        text = (
            f"This server issues no tokens and registers no clients. Its identity provider is {settings.oidc_issuer}."
        )
    else:
        text = (
            "This server has no OAuth sign-in: its operator gives out tokens (`mcp-server-claude user add NAME`). Send "
            'yours as a header, e.g. `claude mcp add … --header "Authorization: Bearer TOKEN"`.'
        )
    return RequestError(text, kind="not_found")
