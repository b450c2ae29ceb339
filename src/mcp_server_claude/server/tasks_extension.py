"""The MCP Tasks extension: a call that takes long becomes a task, which its client polls, answers and cancels.

Its specification: https://github.com/modelcontextprotocol/ext-tasks, specification/draft/tasks.md, as of November 2026.
It exists in 2026-07-28 alone, and only for requests whose client declares it. Here is the protocol; `TaskSource` has
the tasks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn, Protocol, cast

from mcp.server.extension import Extension, MethodBinding
from mcp.server.mcpserver import require_client_extension
from mcp.shared.exceptions import MCPError
from mcp.shared.inbound import MCP_NAME_HEADER, decode_header_value
from mcp.types import HEADER_MISMATCH, INVALID_PARAMS, RequestParams

from mcp_server_claude.server.protocol_errors import call_errors_as_protocol_errors
from mcp_server_claude.server.task_state import TaskResult
from mcp_server_claude.server.tool_dependencies import TASK_PROTOCOL_VERSIONS, TASKS_EXTENSION, open_current_request

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
    from mcp.types import CallToolRequestParams

    from mcp_server_claude.server.task_state import TaskState
    from mcp_server_claude.server.tool_dependencies import CurrentRequest
    from mcp_server_claude.services.service_access import ServiceAccess


class TaskSource(Protocol):
    """The tasks of a server. A request finds those of its own user only."""

    async def read_task(self, request: CurrentRequest, task_id: str) -> TaskState | None:
        """The user's task as it stands now; None if there is none of that id."""
        ...

    async def deliver_input(self, request: CurrentRequest, task_id: str, responses: Mapping[str, object]) -> bool:
        """Pass on answers to the task's requests, ignoring those to none. False if there is no such task."""
        ...

    async def cancel_task(self, request: CurrentRequest, task_id: str) -> bool:
        """Ask for the task to be stopped, if it has not ended. False if there is no such task."""
        ...


class TaskParams(RequestParams):
    """The parameters of `tasks/get` and `tasks/cancel`."""

    task_id: str


class UpdateTaskParams(TaskParams):
    """The parameters of `tasks/update`."""

    input_responses: dict[str, Any]


class TasksExtension(Extension):
    """The three methods of tasks, and the task as the result of a call that continues as one."""

    identifier = TASKS_EXTENSION

    def __init__(self, source: TaskSource) -> None:
        self._source = source

    def methods(self) -> list[MethodBinding]:
        """The methods, in the version that has them."""
        handlers = (
            ("tasks/get", TaskParams, self._get_task),
            ("tasks/update", UpdateTaskParams, self._update_task),
            ("tasks/cancel", TaskParams, self._cancel_task),
        )
        return [
            MethodBinding(method=method, params_type=params, handler=handler, protocol_versions=TASK_PROTOCOL_VERSIONS)
            for method, params, handler in handlers
        ]

    async def intercept_tool_call(
        self, params: CallToolRequestParams, ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> HandlerResult:
        """Answer with the task where a tool has made one."""
        del params
        result = await call_next(ctx)
        if not isinstance(result, TaskResult):
            return result
        task = await self._source.read_task(await open_current_request(), result.task_id)
        return _raise_unknown_task() if task is None else task.as_create_result()

    async def _get_task(self, ctx: ServerRequestContext[Any, Any], params: TaskParams) -> dict[str, object]:
        request = await _checked_request(ctx, params)
        with call_errors_as_protocol_errors(ctx.protocol_version):
            task = await self._source.read_task(request, params.task_id)
        return _raise_unknown_task() if task is None else task.as_get_result()

    async def _update_task(self, ctx: ServerRequestContext[Any, Any], params: UpdateTaskParams) -> dict[str, object]:
        request = await _checked_request(ctx, params)
        with call_errors_as_protocol_errors(ctx.protocol_version):
            exists = await self._source.deliver_input(request, params.task_id, params.input_responses)
        return {} if exists else _raise_unknown_task()

    async def _cancel_task(self, ctx: ServerRequestContext[Any, Any], params: TaskParams) -> dict[str, object]:
        request = await _checked_request(ctx, params)
        with call_errors_as_protocol_errors(ctx.protocol_version):
            exists = await self._source.cancel_task(request, params.task_id)
        return {} if exists else _raise_unknown_task()


async def check_task_subscriptions(ctx: ServerRequestContext[ServiceAccess, Any], call_next: CallNext) -> Any:
    """Refuse a subscription to tasks of a client that does not declare them.

    The SDK ignores `taskIds`, so a client that declares them gets the answer that it will not be notified, and polls.

    Raises:
        MCPError: -32021, as the extension demands.
    """
    if ctx.method == "subscriptions/listen" and ctx.params is not None:
        wanted = ctx.params.get("notifications")
        if isinstance(wanted, dict) and cast("dict[str, object]", wanted).get("taskIds"):
            require_client_extension(ctx, TASKS_EXTENSION)
    return await call_next(ctx)


async def _checked_request(ctx: ServerRequestContext[Any, Any], params: TaskParams) -> CurrentRequest:
    """The current request, once it may ask for a task.

    Raises:
        MCPError: Its client does not declare tasks (-32021), or its `Mcp-Name` header is not the id (-32020).
    """
    require_client_extension(ctx, TASKS_EXTENSION)
    headers = getattr(ctx.request, "headers", None)
    if headers is not None and decode_header_value(headers.get(MCP_NAME_HEADER)) != params.task_id:
        raise MCPError(HEADER_MISMATCH, f"The {MCP_NAME_HEADER} header must have the value of params.taskId.")
    return await open_current_request()


def _raise_unknown_task() -> NoReturn:
    raise MCPError(INVALID_PARAMS, "There is no task with that id, or it has expired.")
