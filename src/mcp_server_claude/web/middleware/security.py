"""Security checks of every request: Host, Origin, content type, and the size of head and body.

A web page can send requests to a server on its reader's machine. The Host check stops DNS rebinding; the Origin check
stops what a browser sends for another site. A foreign page can send `application/json` only after a preflight, which is
refused, so it cannot spend money (MCP specification, "Security Best Practices").

Plain ASGI: a `BaseHTTPMiddleware` would hide a client's disconnect from the routes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from starlette.datastructures import Headers, MutableHeaders

from mcp_server_claude.errors import RequestError
from mcp_server_claude.network_addresses import bracket_ipv6, is_ip_address, is_same_origin, parse_host_header
from mcp_server_claude.web import error_responses

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastapi.responses import Response
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
"""Headers of every response that does not set them itself."""

LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "[::1]")
HTTP_VERSIONS = frozenset({"1.0", "1.1"})
"""h11 parses `HTTP/9.9` too."""
MAX_HEAD_BYTES = 64 * 1024
MAX_HEADERS = 100
"""h11 limits only a head that arrives in several pieces; these limits hold for all. Browsers send some 20 headers."""
FORM_PATHS = frozenset({"/signin", "/signout"})
"""Routes that accept a form, so that a page without scripts can post it; they check the Origin themselves."""
BODY_METHODS = frozenset({"POST"})


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowedHosts:
    """Host names of this server, without ports, and other origins whose pages may use it."""

    hosts: frozenset[str]
    origins: frozenset[str] = frozenset()

    @classmethod
    def for_server(cls, host: str, allowed: Iterable[str] = (), origins: Iterable[str] = ()) -> AllowedHosts:
        """The hosts and origins of a server that listens on `host`, an address or `localhost`."""
        hosts = {*LOOPBACK_HOSTS, *(name.strip().lower() for name in allowed)} - {""}
        if host not in {"", "0.0.0.0", "::"}:  # noqa: S104 - compared, not listened on
            hosts.add(bracket_ipv6(host))
        return cls(hosts=frozenset(hosts), origins=frozenset(origin.rstrip("/").lower() for origin in origins))


class SecurityMiddleware:
    """Refuses requests that fail a check, limits the body, and adds the security headers to every response."""

    def __init__(self, app: ASGIApp, allowed: AllowedHosts, *, max_body_bytes: int) -> None:
        self._app = app
        self._allowed = allowed
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _GuardedExchange(receive, send, self._max_body_bytes)
        if (rejection := _check_head(scope)) is not None:
            await exchange.send_response(rejection)
            return
        try:
            self._check_request(scope)
            await self._app(scope, exchange.receive, exchange.send_with_headers)
        except RequestError as error:
            await exchange.send_response(error_responses.error_response(error))

    def _check_request(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._is_own_host(host, scope):
            raise RequestError(
                "This server does not answer to that host name. Its operator can add it to MCP_CLAUDE_ALLOWED_HOSTS.",
                kind="wrong_host",
            )
        for origin in headers.getlist("origin"):
            if not (is_same_origin(origin, host) or origin.lower() in self._allowed.origins):
                raise RequestError(
                    "Requests from that origin are refused. The operator can add it to MCP_CLAUDE_ALLOWED_ORIGINS.",
                    kind="forbidden",
                )
        if scope["method"] in BODY_METHODS and scope["path"] not in FORM_PATHS and _has_body(headers):
            media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
            if media_type != "application/json":
                raise RequestError("Send the request as application/json.", kind="media_type")
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length[:20]) > self._max_body_bytes:
            raise body_too_large(self._max_body_bytes)

    def _is_own_host(self, host: str, scope: Scope) -> bool:
        name = parse_host_header(host)
        if name in self._allowed.hosts:
            return True
        address = cast("tuple[str, int | None] | None", scope.get("server"))
        return address is not None and name == bracket_ipv6(address[0]) and is_ip_address(address[0])


def public_host(settings: Settings) -> str:
    """The host of `public_url`; empty if it is not set or not a URL."""
    return parse_host_header(settings.public_url.partition("://")[2].partition("/")[0])


def body_too_large(max_bytes: int) -> RequestError:
    """The error for a body above the limit."""
    limit = f"{max_bytes / 2**20:.3g} MB" if max_bytes >= 2**20 else f"{max_bytes} bytes"
    return RequestError(f"The request is too large: at most {limit} can be sent.", kind="too_large")


def _check_head(scope: Scope) -> Response | None:
    """The response to a request whose head is refused: 505 for its HTTP version (RFC 9110), 431 for its size
    (RFC 6585), 400 for two lengths, by which a proxy and this server may see two requests in one (RFC 9112, 6.1).
    """
    if scope["http_version"] not in HTTP_VERSIONS:
        return error_responses.error_response(RequestError("The server speaks HTTP/1.1."), status=505)
    headers = cast("list[tuple[bytes, bytes]]", scope["headers"])
    target = len(scope.get("raw_path", b"")) + len(scope["query_string"])
    if len(headers) > MAX_HEADERS or target + sum(len(name) + len(value) for name, value in headers) > MAX_HEAD_BYTES:
        error = RequestError(
            f"The request's head is too large: at most {MAX_HEADERS} headers and {MAX_HEAD_BYTES // 1024} KiB.",
            kind="too_large",
        )
        return error_responses.error_response(error, status=431)
    if {b"content-length", b"transfer-encoding"} <= {name for name, _ in headers}:
        response = error_responses.error_response(
            RequestError("A request has a Content-Length or a Transfer-Encoding, not both."), status=400
        )
        response.headers["Connection"] = "close"
        return response
    return None


def _has_body(headers: Headers) -> bool:
    """True if a request announces a body (RFC 9112, section 6.3). Without one its content type does not matter."""
    return "transfer-encoding" in headers or headers.get("content-length", "0").strip() != "0"


class _GuardedExchange:
    """One request and its response: enforces the body limit and adds the security headers."""

    def __init__(self, receive: Receive, send: Send, max_body_bytes: int) -> None:
        self._receive = receive
        self._send = send
        self._max_body_bytes = max_body_bytes
        self._bytes_received = 0
        self._is_answered = False
        self._has_started = False

    async def receive(self) -> Message:
        message = await self._receive()
        self._bytes_received += len(message.get("body", b""))
        if self._bytes_received > self._max_body_bytes and (self._is_answered or not self._has_started):
            # Answered here: a middleware that reads the body would turn an exception into another error.
            await self.send_response(error_responses.error_response(body_too_large(self._max_body_bytes)))
            return {"type": "http.disconnect"}
        return message

    async def send_response(self, response: Response) -> None:
        if not self._is_answered:
            await self.send_with_headers(
                {"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers}
            )
            await self._send({"type": "http.response.body", "body": response.body})
            self._is_answered = True

    async def send_with_headers(self, message: Message) -> None:
        if self._bytes_received > self._max_body_bytes and self._is_answered:
            return
        if message["type"] == "http.response.start":
            self._has_started = True  # from here on nobody needs the body, and the rest of it is passed over
            headers = MutableHeaders(scope=message)
            for name, value in SECURITY_HEADERS.items():
                headers.setdefault(name, value)
        await self._send(message)
