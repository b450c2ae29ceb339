"""The Tasks extension from a client's side: what declares it, and its three requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import anyio
from mcp.client.extension import ClientExtension, ResultClaim
from mcp.types import CallToolResult, EmptyResult, Request, RequestParams, Result

if TYPE_CHECKING:
    from mcp import Client

TASKS = "io.modelcontextprotocol/tasks"
POLL_INTERVAL_S = 0.02
TERMINAL = frozenset({"completed", "failed", "cancelled"})


class Task(Result):
    """What a task in place of a result and one of `tasks/get` have in common."""

    task_id: str
    status: str
    created_at: str
    last_updated_at: str
    ttl_ms: int | None
    poll_interval_ms: int
    status_message: str = ""


class DetailedTask(Task):
    """The task that `tasks/get` returns."""

    result: CallToolResult | None = None
    error: dict[str, Any] | None = None
    input_requests: dict[str, Any] | None = None


class CreatedTask(Task):
    """The task that stands in place of a result."""

    result_type: Literal["task"]


class TaskIdParams(RequestParams):
    task_id: str


class GetTask(Request[TaskIdParams, Literal["tasks/get"]]):
    method: Literal["tasks/get"] = "tasks/get"
    params: TaskIdParams
    name_param = "taskId"


class CancelTask(Request[TaskIdParams, Literal["tasks/cancel"]]):
    method: Literal["tasks/cancel"] = "tasks/cancel"
    params: TaskIdParams
    name_param = "taskId"


class UpdateParams(TaskIdParams):
    input_responses: dict[str, Any]


class UpdateTask(Request[UpdateParams, Literal["tasks/update"]]):
    method: Literal["tasks/update"] = "tasks/update"
    params: UpdateParams
    name_param = "taskId"


class TasksClient(ClientExtension):
    """Declares tasks. The tests drive them, so nothing is resolved."""

    identifier = TASKS

    def claims(self) -> list[ResultClaim[Any]]:
        async def resolve(task: CreatedTask, _: object) -> CallToolResult:
            raise AssertionError(task)

        return [ResultClaim(result_type="task", model=CreatedTask, resolve=resolve)]


async def call_for_task(client: Client, tool: str, arguments: dict[str, Any]) -> CreatedTask:
    """Call a tool and expect a task in place of its result."""
    created = await client.session.call_tool(tool, arguments, allow_claimed=True)
    assert isinstance(created, CreatedTask), created
    return created


async def get_task(client: Client, task_id: str) -> DetailedTask:
    return await client.session.send_request(GetTask(params=TaskIdParams(task_id=task_id)), DetailedTask)


async def poll_task(client: Client, task_id: str) -> DetailedTask:
    """Poll a task until it has ended."""
    while (task := await get_task(client, task_id)).status not in TERMINAL:  # noqa: ASYNC110 - its end is not announced
        await anyio.sleep(POLL_INTERVAL_S)
    return task


async def cancel_task(client: Client, task_id: str) -> None:
    await client.session.send_request(CancelTask(params=TaskIdParams(task_id=task_id)), EmptyResult)


async def update_task(client: Client, task_id: str, responses: dict[str, Any]) -> None:
    params = UpdateParams(task_id=task_id, input_responses=responses)
    await client.session.send_request(UpdateTask(params=params), EmptyResult)
