"""The HTTP client that carries requests to the Messages API, with the proxies and certificates of the environment."""

from __future__ import annotations

import logging
import os
import ssl
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from urllib.request import getproxies

from mcp_server_claude.anthropic_api.response_limits import limit_body
from mcp_server_claude.errors import CallError, ConfigurationError, TemporaryError

if TYPE_CHECKING:
    from httpx2 import AsyncBaseTransport, AsyncClient

HttpBackend: TypeAlias = Literal["aiohttp", "httpx"]

CONNECT_TIMEOUT_S = 10.0
WRITE_TIMEOUT_S = 120.0
"""Seconds without progress of a request's body."""
KEEPALIVE_TTL_S = 90.0
"""A pooled connection outlives the pause between two tool calls; the SDK's own 5 s would pay for TLS each time."""
MAX_CONNECTIONS, MAX_IDLE_CONNECTIONS = 1000, 100
CERTIFICATE_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
KEY_LOG_VARIABLE = "SSLKEYLOGFILE"
PROXY_VARIABLES = frozenset({"http_proxy", "https_proxy", "all_proxy"})
PROXY_SCHEMES = ("http://", "https://")

_log = logging.getLogger(__name__)


def build_http_client(
    backend: HttpBackend, transport: AsyncBaseTransport | None = None, *, base_url: str = ""
) -> AsyncClient:
    """The HTTP client of the SDK, for requests to `base_url`. `transport` carries them in place of sockets.

    httpx2 is used whatever the `backend` where aiohttp is not installed, or a proxy is one that aiohttp cannot use.

    Raises:
        ConfigurationError: A proxy or certificate file is unusable; the message names the variable.
        TemporaryError: The process has no file descriptors left.
    """
    import anthropic
    import httpx2

    options: dict[str, Any] = {} if transport is None else {"transport": transport}
    if not _needs_certificates(base_url):
        options["verify"] = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts no authority, so no server
    try:
        if backend == "aiohttp" and find_spec("aiohttp") is not None and not _unusable_proxies():
            from mcp_server_claude.anthropic_api.aiohttp_client import AiohttpClient

            client_class: type[AsyncClient] = AiohttpClient
        else:
            client_class = anthropic.DefaultAsyncHttpxClient
        return client_class(
            limits=httpx2.Limits(
                max_connections=MAX_CONNECTIONS,
                max_keepalive_connections=MAX_IDLE_CONNECTIONS,
                keepalive_expiry=KEEPALIVE_TTL_S,
            ),
            timeout=httpx2.Timeout(CONNECT_TIMEOUT_S, read=None, write=WRITE_TIMEOUT_S, pool=None),  # see the watchdog
            event_hooks={"response": [limit_body]},
            follow_redirects=False,  # an API does not redirect a POST; a portal or a wrong address does
            **options,
        )
    except (OSError, ValueError, ImportError, httpx2.InvalidURL) as error:
        raise _network_setup_error(error) from None


def check_key_log() -> None:
    """Check the file to which TLS keys are logged. Python's `ssl` opens it for each context, aiohttp with its import.

    Raises:
        ConfigurationError: It cannot be written.
    """
    path = os.environ.get(KEY_LOG_VARIABLE, "")
    try:
        if path:
            Path(path).open("ab").close()
    except (OSError, ValueError):
        raise ConfigurationError(
            f"{KEY_LOG_VARIABLE} names a file that cannot be written. Fix or remove it.", kind="tls"
        ) from None


def _network_setup_error(error: Exception) -> CallError:
    """The error for an HTTP client that cannot be built. The exception's text may hold a proxy's password."""
    for name in CERTIFICATE_VARIABLES:
        path = os.environ.get(name, "")
        if path and (isinstance(error, OSError) or not Path(path).exists()) and not _is_readable(path):
            return ConfigurationError(
                f"{name} names a file that does not exist or contains no certificates. Fix or remove it.", kind="tls"
            )
    if isinstance(error, OSError):
        _log.warning("The HTTP client could not be built (%s).", type(error).__name__)
        return TemporaryError("The server has no resources left to open connections. Try again.", kind="connection")
    names = _unusable_proxies()
    return ConfigurationError(
        f"{' and '.join(names) or 'The proxy of the system'} cannot be used: a proxy's URL begins with http:// or "
        "https:// (socks5:// needs the package socksio). Fix or remove it.",
        kind="proxy",
    )


def _needs_certificates(base_url: str) -> bool:
    """False if no connection has TLS. The system's certificates occupy 0.8 MB.

    Where the environment names some, they are loaded anyway, since a wrong name is an error.
    """
    urls = (base_url, *getproxies().values())
    named = any(os.environ.get(name) for name in CERTIFICATE_VARIABLES)
    return named or not base_url or any(url.lower().startswith("https:") for url in urls)


def _unusable_proxies() -> list[str]:
    """The names of the proxy variables whose values are no HTTP proxies."""
    return sorted(
        name for name, value in os.environ.items() if name.lower() in PROXY_VARIABLES and not _is_usable_proxy(value)
    )


def _is_usable_proxy(url: str) -> bool:
    return not url or url.lower().startswith(PROXY_SCHEMES) or "://" not in url


def _is_readable(path: str) -> bool:
    """True if the path is a directory, or a file with at least one certificate."""
    if Path(path).is_dir():
        return True
    try:
        ssl.create_default_context(cafile=path)
    except (OSError, ValueError):
        return False
    return True
