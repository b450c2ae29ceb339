"""Jobs as tasks of the MCP Tasks extension: the task's id is that of the job, so it survives the server.

A task can be read for as long as its job is kept. It never needs input.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

from mcp_server_claude import number_formatting
from mcp_server_claude.call_types import Citation, MessageStart, Reply, StructuredOutput, TextDelta, Usage
from mcp_server_claude.errors import CallError
from mcp_server_claude.server import job_results, tool_results
from mcp_server_claude.server.job_progress_reports import items_status_line
from mcp_server_claude.server.progress_notifications import StatusLine
from mcp_server_claude.server.task_state import TaskState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp.types import CallToolResult

    from mcp_server_claude.call_types import CallEvent
    from mcp_server_claude.calls.running_call import RunningCall
    from mcp_server_claude.jobs.job_snapshot import JobSnapshot
    from mcp_server_claude.server.task_state import TaskStatus
    from mcp_server_claude.server.tool_dependencies import CurrentRequest
    from mcp_server_claude.store.job_items import ItemRecord

MIN_POLL_INTERVAL_S, MAX_POLL_INTERVAL_S = 1.0, 15.0
POLLS_PER_AGE = 30
"""The interval is the age of a task divided by this: an answer is late by a thirtieth of its time at most."""
SECONDS_PER_DAY = 86_400


class JobTasks:
    """The jobs of all users as tasks."""

    def __init__(self) -> None:
        self._status_lines: WeakKeyDictionary[RunningCall, StatusLine] = WeakKeyDictionary()

    async def read_task(self, request: CurrentRequest, task_id: str) -> TaskState | None:
        """The user's task as it stands now; None if there is none of that id.

        Raises:
            CallError: It could not be read.
        """
        snapshot = await _find_job(request, task_id)
        if snapshot is None:
            return None
        if not snapshot.is_single:
            return await _items_task(request, snapshot)
        (item,) = await request.services.jobs.read_items(task_id, request.user.name, 0, 1)
        match item.state:
            case "done" | "failed":
                result = await _answer_result(request, item)
                return _task(request, snapshot, "completed", f"{snapshot.state}, {_cost(snapshot)}", result=result)
            case "cancelled":
                text = f'it was stopped; claude_jobs(id="{task_id}") has what was written'
                return _task(request, snapshot, "cancelled", text)
            case "todo" | "running":
                return _task(request, snapshot, "working", self._status_text(request, item, task_id))

    async def deliver_input(self, request: CurrentRequest, task_id: str, responses: Mapping[str, object]) -> bool:
        """Ignore answers: a job has asked for nothing. False if there is no such task.

        Raises:
            CallError: It could not be read.
        """
        del responses
        return await _find_job(request, task_id) is not None

    async def cancel_task(self, request: CurrentRequest, task_id: str) -> bool:
        """Stop the job, if it has not ended. False if there is no such task.

        Raises:
            CallError: It could not be read or stopped.
        """
        if await _find_job(request, task_id) is None:
            return False
        await request.services.jobs.stop_job(task_id, request.user.name)
        return True

    def _status_text(self, request: CurrentRequest, item: ItemRecord, task_id: str) -> str:
        """The status line of a question: that of its call, where this process runs it."""
        running = request.services.jobs.running_call(task_id)
        if running is None:
            return "waiting to be asked" if item.state == "todo" else "running in another process of this server"
        if running not in self._status_lines:
            self._status_lines[running] = _follow(running)
        return self._status_lines[running].render()


async def _find_job(request: CurrentRequest, job_id: str) -> JobSnapshot | None:
    try:
        return await request.services.jobs.read_job(job_id, request.user.name)
    except CallError as error:
        if error.kind == "not_found":
            return None
        raise


async def _items_task(request: CurrentRequest, snapshot: JobSnapshot) -> TaskState:
    """The task of one prompt over many items."""
    line = items_status_line(snapshot)
    if not snapshot.is_closed:
        return _task(request, snapshot, "working", line)
    if snapshot.state == "cancelled":
        address = job_results.output_address(snapshot.record.id)
        return _task(request, snapshot, "cancelled", f"it was stopped · {line} · {address} has the answers")
    result = await job_results.job_result(request.services.jobs, snapshot)
    return _task(request, snapshot, "completed", line, result=tool_results.adapt_to_client(result, request.traits))


def _task(
    request: CurrentRequest,
    snapshot: JobSnapshot,
    status: TaskStatus,
    message: str,
    *,
    result: CallToolResult | None = None,
) -> TaskState:
    record, now = snapshot.record, time.time()
    retention_s = request.services.settings.text_retention_days * SECONDS_PER_DAY
    age_s = now - record.created_at
    changed_at = record.ended_at or now  # the answer is there a moment before the job is closed
    return TaskState(
        task_id=record.id,
        status=status,
        created_at=record.created_at,
        updated_at=changed_at,
        ttl_s=None if status == "working" else changed_at - record.created_at + retention_s,
        poll_interval_s=min(max(MIN_POLL_INTERVAL_S, age_s / POLLS_PER_AGE), MAX_POLL_INTERVAL_S),
        status_message=message,
        result=result,
    )


async def _answer_result(request: CurrentRequest, item: ItemRecord) -> CallToolResult:
    """The result that `claude_ask` would have returned, from what the job has saved of it."""
    settings = request.services.settings
    if item.error is not None:
        fields = {name: value for name, value in item.error.items() if name != "message"}
        return tool_results.failure_result(str(item.error.get("message", "")), fields, item.usage)
    annotations = cast("dict[str, Any]", item.annotations or {})
    reply = Reply(
        text=item.text,
        notes=tuple(annotations.get("notes", ())),
        citations=tuple(Citation(**each) for each in annotations.get("citations", ())),
        usage=Usage.from_json(item.usage or {}),
        incomplete=item.note,
        structured_output=StructuredOutput(value=json.loads(item.text)) if item.is_json else None,
        files=tuple(await request.services.output_files.files_of_call(item.call_id, request.user.name)),
    )
    limit = settings.inline_limit(client_truncates="truncates_results" in request.traits)
    result = tool_results.reply_result(reply, with_footer=settings.footer, limit=limit)
    return tool_results.adapt_to_client(result, request.traits)


def _follow(running: RunningCall) -> StatusLine:
    """A status line that receives the past and future events of a call."""
    line = StatusLine(elapsed_s=time.time() - running.started_at)
    if running.usage.model:
        line.update_stage(MessageStart(usage=running.usage))
    line.add_text(running.text.slice(0))

    def take_event(event: CallEvent) -> None:
        if isinstance(event, TextDelta):
            line.add_text(event.text)
        else:
            line.update_stage(event)

    running.listeners.append(take_event)
    return line


def _cost(snapshot: JobSnapshot) -> str:
    return number_formatting.format_usd(snapshot.cost_usd)
