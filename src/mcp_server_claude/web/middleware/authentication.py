"""Who asks: a token in `Authorization: Bearer`, or the session of somebody who signed in on a page.

While there are no users (and no identity provider) whoever asks from this machine is `local`, and nobody else is let
in, unless the operator said `--insecure`. Plain ASGI, so that the routes notice a client that has gone, and inside of
CORS, since a preflight carries no token.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Protocol, cast
from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser

from mcp_server_claude.errors import CallError, RequestError
from mcp_server_claude.users.user import LOCAL, User
from mcp_server_claude.web import error_responses
from mcp_server_claude.web.auth.oidc_tokens import InvalidTokenError
from mcp_server_claude.web.middleware.security import is_same_origin
from mcp_server_claude.web.route_dependencies import ServicesDep
from mcp_server_claude.web.routes import pages
from mcp_server_claude.web.routes.health import has_metrics_token

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import ASGIApp, Receive, Scope, Send

    from mcp_server_claude.settings import Settings
    from mcp_server_claude.users.tokens_and_sessions import UserDirectory

PUBLIC_PATHS = frozenset({"/healthz", "/readyz", "/signin", "/signout", "/register", "/favicon.ico"})
"""Besides the health checks and the sign-in: `/register`, where OAuth clients shall learn that there is none."""
PUBLIC_PREFIXES = ("/static/", "/.well-known/")
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
PAGE_PREFIXES = ("/usage", "/t/")
MCP_PATH, METRICS_PATH = "/mcp", "/metrics"
SESSION_COOKIE = "session"
MAX_TOKEN_CHARS = 16_384
MAX_FORM_BYTES = 32_768

router = APIRouter(include_in_schema=False)


class TokenVerifier(Protocol):
    """Checks tokens that an identity provider has made."""

    async def authenticate(self, token: str) -> User:
        """The user that a token speaks for.

        Raises:
            CallError: It is not valid, lacks the scope, or the provider's keys cannot be had.
        """
        ...

    def challenge(self, failure: CallError | None = None) -> str:
        """What `WWW-Authenticate` says to a request without a good token."""
        ...


class AuthMiddleware:
    """Lets in who is known, and tells the routes who it is."""

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
        """Find the user of a request and pass it on, or answer it."""
        if scope["type"] != "http" or scope["path"] in PUBLIC_PATHS or scope["path"].startswith(PUBLIC_PREFIXES):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if scope["path"] == METRICS_PATH and has_metrics_token(headers.get("authorization", ""), self._settings):
            await self._app(scope, receive, send)  # it may read these, and is no user
            return
        try:
            user = await self._authenticate(scope, headers)
        except CallError as failure:
            await self._refusal_response(failure, scope, headers)(scope, receive, send)
            return
        scope.setdefault("state", {})["member"] = user
        if user is not LOCAL:
            scope["user"] = _mcp_user(user)
        await self._app(scope, receive, send)

    async def _authenticate(self, scope: Scope, headers: Headers) -> User:
        """Who asks.

        Raises:
            CallError: Nobody that is known here.
        """
        users = await self._users()
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if token:
            return await self._authenticate_bearer(users, scheme, token.strip(), scope)
        if self._verifier is None and not await users.has_users():
            return self._anonymous_user(scope)
        secret = _session_secret(headers, secure=uses_tls(scope, self._settings))
        if secret and scope["path"] != MCP_PATH and (user := await users.authenticate_session(secret)):
            if scope["method"] not in SAFE_METHODS and not _is_same_origin_request(headers):
                raise RequestError("Only this server's own pages may do this with a session.", kind="forbidden")
            return user
        raise RequestError(
            "Who are you? Send the token that the operator gave you as `Authorization: Bearer …`.", kind="unauthorized"
        )

    async def _authenticate_bearer(self, users: UserDirectory, scheme: str, token: str, scope: Scope) -> User:
        wrong = InvalidTokenError("That token is not, or no longer, known here.")
        if scheme.lower() != "bearer" or len(token) > MAX_TOKEN_CHARS:
            raise wrong
        if self._verifier is not None and token.count(".") == 2:
            return await self._verifier.authenticate(token)
        user = await users.authenticate_token(token)
        if user is None:
            if self._verifier is None and not await users.has_users():
                return self._anonymous_user(scope)  # clients may be set up with a token before there is a user
            raise wrong
        return user

    def _anonymous_user(self, scope: Scope) -> User:
        """Who asks a server that has no users.

        Raises:
            RequestError: It did not come from this machine.
        """
        if self._insecure or _is_direct_local_request(scope):
            return LOCAL
        raise RequestError(
            "This server has no users yet, so it answers only to its own machine. Its operator can add one with "
            "`mcp-server-claude user add NAME`.",
            kind="unauthorized",
        )

    def _refusal_response(self, failure: CallError, scope: Scope, headers: Headers) -> Response:
        """A page sends its reader to the sign-in, everything else is told in JSON."""
        is_page = scope["path"] == "/" or scope["path"].startswith(PAGE_PREFIXES)
        if is_page and "." not in scope["path"] and failure.kind == "unauthorized" and scope["method"] == "GET":
            query = scope["query_string"].decode("latin-1")
            return RedirectResponse(pages.sign_in_url(f"{scope['path']}?{query}" if query else scope["path"]), 303)
        response = error_responses.error_response(failure)
        if response.status_code in {401, 403} and "cookie" not in headers:
            response.headers["WWW-Authenticate"] = self._verifier.challenge(failure) if self._verifier else "Bearer"
        return response


@router.post("/signin")
async def post_sign_in(request: Request, services: ServicesDep) -> Response:
    """Trade a token for a session, in a cookie that no script can read."""
    _require_same_origin(request)
    form = await _read_form(request)
    to = pages.safe_redirect_path(form.get("to", ""))
    begun = await (await services.users()).sign_in(form.get("token", ""))
    if begun is None:
        return RedirectResponse(pages.sign_in_url(to, wrong=True), 303)
    secret, _ = begun
    response = RedirectResponse(to, 303)
    secure = uses_tls(request.scope, services.settings)
    response.set_cookie(
        _session_cookie_name(secure=secure),
        secret,
        max_age=round(services.settings.session_days * 86_400),
        path="/",
        secure=secure,
        httponly=True,
        samesite="lax",
    )
    return response


@router.post("/signout")
async def post_sign_out(request: Request, services: ServicesDep) -> Response:
    """End the session, here and in the browser."""
    _require_same_origin(request)
    secure = uses_tls(request.scope, services.settings)
    if secret := _session_secret(request.headers, secure=secure):
        await (await services.users()).sign_out(secret)
    response = RedirectResponse("/signin", 303)
    response.delete_cookie(_session_cookie_name(secure=secure), path="/", secure=secure, httponly=True, samesite="lax")
    MutableHeaders(raw=response.raw_headers)["Clear-Site-Data"] = '"storage"'
    return response


def uses_tls(scope: Scope, settings: Settings) -> bool:
    """Whether the browser speaks TLS, to us or to the proxy before us."""
    return scope["scheme"] == "https" or settings.public_url.startswith("https://")


def _is_direct_local_request(scope: Scope) -> bool:
    """Whether a request was made on this machine, and not passed on by a proxy on it."""
    client = cast("tuple[str, int] | None", scope.get("client"))
    headers = Headers(scope=scope)
    forwarded = any(name in headers for name in ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip"))
    return client is not None and _is_loopback_address(client[0]) and not forwarded


def _is_loopback_address(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _mcp_user(user: User) -> AuthenticatedUser:
    """The user as the MCP SDK knows it: sessions are bound to it, another's request to one is refused."""
    return AuthenticatedUser(AccessToken(token="", client_id=user.name, scopes=[user.role], subject=user.name))


def _session_cookie_name(*, secure: bool) -> str:
    return f"__Host-{SESSION_COOKIE}" if secure else SESSION_COOKIE


def _session_secret(headers: Headers, *, secure: bool) -> str:
    return cookie_parser(headers.get("cookie", "")).get(_session_cookie_name(secure=secure), "")


def _is_same_origin_request(headers: Headers) -> bool:
    """Whether a browser sent this for a page of ours (Fetch Metadata; older browsers: the Origin)."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    return is_same_origin(headers.get("origin", ""), headers.get("host", ""))


def _require_same_origin(request: Request) -> None:
    if not _is_same_origin_request(request.headers):
        raise RequestError("Sign in and out on this server's own pages.", kind="forbidden")


async def _read_form(request: Request) -> dict[str, str]:
    """The fields of a small form."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_FORM_BYTES:
            raise RequestError("The form is too long.", kind="too_large")
    fields = parse_qs(body.decode("utf-8", "replace"))
    return {name: values[0] for name, values in fields.items()}
