"""The FastAPI app: its routes, its exception handlers, and the middleware in front of them."""

from __future__ import annotations

from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

import anyio
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from mcp_server_claude import __version__
from mcp_server_claude.errors import CallError
from mcp_server_claude.server.mcp_server import build_mcp_server
from mcp_server_claude.telemetry import metrics
from mcp_server_claude.web import error_responses
from mcp_server_claude.web.auth.oidc_tokens import token_verifier
from mcp_server_claude.web.middleware.authentication import AuthMiddleware
from mcp_server_claude.web.middleware.buffered_body import BufferedBodyMiddleware
from mcp_server_claude.web.middleware.head_requests import HeadMiddleware
from mcp_server_claude.web.middleware.security import AllowedHosts, SecurityMiddleware, public_host
from mcp_server_claude.web.readiness import ReadinessCheck
from mcp_server_claude.web.route_dependencies import AppState
from mcp_server_claude.web.routes import chat, health, jobs, oauth_metadata, page_data, pages, sign_in, usage
from mcp_server_claude.web.routes.mcp import McpEndpoint
from mcp_server_claude.web.tracing import TELEMETRY_CONFIG

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from mcp_server_claude.server.mcp_server import McpServerFactory
    from mcp_server_claude.services.service_access import ServiceAccess
    from mcp_server_claude.settings import Settings
    from mcp_server_claude.telemetry.prometheus import PrometheusSink
    from mcp_server_claude.users.tokens_and_sessions import UserDirectory

ROUTE_MODULES = (sign_in, chat, jobs, page_data, usage, health, oauth_metadata, pages)
API_DESCRIPTION = """\
Claude over HTTP: `POST /chat` streams an answer as server-sent events, `/mcp` speaks the Model Context Protocol, and \
`/` is the chat page.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebApp:
    """The app, the MCP endpoint whose streams a shutdown closes, and the event that notifies readers of a shutdown."""

    app: FastAPI
    mcp: McpEndpoint
    draining: anyio.Event


def build_app(
    settings: Settings,
    services: ServiceAccess,
    *,
    host: str = "127.0.0.1",
    insecure: bool = False,
    build_server: McpServerFactory = build_mcp_server,
) -> WebApp:
    """Build the app on open services; `host` is the address that the server listens on.

    `insecure` admits requests from other machines while there are no users. `build_server` builds what `/mcp` serves.
    """
    mcp = McpEndpoint(settings, services, build_server=build_server)
    state = AppState(
        services=services,
        draining=anyio.Event(),
        readiness=ReadinessCheck(services),
        prometheus=_prometheus_sink(settings),
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        services.start_opening()
        with ExitStack() as sinks:
            if state.prometheus is not None:
                sinks.enter_context(metrics.add_sink(state.prometheus.record_metrics))
            async with mcp.lifespan():
                yield

    app = FastAPI(
        title="mcp-server-claude",
        version=__version__,
        description=API_DESCRIPTION,
        lifespan=lifespan,
        telemetry=TELEMETRY_CONFIG,
        docs_url=None,  # these pages load scripts from a CDN, which the Content-Security-Policy forbids
        redoc_url=None,
    )
    app.state.server = state
    app.router.routes.extend(mcp.routes)  # not mounted: a mount answers /mcp with a redirect
    for module in ROUTE_MODULES:
        app.include_router(module.router)
    app.add_exception_handler(CallError, error_responses.handle_call_error)
    for each in (MemoryError, OSError, RuntimeError):
        app.add_exception_handler(each, error_responses.handle_local_resource_error)
    app.add_exception_handler(HTTPException, error_responses.handle_http_exception)
    app.add_exception_handler(RequestValidationError, error_responses.handle_validation_error)
    _add_middleware(app, settings, services, host=host, insecure=insecure)
    return WebApp(app=app, mcp=mcp, draining=state.draining)


def _add_middleware(app: FastAPI, settings: Settings, services: ServiceAccess, *, host: str, insecure: bool) -> None:
    """Add security, HEAD, CORS, authentication and body buffering; a request passes them in this order.

    Starlette runs the middleware that is added last first.
    """
    hosts = AllowedHosts.for_server(host, (public_host(settings), *settings.allowed_hosts), settings.allowed_origins)
    app.add_middleware(BufferedBodyMiddleware)

    async def open_users() -> UserDirectory:
        return (await services.open()).users

    verifier = token_verifier(settings, open_users)
    app.add_middleware(AuthMiddleware, users=open_users, settings=settings, verifier=verifier, insecure=insecure)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=list(hosts.origins),
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["Authorization", "Content-Type", "Last-Event-ID", "Mcp-Session-Id", "Mcp-Protocol-Version"],
        expose_headers=["Mcp-Session-Id", "WWW-Authenticate", "Retry-After", "Call-Id", "Thread-Id"],
    )
    app.add_middleware(HeadMiddleware)
    app.add_middleware(SecurityMiddleware, allowed=hosts, max_body_bytes=settings.max_body_bytes)


def _prometheus_sink(settings: Settings) -> PrometheusSink | None:
    """The sink behind `/metrics`, if the extra `prometheus` is installed."""
    if find_spec("prometheus_client") is None:
        return None
    from mcp_server_claude.telemetry.prometheus import PrometheusSink

    return PrometheusSink(users=settings.telemetry_users)
