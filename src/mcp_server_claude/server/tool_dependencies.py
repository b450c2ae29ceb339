"""Dependencies of the tools, hidden from their schemas: the services and the caller.

The SDK hands nothing to a static resource: what such a one needs it finds with `current_request`.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, cast

from mcp.server.mcpserver import Context, Resolve

from mcp_server_claude.calls.ask_request import CallOrigin
from mcp_server_claude.server.client_quirks import client_traits
from mcp_server_claude.server.http_client_state import authenticated_user, http_request_state
from mcp_server_claude.server.progress_frames import ProgressFrames
from mcp_server_claude.server.progress_notifications import progress_style
from mcp_server_claude.server.stdio_transport import current_stdout
from mcp_server_claude.services.lazy_services import Services
from mcp_server_claude.users.user import LOCAL, User

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from mcp.server.context import ServerRequestContext

    from mcp_server_claude.server.client_quirks import ClientTrait
    from mcp_server_claude.server.progress_notifications import ProgressStyle, SendProgress

PROGRESS_KEY = "mcp-server-claude/progress"
"""In a request's `_meta`: the progress style of that call, `text` or `status`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The caller, what its client does differently, and the way to report progress to it."""

    user: User
    client: str
    traits: frozenset[ClientTrait]
    style: ProgressStyle
    send_progress: SendProgress
    trace_id: str

    @property
    def truncates_results(self) -> bool:
        """True if long results would not reach the model of this client."""
        return "truncates_results" in self.traits

    def origin(self, tool: str) -> CallOrigin:
        """The origin of a call that this caller makes with a tool."""
        return CallOrigin(
            tool=tool,
            source="mcp",
            client=self.client,
            user=self.user,
            trace_id=self.trace_id,
            shows_status=self.style == "status",
        )


@dataclass(frozen=True, slots=True)
class CurrentRequest:
    """The request that is being answered: by which services, for whom, and in which version of the protocol."""

    services: Services
    user: User
    protocol_version: str


_current_request: ContextVar[CurrentRequest] = ContextVar("asked")


@contextmanager
def bind_request(ctx: ServerRequestContext[Services, object]) -> Generator[None]:
    """Bind the request that the code in the block answers."""
    current = CurrentRequest(ctx.lifespan_context, user_for_request(ctx.request), ctx.protocol_version)
    token = _current_request.set(current)
    try:
        yield
    finally:
        _current_request.reset(token)


def current_request() -> CurrentRequest:
    """The request that is being answered here."""
    return _current_request.get()


def user_for_request(request: object) -> User:
    """The user of a request: the authenticated one over HTTP, the local one over stdio."""
    return LOCAL if request is None else cast("User", authenticated_user(request))


def resolve_services(ctx: Context[Services]) -> Services:
    """The services of the running server."""
    return ctx.request_context.lifespan_context


def resolve_user(ctx: Context[Services]) -> User:
    """The user who calls."""
    return user_for_request(ctx.request_context.request)


def resolve_caller(ctx: Context[Services]) -> Caller:
    """The client of this request, by the name it gave, and the progress style that suits it."""
    request = ctx.request_context
    client, traits = client_of_request(request)
    meta: dict[str, object] = dict(request.meta or {})

    return Caller(
        user=user_for_request(request.request),
        client=client,
        traits=traits,
        style=progress_style(
            shows_latest="shows_latest_progress" in traits,
            configured=request.lifespan_context.settings.progress,
            requested=meta.get(PROGRESS_KEY),
        ),
        send_progress=_progress_sender(ctx, meta),
        trace_id=_trace_id_from(meta.get("traceparent")),
    )


def client_of_request(request: ServerRequestContext[Services, Any]) -> tuple[str, frozenset[ClientTrait]]:
    """The name of the client that sent a request, and its traits."""
    params = request.session.client_params
    if params is None:
        return "", frozenset()
    info = params.client_info
    return info.name, client_traits(info.name, info.version, over_http=request.request is not None)


def _progress_sender(ctx: Context[Services], meta: Mapping[str, object]) -> SendProgress:
    """The way to notify the client of this request of progress. Nothing is sent if it did not ask for that."""
    state = http_request_state(ctx.request_context.request)

    async def send_through_sdk(progress: float, message: str | None, total: float | None = None) -> None:
        if state is not None:
            # In 2025-11-25 one client that does not read would hold up all calls of its session.
            await state.wait_until_read()
        await ctx.report_progress(progress, total, message)

    token = meta.get("progress_token", meta.get("progressToken"))
    writer = state or current_stdout()
    if writer is None or not isinstance(token, str | int):
        return send_through_sdk
    return ProgressFrames(send_through_sdk, writer, token).send_progress


def _trace_id_from(traceparent: object) -> str:
    """The trace id within a W3C `traceparent` (version-traceid-parentid-flags)."""
    parts = traceparent.split("-") if isinstance(traceparent, str) else []
    return parts[1] if len(parts) == 4 and len(parts[1]) == 32 else ""


ServicesDep: TypeAlias = Annotated[Services, Resolve(resolve_services)]
UserDep: TypeAlias = Annotated[User, Resolve(resolve_user)]
CallerDep: TypeAlias = Annotated[Caller, Resolve(resolve_caller)]
