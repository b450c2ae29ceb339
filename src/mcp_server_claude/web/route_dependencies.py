"""What a route is handed: the services that all doors share, and the user who asks."""

from __future__ import annotations

from typing import Annotated, TypeAlias, cast

from fastapi import Depends, Request

from mcp_server_claude.services.lazy_services import Services
from mcp_server_claude.users.user import User


def request_services(request: Request) -> Services:
    """The services of the running server."""
    return cast("Services", request.app.state.services)


def request_user(request: Request) -> User:
    """Who asks; `auth` has checked it."""
    return cast("User", request.scope["state"]["member"])


ServicesDep: TypeAlias = Annotated[Services, Depends(request_services)]
UserDep: TypeAlias = Annotated[User, Depends(request_user)]
