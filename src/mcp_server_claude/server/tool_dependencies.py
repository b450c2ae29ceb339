"""What a tool is handed besides its arguments, hidden from its schema: the services, and who is calling.

The SDK hands nothing to a static resource: what such a one needs it finds with `asked`.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, TypeAlias, cast

from mcp.server.mcpserver import Context, Resolve

from mcp_server_claude.server.http_client_state import leg_of, member_of
from mcp_server_claude.server.progress_notifications import style_for
from mcp_server_claude.services.lazy_services import Services
from mcp_server_claude.users.tokens_and_sessions import LOCAL, User

if TYPE_CHECKING:
    from collections.abc import Generator

    from mcp.server.context import ServerRequestContext

    from mcp_server_claude.server.progress_notifications import Report, Style

PROGRESS_KEY = "mcp-server-claude/progress"
"""In a request's `_meta`: the progress style of that call, `text` or `status`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who calls, and how they hear of progress. `cuts_results` says that long results would not reach its model."""

    user: User
    client: str
    style: Style
    report: Report
    trace_id: str
    cuts_results: bool


@dataclass(frozen=True, slots=True)
class Asked:
    """The request that is being answered: by which services, and for whom."""

    services: Services
    user: User


_asked: ContextVar[Asked] = ContextVar("asked")


@contextmanager
def answering(ctx: ServerRequestContext[Services, object]) -> Generator[None]:
    """What runs in the block answers this request."""
    token = _asked.set(Asked(ctx.lifespan_context, user_of(ctx.request)))
    try:
        yield
    finally:
        _asked.reset(token)


def asked() -> Asked:
    """The request that is being answered here."""
    return _asked.get()


def user_of(request: object) -> User:
    """Who sent a request: over HTTP whom the door has let in, over stdio whoever runs this process."""
    return LOCAL if request is None else cast("User", member_of(request))


def the_services(ctx: Context[Services]) -> Services:
    """The services of the running server."""
    return ctx.request_context.lifespan_context


def the_user(ctx: Context[Services]) -> User:
    """Who asks."""
    return user_of(ctx.request_context.request)


def the_caller(ctx: Context[Services]) -> Caller:
    """The client of this request, by the name it gave, and the progress style that suits it."""
    request = ctx.request_context
    params = request.session.client_params
    client = params.client_info.name if params is not None else ""
    meta: dict[str, object] = dict(request.meta or {})

    leg = leg_of(request.request)

    async def report(progress: float, message: str | None) -> None:
        if leg is not None:
            await leg.free()  # in 2025-11-25 one client that does not read would hold up all calls of its session
        await ctx.report_progress(progress, None, message)

    return Caller(
        user=user_of(request.request),
        client=client[:60],
        style=style_for(client, request.lifespan_context.settings.progress, meta.get(PROGRESS_KEY)),
        report=report,
        trace_id=_trace_id(meta.get("traceparent")),
        cuts_results="claude-code" in client.lower(),
    )


def _trace_id(traceparent: object) -> str:
    """The trace id within a W3C `traceparent` (version-traceid-parentid-flags)."""
    parts = traceparent.split("-") if isinstance(traceparent, str) else []
    return parts[1] if len(parts) == 4 and len(parts[1]) == 32 else ""


TheServices: TypeAlias = Annotated[Services, Resolve(the_services)]
TheUser: TypeAlias = Annotated[User, Resolve(the_user)]
TheCaller: TypeAlias = Annotated[Caller, Resolve(the_caller)]
