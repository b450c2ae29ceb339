"""Dependencies of the tools, hidden from their schemas: the open services and the caller.

The SDK passes nothing to a static resource; such a one calls `open_current_request`.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import field
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, cast

import anyio
from mcp.server.mcpserver import Context, Resolve

from mcp_server_claude.calls.ask_request import CallOrigin
from mcp_server_claude.frozen_dataclass import frozen_dataclass
from mcp_server_claude.server.client_quirks import client_traits
from mcp_server_claude.server.http_client_state import authenticated_user, http_request_state
from mcp_server_claude.server.progress_frames import ProgressFrames
from mcp_server_claude.server.progress_notifications import progress_style
from mcp_server_claude.server.stdout_writer import current_stdout
from mcp_server_claude.services.service_access import ServiceAccess
from mcp_server_claude.users.user import LOCAL, User

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from mcp.server.context import ServerRequestContext

    from mcp_server_claude.server.client_quirks import ClientTrait
    from mcp_server_claude.server.progress_frames import SendProgress
    from mcp_server_claude.server.progress_notifications import ProgressStyle

OPENING_NOTE = "loading"
"""The first status of a call that comes before the services are open."""
PROGRESS_KEY = "mcp-server-claude/progress"
"""In a request's `_meta`: the progress style of that call, `text` or `status`."""
TASKS_EXTENSION = "io.modelcontextprotocol/tasks"
TASK_PROTOCOL_VERSIONS = frozenset({"2026-07-28"})
"""The versions whose clients take a task in place of a result. Clients of 2025-11-25 declare the extension too (MCP
Inspector 2.12.0, measured), and cannot read one."""


@frozen_dataclass(kw_only=True)
class Caller:
    """The caller, what its client does differently, and the way to report progress to it.

    `accepts_tasks`: the request declares the Tasks extension.
    """

    user: User
    client: str
    traits: frozenset[ClientTrait]
    accepts_tasks: bool
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


@frozen_dataclass()
class CurrentRequest:
    """The services, the user, the client's traits and the protocol version of the request that is being answered.

    `questions` are the pending questions about its cost, by the digest of the call, to which it may bring the answer.
    """

    services: ServiceAccess
    user: User
    traits: frozenset[ClientTrait]
    protocol_version: str
    questions: dict[str, str] = field(default_factory=dict[str, str])


_current_request: ContextVar[CurrentRequest] = ContextVar("current_request")


@contextmanager
def bind_request(ctx: ServerRequestContext[ServiceAccess, object]) -> Generator[None]:
    """Bind the request that the code in the block answers."""
    _, traits = client_of_request(ctx)
    current = CurrentRequest(ctx.lifespan_context, user_for_request(ctx.request), traits, ctx.protocol_version)
    token = _current_request.set(current)
    try:
        yield
    finally:
        _current_request.reset(token)


def current_request() -> CurrentRequest:
    """The request that is being answered."""
    return _current_request.get()


async def open_current_request() -> CurrentRequest:
    """The request that is being answered, with open services."""
    request = _current_request.get()
    await request.services.open()
    return request


def user_for_request(request: object) -> User:
    """The user of a request: the authenticated one over HTTP, the local one over stdio."""
    return LOCAL if request is None else cast("User", authenticated_user(request))


async def resolve_services(ctx: Context[ServiceAccess]) -> ServiceAccess:
    """The services of the running server, opened. A call that has to wait for that reports progress at once."""
    services = ctx.request_context.lifespan_context
    if not services.are_open:
        caller = await resolve_caller(ctx)
        with suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):  # what ends the call is decided elsewhere
            # Below the first number of the call's own reporter: progress has to increase.
            await caller.send_progress(0, OPENING_NOTE if caller.style == "status" else None)
    return await services.open()


async def resolve_user(ctx: Context[ServiceAccess]) -> User:
    """The user who calls. As all of these it is asynchronous: the SDK runs others on a thread, which costs more."""
    return user_for_request(ctx.request_context.request)


async def resolve_caller(ctx: Context[ServiceAccess]) -> Caller:
    """The client of this request, by the name it gave, and the progress style that suits it."""
    request = ctx.request_context
    client, traits = client_of_request(request)
    meta: dict[str, object] = dict(request.meta or {})

    return Caller(
        user=user_for_request(request.request),
        client=client,
        traits=traits,
        accepts_tasks=_accepts_tasks(request),
        style=progress_style(
            shows_latest="shows_latest_progress" in traits,
            configured=request.lifespan_context.settings.progress,
            requested=meta.get(PROGRESS_KEY),
        ),
        send_progress=_progress_sender(ctx, meta),
        trace_id=_trace_id_from(meta.get("traceparent")),
    )


def client_of_request(request: ServerRequestContext[ServiceAccess, Any]) -> tuple[str, frozenset[ClientTrait]]:
    """The name of the client that sent a request, and its traits."""
    params = request.session.client_params
    if params is None:
        return "", frozenset()
    info = params.client_info
    return info.name, client_traits(info.name, info.version, over_http=request.request is not None)


def _accepts_tasks(request: ServerRequestContext[ServiceAccess, Any]) -> bool:
    """True if a request declares the Tasks extension, in a version that has it."""
    capabilities = request.session.client_capabilities
    declared = capabilities.extensions if capabilities is not None else None
    return TASKS_EXTENSION in (declared or {}) and request.protocol_version in TASK_PROTOCOL_VERSIONS


def _progress_sender(ctx: Context[ServiceAccess], meta: Mapping[str, object]) -> SendProgress:
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
    return ProgressFrames(send_through_sdk, writer, token, has_begun=state is None)


def _trace_id_from(traceparent: object) -> str:
    """The trace id within a W3C `traceparent` (version-traceid-parentid-flags)."""
    parts = traceparent.split("-") if isinstance(traceparent, str) else []
    return parts[1] if len(parts) == 4 and len(parts[1]) == 32 else ""


ServicesDep: TypeAlias = Annotated[ServiceAccess, Resolve(resolve_services)]
UserDep: TypeAlias = Annotated[User, Resolve(resolve_user)]
CallerDep: TypeAlias = Annotated[Caller, Resolve(resolve_caller)]
