"""What a route is handed: the services that all doors share, and the user who asks."""

from __future__ import annotations

from typing import Annotated, TypeAlias, cast

from fastapi import Depends, Request

from mcp_server_claude.services.lazy_services import Services
from mcp_server_claude.users.tokens_and_sessions import User


def the_services(request: Request) -> Services:
    """The services of the running server."""
    return cast("Services", request.app.state.services)


def the_user(request: Request) -> User:
    """Who asks; `auth` has checked it."""
    return cast("User", request.scope["state"]["member"])


TheServices: TypeAlias = Annotated[Services, Depends(the_services)]
TheUser: TypeAlias = Annotated[User, Depends(the_user)]
