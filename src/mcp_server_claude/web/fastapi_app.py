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
from mcp_server_claude.errors import Failure
from mcp_server_claude.web import error_responses
from mcp_server_claude.web.auth import oidc_tokens
from mcp_server_claude.web.middleware import authentication
from mcp_server_claude.web.middleware.authentication import Auth
from mcp_server_claude.web.middleware.buffered_body import Whole
from mcp_server_claude.web.middleware.security import Guard, Names, public_host
from mcp_server_claude.web.routes import chat, health, page_data, pages, usage
from mcp_server_claude.web.routes.mcp import McpDoor
from mcp_server_claude.web.tracing import TELEMETRY

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from mcp_server_claude.services.lazy_services import Services
    from mcp_server_claude.settings import Settings

PARTS = (authentication, chat, page_data, usage, health, oidc_tokens, pages)
"""Whose routes the app has."""
ABOUT = """\
Claude over HTTP: `POST /chat` streams an answer as server-sent events, `/mcp` speaks the Model Context Protocol, and \
`/` is a page for people.
"""


def build(settings: Settings, services: Services, *, host: str = "127.0.0.1", insecure: bool = False) -> FastAPI:
    """The app on services that are open; `host` is where it listens.

    `insecure` lets everybody in while there are no users.
    """
    names = Names.of(host, (public_host(settings), *settings.allowed_hosts), settings.allowed_origins)
    mcp = McpDoor(settings, services)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        app.state.draining = anyio.Event()
        services.warm()
        async with mcp.running():
            yield

    app = FastAPI(
        title="mcp-server-claude",
        version=__version__,
        description=ABOUT,
        lifespan=lifespan,
        telemetry=TELEMETRY,
        docs_url=None,  # its page loads scripts from elsewhere, which our policy forbids
        redoc_url=None,
    )
    app.state.services, app.state.mcp = services, mcp
    app.router.routes.extend(mcp.routes)  # spliced in, since a mount answers /mcp with a redirect
    for part in PARTS:
        app.include_router(part.router)
    app.add_exception_handler(Failure, error_responses.handle)
    app.add_exception_handler(HTTPException, error_responses.unrouted)
    app.add_exception_handler(RequestValidationError, chat.validation)
    # The last that is added is the first that a request meets: the guard, then CORS, then who asks, then the body.
    app.add_middleware(Whole)
    verifier = oidc_tokens.verifier(settings, services)
    app.add_middleware(Auth, users=services.users, settings=settings, verifier=verifier, insecure=insecure)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=list(names.origins),
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["Authorization", "Content-Type", "Last-Event-ID", "Mcp-Session-Id", "Mcp-Protocol-Version"],
        expose_headers=["Mcp-Session-Id", "WWW-Authenticate", "Retry-After", "Call-Id", "Thread-Id"],
    )
    app.add_middleware(Guard, names=names, max_body_bytes=settings.max_body_bytes)
    return app
