"""The app: every route, and what a request passes before it comes to one."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from mcp_server_claude import __version__
from mcp_server_claude.errors import CallError
from mcp_server_claude.web import error_responses
from mcp_server_claude.web.auth import oidc_tokens
from mcp_server_claude.web.middleware import authentication
from mcp_server_claude.web.middleware.authentication import AuthMiddleware
from mcp_server_claude.web.middleware.buffered_body import BufferedBodyMiddleware
from mcp_server_claude.web.middleware.security import AllowedHosts, SecurityMiddleware, public_host
from mcp_server_claude.web.routes import chat, health, page_data, pages, usage
from mcp_server_claude.web.routes.mcp import McpEndpoint
from mcp_server_claude.web.tracing import TELEMETRY_CONFIG

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from mcp_server_claude.services.lazy_services import Services
    from mcp_server_claude.settings import Settings

ROUTE_MODULES = (authentication, chat, page_data, usage, health, oidc_tokens, pages)
"""Whose routes the app has."""
API_DESCRIPTION = """\
Claude over HTTP: `POST /chat` streams an answer as server-sent events, `/mcp` speaks the Model Context Protocol, and \
`/` is a page for people.
"""


def build_app(settings: Settings, services: Services, *, host: str = "127.0.0.1", insecure: bool = False) -> FastAPI:
    """The app on services that are open; `host` is where it listens.

    `insecure` lets everybody in while there are no users.
    """
    names = AllowedHosts.for_server(host, (public_host(settings), *settings.allowed_hosts), settings.allowed_origins)
    mcp = McpEndpoint(settings, services)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        app.state.draining = anyio.Event()
        services.start_opening()
        async with mcp.lifespan():
            yield

    app = FastAPI(
        title="mcp-server-claude",
        version=__version__,
        description=API_DESCRIPTION,
        lifespan=lifespan,
        telemetry=TELEMETRY_CONFIG,
        docs_url=None,  # its page loads scripts from elsewhere, which our policy forbids
        redoc_url=None,
    )
    app.state.services, app.state.mcp = services, mcp
    app.router.routes.extend(mcp.routes)  # spliced in, since a mount answers /mcp with a redirect
    for part in ROUTE_MODULES:
        app.include_router(part.router)
    app.add_exception_handler(CallError, error_responses.handle_call_error)
    app.add_exception_handler(HTTPException, error_responses.handle_http_exception)
    app.add_exception_handler(RequestValidationError, chat.handle_validation_error)
    # The last that is added is the first that a request meets: the guard, then CORS, then who asks, then the body.
    app.add_middleware(BufferedBodyMiddleware)
    verifier = oidc_tokens.token_verifier(settings, services)
    app.add_middleware(AuthMiddleware, users=services.users, settings=settings, verifier=verifier, insecure=insecure)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=list(names.origins),
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["Authorization", "Content-Type", "Last-Event-ID", "Mcp-Session-Id", "Mcp-Protocol-Version"],
        expose_headers=["Mcp-Session-Id", "WWW-Authenticate", "Retry-After", "Call-Id", "Thread-Id"],
    )
    app.add_middleware(SecurityMiddleware, names=names, max_body_bytes=settings.max_body_bytes)
    return app
