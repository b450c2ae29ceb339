"""The state of a task of the MCP Tasks extension, and its wire forms.

The shapes are those of the extension's `schema.ts` (https://github.com/modelcontextprotocol/ext-tasks, schema/draft, as
of November 2026, whose stable version is 2026-07-28).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, TypeAlias

from mcp.types import CallToolResult, ContentBlock
from pydantic import Field

from mcp_server_claude.frozen_dataclass import frozen_dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping

TaskStatus: TypeAlias = Literal["working", "input_required", "completed", "failed", "cancelled"]
"""`failed` is a JSON-RPC error; a tool result with `isError` is `completed`."""


@frozen_dataclass(kw_only=True)
class TaskState:
    """A task at one moment.

    Args:
        task_id: The id by which its client asks for it.
        status: Its status. `result`, `error` and `input_requests` belong to `completed`, `failed` and `input_required`.
        created_at: Unix seconds.
        updated_at: Unix seconds of the last change.
        ttl_s: Seconds from its creation for which it can be read; None while there is no end to them.
        poll_interval_s: Seconds that a client is asked to leave between two polls.
        status_message: One line for a person, or empty.
        result: The result that the call would have returned.
        error: The JSON-RPC error that ended it.
        input_requests: The requests to the client that have not been answered, by their keys.
    """

    task_id: str
    status: TaskStatus
    created_at: float
    updated_at: float
    ttl_s: float | None = None
    poll_interval_s: float = 1.0
    status_message: str = ""
    result: CallToolResult | None = None
    error: Mapping[str, object] | None = None
    input_requests: Mapping[str, object] | None = None

    def as_create_result(self) -> dict[str, object]:
        """The `CreateTaskResult` that stands in place of the result of a call."""
        return {"resultType": "task", **self._metadata()}

    def as_get_result(self) -> dict[str, object]:
        """The result of `tasks/get`: the metadata, and what belongs to the status."""
        payload: dict[str, object] = {}
        if self.result is not None:
            payload["result"] = self.result.model_dump(by_alias=True, mode="json", exclude_none=True)
        if self.error is not None:
            payload["error"] = dict(self.error)
        if self.input_requests is not None:
            payload["inputRequests"] = dict(self.input_requests)
        return {"resultType": "complete", **self._metadata(), **payload}

    def _metadata(self) -> dict[str, object]:
        message = {"statusMessage": self.status_message} if self.status_message else {}
        return {
            "taskId": self.task_id,
            "status": self.status,
            **message,
            "createdAt": _iso_time(self.created_at),
            "lastUpdatedAt": _iso_time(self.updated_at),
            "ttlMs": None if self.ttl_s is None else max(1, round(self.ttl_s * 1_000)),
            "pollIntervalMs": max(1, round(self.poll_interval_s * 1_000)),
        }


class TaskResult(CallToolResult):
    """The result of a tool whose call continues as a task. It has no content: its client gets the task in its place.

    A tool returns it only to a client that takes tasks (`Caller.accepts_tasks`), once the task can be read.
    """

    content: list[ContentBlock] = Field(default_factory=list[ContentBlock])
    task_id: str = Field(exclude=True)


def _iso_time(at: float) -> str:
    """ISO 8601 in UTC with milliseconds."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
