"""Authentication: a bearer token, or the session cookie of a browser that has signed in.

While there are no users and no identity provider, requests from this machine are authenticated as `local` and others
are refused, unless the operator passed `--insecure`. Plain ASGI, so that routes notice a client that has disconnected.
It runs inside CORS, because a preflight request carries no token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

from fastapi.responses import RedirectResponse, Response
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from starlette.datastructures import Headers

from mcp_server_claude.errors import CallError, RequestError
from mcp_server_claude.network_addresses import is_loopback
from mcp_server_claude.users.user import LOCAL, User
from mcp_server_claude.web import error_responses
from mcp_server_claude.web.auth.metrics_token import has_metrics_token
from mcp_server_claude.web.auth.oauth_hint import AUTHORIZATION_SERVER_PATHS
from mcp_server_claude.web.auth.oidc_tokens import InvalidTokenError
from mcp_server_claude.web.session_cookie import is_same_origin_request, session_secret, uses_tls
from mcp_server_claude.web.sign_in_redirect import sign_in_url

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import ASGIApp, Receive, Scope, Send

    from mcp_server_claude.settings import Settings
    from mcp_server_claude.users.tokens_and_sessions import UserDirectory

PUBLIC_PATHS = frozenset({"/healthz", "/readyz", "/signin", "/signout", "/favicon.ico", *AUTHORIZATION_SERVER_PATHS})
"""Health checks, the sign-in, and the addresses where OAuth clients learn how to get a token."""
PUBLIC_PREFIXES = ("/static/", "/.well-known/")
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
PAGE_PREFIXES = ("/usage", "/t/")
MCP_PATH, METRICS_PATH = "/mcp", "/metrics"
PROXY_HEADERS = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip")
MAX_TOKEN_CHARS = 16_384


class TokenVerifier(Protocol):
    """Verifies the tokens of an identity provider."""

    async def authenticate(self, token: str) -> User:
        """Return the user that a token identifies.

        Raises:
            CallError: The token is invalid, lacks a scope, or the provider's keys cannot be fetched.
        """
        ...

    def challenge(self, failure: CallError | None = None) -> str:
        """The value of `WWW-Authenticate` for a request without a valid token."""
        ...


class AuthMiddleware:
    """Authenticates each request and stores its user in `scope["state"]["user"]`."""

    def __init__(
        self,
        app: ASGIApp,
        users: Callable[[], Awaitable[UserDirectory]],
        settings: Settings,
        verifier: TokenVerifier | None = None,
        *,
        insecure: bool = False,
    ) -> None:
        self._app = app
        self._users = users
        self._settings = settings
        self._verifier = verifier
        self._insecure = insecure

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass an authenticated or public request on, or refuse it."""
        if scope["type"] != "http" or scope["path"] in PUBLIC_PATHS or scope["path"].startswith(PUBLIC_PREFIXES):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if scope["path"] == METRICS_PATH and has_metrics_token(headers.get("authorization", ""), self._settings):
            await self._app(scope, receive, send)  # this token reads the metrics and belongs to no user
            return
        try:
            user = await self._authenticate(scope, headers)
        except CallError as failure:
            await self._refusal_response(failure, scope, headers)(scope, receive, send)
            return
        scope.setdefault("state", {})["user"] = user
        if user is not LOCAL:
            scope["user"] = _mcp_user(user)
        await self._app(scope, receive, send)

    async def _authenticate(self, scope: Scope, headers: Headers) -> User:
        """Return the user of a request.

        Raises:
            CallError: The request has no valid token or session, or the ledger or provider cannot be asked.
        """
        users = await self._users()
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if token:
            return await self._authenticate_bearer(users, scheme, token.strip(), scope)
        if self._verifier is None and not await users.has_users():
            return self._anonymous_user(scope)
        secret = session_secret(headers, secure=uses_tls(scope, self._settings))
        if secret and scope["path"] != MCP_PATH and (user := await users.authenticate_session(secret)):
            if scope["method"] not in SAFE_METHODS and not is_same_origin_request(headers):
                raise RequestError("With a session, only this server's own pages can do this.", kind="forbidden")
            return user
        raise RequestError(
            "A token is required. Send the one that the operator gave you as `Authorization: Bearer …`.",
            kind="unauthorized",
        )

    async def _authenticate_bearer(self, users: UserDirectory, scheme: str, token: str, scope: Scope) -> User:
        unknown = InvalidTokenError("The token is unknown or has been revoked.")
        if scheme.lower() != "bearer" or len(token) > MAX_TOKEN_CHARS:
            raise unknown
        if self._verifier is not None and token.count(".") == 2:
            return await self._verifier.authenticate(token)
        user = await users.authenticate_token(token)
        if user is None:
            if self._verifier is None and not await users.has_users():
                return self._anonymous_user(scope)  # a client may be configured with a token before there is a user
            raise unknown
        return user

    def _anonymous_user(self, scope: Scope) -> User:
        """The user `local`, for a server without users.

        Raises:
            RequestError: The request did not come from this machine.
        """
        if self._insecure or _is_direct_local_request(scope):
            return LOCAL
        raise RequestError(
            "This server has no users yet, so it answers only its own machine. Its operator can add one with "
            "`mcp-server-claude user add NAME`.",
            kind="unauthorized",
        )

    def _refusal_response(self, failure: CallError, scope: Scope, headers: Headers) -> Response:
        """Redirect a page to the sign-in; answer everything else in JSON with `WWW-Authenticate`."""
        is_page = scope["path"] == "/" or scope["path"].startswith(PAGE_PREFIXES)
        if is_page and "." not in scope["path"] and failure.kind == "unauthorized" and scope["method"] == "GET":
            query = scope["query_string"].decode("latin-1")
            return RedirectResponse(sign_in_url(f"{scope['path']}?{query}" if query else scope["path"]), 303)
        response = error_responses.error_response(failure)
        if response.status_code in {401, 403} and "cookie" not in headers:
            response.headers["WWW-Authenticate"] = self._verifier.challenge(failure) if self._verifier else "Bearer"
        return response


def _is_direct_local_request(scope: Scope) -> bool:
    """True if a request was made on this machine, and not forwarded by a proxy on it."""
    client = cast("tuple[str, int] | None", scope.get("client"))
    headers = Headers(scope=scope)
    is_forwarded = any(name in headers for name in PROXY_HEADERS)
    return client is not None and is_loopback(client[0]) and not is_forwarded


def _mcp_user(user: User) -> AuthenticatedUser:
    """The user for the MCP SDK, which binds sessions to it and refuses another user's request to one."""
    return AuthenticatedUser(AccessToken(token="", client_id=user.name, scopes=[user.role], subject=user.name))
