"""The fixture tools of the conformance scenarios `tasks-*`, and the tasks that they make, in memory."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from secrets import token_urlsafe
from typing import TYPE_CHECKING

import anyio
from mcp.server.mcpserver import Context, require_client_extension
from mcp.server.mcpserver.tools import Tool
from mcp.shared.exceptions import MCPError
from mcp.types import (
    INTERNAL_ERROR,
    CallToolResult,
    ElicitRequest,
    ElicitRequestFormParams,
    InputRequiredResult,
    TextContent,
)

from mcp_server_claude.server.task_state import TaskResult, TaskState
from mcp_server_claude.server.tool_dependencies import TASKS_EXTENSION, CallerDep, resolve_caller
from mcp_server_claude.services.service_access import ServiceAccess  # noqa: TC001 - the SDK reads the signatures

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from anyio.abc import TaskGroup

    from mcp_server_claude.server.task_state import TaskStatus
    from mcp_server_claude.server.tool_dependencies import CurrentRequest

TASK_TTL_S = 3_600.0


@dataclass
class FixtureTask:
    """A task in memory."""

    task_id: str
    user: str
    created_at: float = field(default_factory=time.time)
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    result: CallToolResult | None = None
    error: MCPError | None = None
    questions: dict[str, ElicitRequest] = field(default_factory=dict[str, ElicitRequest])
    answers: dict[str, object] = field(default_factory=dict[str, object])
    changed: anyio.Event = field(default_factory=anyio.Event)

    @property
    def status(self) -> TaskStatus:
        if self.error is not None:
            return "failed"
        if self.result is not None:
            return "completed"
        if self.scope.cancel_called:
            return "cancelled"
        return "input_required" if self.questions else "working"

    async def ask(self, **messages: str) -> dict[str, object]:
        """Ask the client, all at once, and wait until each question is answered."""
        for name, message in messages.items():
            self.questions[f"{name}-{token_urlsafe(6)}"] = _elicitation(message)
        while self.questions:
            await self.changed.wait()
        return self.answers


class FixtureTasks:
    """The tasks of the fixture tools, run in a task group of the server."""

    def __init__(self, task_group: TaskGroup) -> None:
        self._task_group = task_group
        self._tasks: dict[str, FixtureTask] = {}

    def start(self, user: str, work: Callable[[FixtureTask], Awaitable[CallToolResult]]) -> TaskResult:
        """Begin a task and return its handle."""
        task = FixtureTask(token_urlsafe(24), user)
        self._tasks[task.task_id] = task
        self._task_group.start_soon(self._run, task, work)
        return TaskResult(task_id=task.task_id)

    async def read_task(self, request: CurrentRequest, task_id: str) -> TaskState | None:
        task = self._find(request, task_id)
        if task is None:
            return None
        error = None if task.error is None else {"code": task.error.error.code, "message": task.error.error.message}
        questions = {
            key: each.model_dump(by_alias=True, mode="json", exclude_none=True) for key, each in task.questions.items()
        }
        return TaskState(
            task_id=task_id,
            status=task.status,
            created_at=task.created_at,
            updated_at=time.time(),
            ttl_s=TASK_TTL_S,
            result=task.result,
            error=error,
            input_requests=questions if task.status == "input_required" else None,
        )

    async def deliver_input(self, request: CurrentRequest, task_id: str, responses: Mapping[str, object]) -> bool:
        task = self._find(request, task_id)
        if task is None:
            return False
        for key, response in responses.items():
            if task.questions.pop(key, None) is not None:
                task.answers[key] = response
        task.changed.set()
        task.changed = anyio.Event()
        return True

    async def cancel_task(self, request: CurrentRequest, task_id: str) -> bool:
        task = self._find(request, task_id)
        if task is None:
            return False
        if task.status in {"working", "input_required"}:
            task.questions.clear()
            task.scope.cancel()
        return True

    async def _run(self, task: FixtureTask, work: Callable[[FixtureTask], Awaitable[CallToolResult]]) -> None:
        with task.scope:
            try:
                task.result = await work(task)
            except MCPError as error:
                task.error = error

    def _find(self, request: CurrentRequest, task_id: str) -> FixtureTask | None:
        task = self._tasks.get(task_id)
        return task if task is not None and task.user == request.user.name else None


def task_tools(tasks: FixtureTasks) -> list[Tool]:
    """The tools of the scenarios `tasks-*`."""
    functions = (*_plain_tools(tasks), *_asking_tools(tasks))
    return [Tool.from_function(function, structured_output=False) for function in functions]


def _plain_tools(tasks: FixtureTasks) -> tuple[Callable[..., object], ...]:
    """The tools that need nothing from the client."""

    def greet(name: str) -> str:
        """Greet a person, at once."""
        return f"Hello, {name}!"

    async def slow_compute(*, seconds: float, label: str = "", caller: CallerDep) -> CallToolResult:
        """Take some seconds."""

        async def compute(_: FixtureTask | None = None) -> CallToolResult:
            await anyio.sleep(seconds)
            return _text_result(f"{label} took {seconds} s")

        return tasks.start(caller.user.name, compute) if seconds and caller.accepts_tasks else await compute()

    async def failing_job(ctx: Context[ServiceAccess], *, caller: CallerDep) -> CallToolResult:
        """Fail after a second, as a task only."""
        require_client_extension(ctx.request_context, TASKS_EXTENSION)

        async def fail(_: FixtureTask) -> CallToolResult:
            await anyio.sleep(1)
            return _text_result("It failed.", is_error=True)

        return tasks.start(caller.user.name, fail)

    async def protocol_error_job(ctx: Context[ServiceAccess], *, caller: CallerDep) -> CallToolResult:
        """End with a JSON-RPC error, as a task only."""
        require_client_extension(ctx.request_context, TASKS_EXTENSION)

        async def end_with_error(_: FixtureTask) -> CallToolResult:
            await anyio.sleep(0.2)
            raise MCPError(INTERNAL_ERROR, "It ended with an error.")

        return tasks.start(caller.user.name, end_with_error)

    return greet, slow_compute, failing_job, protocol_error_job


def _asking_tools(tasks: FixtureTasks) -> tuple[Callable[..., object], ...]:
    """The tools that ask the client."""

    async def confirm_delete(ctx: Context[ServiceAccess], *, filename: str = "", caller: CallerDep) -> CallToolResult:
        """Ask for a confirmation, as a task only."""
        require_client_extension(ctx.request_context, TASKS_EXTENSION)

        async def delete_confirmed(task: FixtureTask) -> CallToolResult:
            answers = await task.ask(confirm=f"Delete {filename}?")
            return _text_result(f"{filename}: {answers}")

        return tasks.start(caller.user.name, delete_confirmed)

    async def multi_input(ctx: Context[ServiceAccess], *, caller: CallerDep) -> CallToolResult:
        """Ask two questions at once, as a task only."""
        require_client_extension(ctx.request_context, TASKS_EXTENSION)

        async def collect(task: FixtureTask) -> CallToolResult:
            return _text_result(str(await task.ask(name="Your name?", confirm="Are you sure?")))

        return tasks.start(caller.user.name, collect)

    async def test_tool_with_task(ctx: Context[ServiceAccess]) -> CallToolResult | InputRequiredResult:
        """Ask for a name, and continue as a task."""
        require_client_extension(ctx.request_context, TASKS_EXTENSION)
        if not ctx.input_responses:
            return InputRequiredResult(input_requests={"user_name": _elicitation("Your name?")})
        answer = ctx.input_responses["user_name"].model_dump(mode="json")

        async def greet_by_name(_: FixtureTask) -> CallToolResult:
            return _text_result(f"Hello, {answer['content']}!")

        return tasks.start((await resolve_caller(ctx)).user.name, greet_by_name)

    return confirm_delete, multi_input, test_tool_with_task


def _elicitation(message: str) -> ElicitRequest:
    schema = {"type": "object", "properties": {"name": {"type": "string"}, "confirm": {"type": "boolean"}}}
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def _text_result(text: str, *, is_error: bool = False) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=text)], is_error=is_error)
