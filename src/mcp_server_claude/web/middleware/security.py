"""What every request must pass, on every route: the right Host, no foreign Origin, JSON in a POST, a body that fits.

A web page can send requests to a server on its reader's own machine. The Host check stops DNS rebinding, the Origin
check stops what a browser sends on behalf of another site, and since a foreign page can send `application/json` only
after a preflight, which is refused, it cannot spend money (MCP specification, "Security Best Practices").

Plain ASGI: a `BaseHTTPMiddleware` would blind the routes to a client that has gone.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders

from mcp_server_claude.errors import RequestError
from mcp_server_claude.web import error_responses

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from mcp_server_claude.settings import Settings

CSP_DIRECTIVES = (
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self'",
    "connect-src 'self'",
    "form-action 'self'",
    "base-uri 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
)
CSP = "; ".join(CSP_DIRECTIVES)
SECURITY_HEADERS = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
    "Cache-Control": "no-store",
}
"""Headers of every response that does not say otherwise itself."""

LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "[::1]")
FORM_PATHS = frozenset({"/signin", "/signout"})
"""The routes that take a form: a page without a script can post them. `auth` sees to where they come from."""
BODY_METHODS = frozenset({"POST"})


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowedHosts:
    """What this server is called, without ports, and the foreign origins whose pages may use it."""

    hosts: frozenset[str]
    origins: frozenset[str] = frozenset()

    @classmethod
    def for_server(cls, host: str, allowed: Iterable[str] = (), origins: Iterable[str] = ()) -> AllowedHosts:
        """The names of a server that listens on `host`, an address or `localhost`."""
        own = {*LOOPBACK_HOSTS, *(name.strip().lower() for name in allowed)} - {""}
        if host not in {"", "0.0.0.0", "::"}:  # noqa: S104 - compared, not listened on
            own.add(url_host(host))
        return cls(hosts=frozenset(own), origins=frozenset(origin.rstrip("/").lower() for origin in origins))


class SecurityMiddleware:
    """Lets in what passes."""

    def __init__(self, app: ASGIApp, names: AllowedHosts, *, max_body_bytes: int) -> None:
        self._app = app
        self._allowed_hosts = names
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check a request and pass it on, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _GuardedExchange(receive, send, self._max_body_bytes)
        try:
            self._check_request(scope)
            await self._app(scope, exchange.receive, exchange.send)
        except RequestError as refused:
            await exchange.send_error(refused)

    def _check_request(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._is_own_host(host, scope):
            raise RequestError(
                "This server does not answer to that host name. Its operator can add it to MCP_CLAUDE_ALLOWED_HOSTS.",
                kind="wrong_host",
            )
        for origin in headers.getlist("origin"):
            if not (is_same_origin(origin, host) or origin.lower() in self._allowed_hosts.origins):
                raise RequestError(
                    "Requests from that origin are not taken. The operator can add it to MCP_CLAUDE_ALLOWED_ORIGINS.",
                    kind="forbidden",
                )
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if scope["method"] in BODY_METHODS and scope["path"] not in FORM_PATHS and kind != "application/json":
            raise RequestError("Send the request as application/json.", kind="media_type")
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length[:20]) > self._max_body_bytes:
            raise body_too_large(self._max_body_bytes)

    def _is_own_host(self, host: str, scope: Scope) -> bool:
        name = parse_hostname(host)
        if name in self._allowed_hosts.hosts:
            return True
        address = cast("tuple[str, int | None] | None", scope.get("server"))
        return address is not None and name == url_host(address[0]) and _is_ip_address(address[0])


def parse_hostname(host: str) -> str:
    """A Host header without its port; empty where it is none."""
    try:
        parts = urlsplit(f"//{host}")
        name, _ = parts.hostname or "", parts.port
    except ValueError:
        return ""
    strange = parts.path or parts.query or parts.fragment or parts.username is not None
    return "" if strange else url_host(name)


def public_host(settings: Settings) -> str:
    """The host by which people reach the server; empty where that is not set, or no URL."""
    return parse_hostname(settings.public_url.partition("://")[2].partition("/")[0])


def is_same_origin(origin: str, host: str) -> bool:
    """Whether an Origin is that of the Host it was sent to. The scheme is not compared: a proxy may hold the TLS."""
    return origin.lower() in {f"http://{host}".lower(), f"https://{host}".lower()}


def url_host(host: str) -> str:
    """A host as it stands in a URL."""
    return f"[{host}]".lower() if ":" in host and not host.startswith("[") else host.lower()


def body_too_large(max_bytes: int) -> RequestError:
    """The refusal of a body that is too long."""
    return RequestError(f"The request is larger than {max_bytes} bytes (MCP_CLAUDE_MAX_BODY_BYTES).", kind="too_large")


def _is_ip_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class _GuardedExchange:
    """One request and its response: the body as long as it fits, the response with what keeps a page to itself."""

    def __init__(self, receive: Receive, send: Send, max_body_bytes: int) -> None:
        self._receive = receive
        self._send = send
        self._max_body_bytes = max_body_bytes
        self._bytes_received = 0
        self._is_answered = False

    async def receive(self) -> Message:
        message = await self._receive()
        self._bytes_received += len(message.get("body", b""))
        if self._bytes_received > self._max_body_bytes:
            # Answered here: whoever reads bodies in between would make another error of it.
            await self.send_error(body_too_large(self._max_body_bytes))
            return {"type": "http.disconnect"}
        return message

    async def send_error(self, error: RequestError) -> None:
        if not self._is_answered:
            response = error_responses.error_response(error)
            await self.send(
                {"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers}
            )
            await self._send({"type": "http.response.body", "body": response.body})
            self._is_answered = True

    async def send(self, message: Message) -> None:
        if self._bytes_received > self._max_body_bytes and self._is_answered:
            return
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in SECURITY_HEADERS.items():
                headers.setdefault(name, value)
        await self._send(message)
