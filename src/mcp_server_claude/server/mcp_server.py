"""The MCP server: its tools, its instructions, and the services that live as long as it does."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

from mcp.server.mcpserver import MCPServer
from mcp.shared.exceptions import MCPError

from mcp_server_claude import __version__, telemetry
from mcp_server_claude.hidden_modules import hide_modules
from mcp_server_claude.lone_surrogates import without_lone_surrogates
from mcp_server_claude.server import prompts, resources
from mcp_server_claude.server.http_client_state import http_request_state
from mcp_server_claude.server.job_tasks import JobTasks
from mcp_server_claude.server.panel.panel_resource import hide_panel_without_apps, panel_extension
from mcp_server_claude.server.panel.panel_tool import panel_tool
from mcp_server_claude.server.protocol_errors import unknown_name_errors
from mcp_server_claude.server.resource_list import list_own_resources
from mcp_server_claude.server.resource_subscriptions import (
    HANDSHAKE_METHODS,
    ConnectionSubscriptions,
    UserSubscriptionBus,
    announce_list_changes,
    publish_updates,
    register_subscriptions,
)
from mcp_server_claude.server.shared_request_state import SharedRequestState
from mcp_server_claude.server.tasks_extension import TasksExtension, check_task_subscriptions
from mcp_server_claude.server.tool_dependencies import bind_request
from mcp_server_claude.server.tools import build_tools
from mcp_server_claude.services.service_access import ServiceAccess
from mcp_server_claude.telemetry import stderr_logging

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from mcp.server.context import CallNext, ServerRequestContext
    from mcp.server.mcpserver.tools import Tool

    from mcp_server_claude.server.tasks_extension import TaskSource
    from mcp_server_claude.settings import Settings

SERVER_NAME = "mcp-server-claude"

INSTRUCTIONS = """\
Delegates work to another Claude through the Anthropic API: a fresh context, any model, a separate bill.

Use it for: a second opinion or a review that is not biased by this conversation; a hard question for a stronger \
model; reading PDFs, logs or many files that would fill your own context; a draft or an extraction on a cheap model. \
Do not use it for what you can answer at once, or for work that needs your tools or this conversation.

- claude_ask(prompt): the delegate sees only `prompt` and `files`, so state the goal, the constraints and the form of \
the answer in the prompt, and name files by path, glob or URL instead of pasting them. `model`: haiku is cheapest, \
sonnet the usual choice, opus for hard problems, fable for the hardest. `effort` says how hard to think, `schema` \
makes the answer JSON, `tools` lets it search the web, run code or read files, `max_usd` limits the cost, `dry_run` \
only prices it. `thread` continues an earlier answer: pass the id (t_…) from its last line instead of repeating the \
context. `background` returns a job id at once. Ask independent questions in parallel.
- claude_map(prompt, items): one question about many texts, files (["docs/*.md"]) or rows (["people.csv"]) in \
parallel; `{{item}}` or `{{column}}` in the prompt is replaced. The answers are written to a file; the same call \
again continues an interrupted one. `batch` takes up to 24 hours at half the price.
- claude_jobs(id, wait=50): wait for or read a call (c_…), job (j_…) or thread (t_…); `cancel` stops it. No text is \
lost after a time-out or a cancel: without an id it lists the latest.
- claude_info(about): models with prices and limits, spending, the rest of the budget, the configuration.

Default model: {model}. A result whose last block begins with INCOMPLETE: was cut; it says why and how to continue.\
"""
"""Claude Code shows the model at most 2,048 characters of this, and at first nothing else but the tools' names."""

ServicesLifespan: TypeAlias = "Callable[[Settings], AbstractAsyncContextManager[ServiceAccess]]"
"""A context in which services are open, or open when they are needed."""
McpServerFactory: TypeAlias = "Callable[[Settings, ServicesLifespan], MCPServer[ServiceAccess]]"
"""A function that builds the MCP server, as `build_mcp_server` does."""
LOGGING_MODULES = ("rich.console", "rich.logging")
"""The MCP SDK prepares a handler of rich's in case no logging is set up, and does without where rich is not installed
(mcp 2.3, `configure_logging`). Logging is set up before: rich would be 25 ms and 1.5 MB for nothing."""
REQUEST_CANCELLED = -32800
"""What the SDK answers in 2025-11-25 where a request was cancelled (RequestCancelled of the language servers)."""


def build_mcp_server(
    settings: Settings,
    services_lifespan: ServicesLifespan,
    *,
    tools: Sequence[Tool] | None = None,
    tasks: TaskSource | None = None,
) -> MCPServer[ServiceAccess]:
    """The server for these settings. Building it opens nothing; its lifespan enters that of the services.

    Args:
        settings: The settings.
        services_lifespan: The context in which the services are open.
        tools: Other tools than those of this package.
        tasks: The source of tasks of these tools.
    """

    @asynccontextmanager
    async def lifespan(_: MCPServer[ServiceAccess]) -> AsyncGenerator[ServiceAccess]:
        async with services_lifespan(settings) as services, publish_updates(services, bus, subscriptions):
            yield services

    stderr_logging.setup_logging(settings)
    telemetry.start_telemetry()
    tools = [*(build_tools() if tools is None else tools), panel_tool()]
    bus, subscriptions = UserSubscriptionBus(), ConnectionSubscriptions()
    request_state = SharedRequestState() if settings.store_url else None
    with hide_modules(*LOGGING_MODULES):
        server = MCPServer(
            SERVER_NAME,
            title="Claude",
            instructions=INSTRUCTIONS.format(model=settings.model or "sonnet"),
            version=__version__,
            tools=tools,
            lifespan=lifespan,
            extensions=[panel_extension(), TasksExtension(tasks or JobTasks())],
            middleware=[
                open_services_after_handshake,
                bind_user_and_cancel,
                announce_list_changes,
                subscriptions.check_listened_addresses,
                subscriptions.record_list_reader,
                unknown_name_errors([tool.name for tool in tools]),
                resources.use_file_content_type,
                hide_panel_without_apps,
                list_own_resources,
                check_task_subscriptions,
            ],
            log_level="WARNING",
            subscriptions=bus,
            request_state_security=request_state.security if request_state else None,
        )
    if request_state:
        server.middleware.insert(0, request_state.load_key)  # before the SDK's own, which unseals
    register_subscriptions(server, subscriptions)
    resources.register_resources(server)
    prompts.register_prompts(server)
    return server


async def open_services_after_handshake(ctx: ServerRequestContext[ServiceAccess, Any], call_next: CallNext) -> Any:
    """Start opening the services once the client has its answer: they cost more than the handshake itself."""
    result = await call_next(ctx)
    if ctx.method in HANDSHAKE_METHODS:
        ctx.lifespan_context.start_opening()
    return result


async def bind_user_and_cancel(ctx: ServerRequestContext[ServiceAccess, Any], call_next: CallNext) -> Any:
    """Answer a request for its user, and over HTTP only while the client is connected.

    In 2025-11-25 the SDK lets a call run on, and cost, when its client has gone, and its response ends without a word
    where a text holds a lone surrogate.
    """
    if ctx.request_id is None:
        return await call_next(ctx)
    client_state = http_request_state(ctx.request)
    with bind_request(ctx):
        if client_state is None:
            return await call_next(ctx)
        with client_state.cancel_scope():
            return without_lone_surrogates(await call_next(ctx))
    raise MCPError(REQUEST_CANCELLED, "The client has gone.")
