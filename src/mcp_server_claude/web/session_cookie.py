"""The session cookie of a browser that has signed in, and the check that a request comes from our own pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import cookie_parser

from mcp_server_claude.network_addresses import is_same_origin

if TYPE_CHECKING:
    from starlette.datastructures import Headers
    from starlette.responses import Response
    from starlette.types import Scope

    from mcp_server_claude.settings import Settings

COOKIE_NAME = "session"


def uses_tls(scope: Scope, settings: Settings) -> bool:
    """True if the browser speaks TLS, to this server or to the proxy in front of it."""
    return scope["scheme"] == "https" or settings.public_url.startswith("https://")


def session_secret(headers: Headers, *, secure: bool) -> str:
    """The session's secret in the request's cookies; empty if there is none."""
    return cookie_parser(headers.get("cookie", "")).get(_cookie_name(secure=secure), "")


def set_session_cookie(response: Response, secret: str, *, max_age_s: int, secure: bool) -> None:
    """Store the secret in a cookie that scripts cannot read and other sites' POSTs do not carry."""
    response.set_cookie(
        _cookie_name(secure=secure), secret, max_age=max_age_s, path="/", secure=secure, httponly=True, samesite="lax"
    )


def delete_session_cookie(response: Response, *, secure: bool) -> None:
    """Tell the browser to delete the cookie."""
    response.delete_cookie(_cookie_name(secure=secure), path="/", secure=secure, httponly=True, samesite="lax")


def is_same_origin_request(headers: Headers) -> bool:
    """True if a page of this server sent the request (Fetch Metadata; in older browsers the Origin)."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    return is_same_origin(headers.get("origin", ""), headers.get("host", ""))


def _cookie_name(*, secure: bool) -> str:
    """`__Host-` makes browsers insist on Secure and Path=/ (RFC 6265bis, section 4.1.3.2)."""
    return f"__Host-{COOKIE_NAME}" if secure else COOKIE_NAME
