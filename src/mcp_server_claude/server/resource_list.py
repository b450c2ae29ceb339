"""The list of resources with what belongs to the user who asks: their latest threads, jobs and files."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from mcp_server_claude.errors import CallError
from mcp_server_claude.lone_surrogates import replace_lone_surrogates
from mcp_server_claude.server.tool_dependencies import open_current_request

if TYPE_CHECKING:
    from mcp.server.context import CallNext, ServerRequestContext

    from mcp_server_claude.call_types import OutputFile
    from mcp_server_claude.jobs.job_snapshot import JobSnapshot
    from mcp_server_claude.server.tool_dependencies import CurrentRequest
    from mcp_server_claude.services.service_access import ServiceAccess
    from mcp_server_claude.store.thread_messages import Thread

MAX_LISTED_THREADS = 20
MAX_LISTED_JOBS = 10
MAX_LISTED_FILES = 20
MAX_TITLE_CHARS = 80


async def list_own_resources(ctx: ServerRequestContext[ServiceAccess, Any], call_next: CallNext) -> Any:
    """Add the user's latest threads, jobs and files to the answer to `resources/list`."""
    result = await call_next(ctx)
    if ctx.method == "resources/list" and isinstance(result, dict):
        resources = cast("dict[str, list[dict[str, object]]]", result)["resources"]
        with suppress(CallError):  # the database cannot be read: what is always there is listed, and each tool says why
            resources += await own_resources(await open_current_request())
    return cast("object", result)


async def own_resources(request: CurrentRequest) -> list[dict[str, object]]:
    """The latest threads, jobs and files of the user of a request, as MCP lists resources.

    Raises:
        ConfigurationError: They could not be read.
    """
    services, user = request.services, request.user.name
    return [
        *map(_thread_resource, await services.threads.latest_threads(user, MAX_LISTED_THREADS)),
        *map(_job_resource, await services.jobs.latest_jobs(user, MAX_LISTED_JOBS)),
        *map(_file_resource, await services.output_files.latest_files(user, MAX_LISTED_FILES)),
    ]


def _thread_resource(thread: Thread) -> dict[str, object]:
    return {
        "uri": f"claude://threads/{thread.id}",
        "name": thread.id,
        "title": _title(thread.head),
        "description": "A conversation: its questions and answers.",
        "mimeType": "text/markdown",
        "annotations": {"lastModified": _last_modified(thread.touched_at)},
    }


def _job_resource(job: JobSnapshot) -> dict[str, object]:
    record = job.record
    return {
        "uri": f"claude://jobs/{record.id}/output",
        "name": record.id,
        "title": _title(record.title),
        "description": "The answers of a background job, one JSON line an item.",
        "mimeType": "application/x-ndjson",
        "annotations": {"lastModified": _last_modified(record.ended_at or record.created_at)},
    }


def _file_resource(file: OutputFile) -> dict[str, object]:
    resource: dict[str, object] = {
        "uri": f"claude://files/{file.id}",
        "name": replace_lone_surrogates(file.name),
        "description": "A file that code made while Claude answered.",
        "mimeType": file.mime_type,
    }
    return resource if file.bytes is None else resource | {"size": file.bytes}


def _title(text: str) -> str:
    title = replace_lone_surrogates(" ".join(text.split()))
    return title if len(title) <= MAX_TITLE_CHARS else f"{title[:MAX_TITLE_CHARS]}…"


def _last_modified(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
