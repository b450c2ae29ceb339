"""Dependencies of the routes: the app's state, the services, and the authenticated user."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, TypeAlias, cast

from fastapi import Depends, Request

from mcp_server_claude.services.service_access import ServiceAccess
from mcp_server_claude.users.user import User

if TYPE_CHECKING:
    import anyio

    from mcp_server_claude.telemetry.prometheus import PrometheusSink
    from mcp_server_claude.users.user import Role
    from mcp_server_claude.web.readiness import ReadinessCheck


@dataclass(frozen=True, slots=True, kw_only=True)
class AppState:
    """Objects of the running app. `draining` is set when a shutdown starts to notify readers."""

    services: ServiceAccess
    draining: anyio.Event
    readiness: ReadinessCheck
    prometheus: PrometheusSink | None


def app_state(request: Request) -> AppState:
    """The state that `build_app` created."""
    return cast("AppState", request.app.state.server)


async def request_services(request: Request) -> ServiceAccess:
    """The services of the running server, opened."""
    return await app_state(request).services.open()


def request_user(request: Request) -> User:
    """The user that `AuthMiddleware` authenticated."""
    return cast("User", request.scope["state"]["user"])


def reader_role(request: Request) -> Role:
    """The role of the response's reader; that of a user before authentication."""
    user = cast("User | None", request.scope.get("state", {}).get("user"))
    return user.role if user is not None else "user"


AppStateDep: TypeAlias = Annotated[AppState, Depends(app_state)]
ServicesDep: TypeAlias = Annotated[ServiceAccess, Depends(request_services)]
UserDep: TypeAlias = Annotated[User, Depends(request_user)]
