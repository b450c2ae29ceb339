"""Resources of the server: the text of a call, a file that code made, what was spent, the models."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, cast

from mcp_server_claude.lone_surrogates import replace_lone_surrogates
from mcp_server_claude.server import text_paging
from mcp_server_claude.server.protocol_errors import call_errors_as_protocol_errors
from mcp_server_claude.server.tool_dependencies import current_request, open_current_request
from mcp_server_claude.server.tools import info, jobs

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from mcp.server.context import CallNext, ServerRequestContext
    from mcp.server.mcpserver import MCPServer

    from mcp_server_claude.engine.output_file_downloads import DownloadedFile
    from mcp_server_claude.services.service_access import ServiceAccess

MAX_ITEM_NUMBER_DIGITS = 9
MAX_OUTPUT_ITEMS = 1_000
"""Items of a job in one message."""
MAX_FILE_BYTES = 10_000_000
"""Bytes of a file in one message, where base64 adds a third."""
TEXT_CONTENT_TYPES = ("application/json", "application/xml", "application/javascript", "application/x-ndjson")
_mime_type: ContextVar[str] = ContextVar("mime_type", default="")


async def use_file_content_type(ctx: ServerRequestContext[ServiceAccess, Any], call_next: CallNext) -> Any:
    """Answer `resources/read` with a file's own type: the SDK knows only that of the template."""
    token = _mime_type.set("")
    try:
        result = await call_next(ctx)
        if isinstance(result, dict) and _mime_type.get():
            for content in cast("dict[str, list[dict[str, object]]]", result)["contents"]:
                content["mimeType"] = _mime_type.get()
        return cast("object", result)
    finally:
        _mime_type.reset(token)


def register_resources(server: MCPServer[ServiceAccess]) -> None:
    """Add the resources. Each shows only what belongs to its reader."""

    @server.resource(
        "claude://calls/{id}{?offset,limit}",
        name="call",
        title="The text of a call",
        description="What a call wrote, as far as it came: also after a cancel, a time-out or a crash. offset and "
        "limit, in characters, give a page of it.",
        mime_type="text/plain",
    )
    async def call(id: str, offset: str = "", limit: str = "") -> str:  # noqa: A002 - the address's own word
        with _protocol_errors():
            request = await open_current_request()
            job = await request.services.calls.read_call(id, request.user.name)
            page = text_paging.select_page(replace_lone_surrogates(job.text), offset, limit)
        text = page.with_next_link(f"claude://calls/{id}")
        if page.end < page.total or job.record.end == "complete":
            return text
        return f"{text}\n\nINCOMPLETE: {job.record.incomplete or 'it is still being written.'}"

    @server.resource(
        "claude://files/{id}",
        name="file",
        title="A file that code made",
        description="What code produced while Claude answered, fetched from Anthropic.",
        mime_type="application/octet-stream",
    )
    async def file(id: str) -> str | bytes:  # noqa: A002 - the address's own word
        with _protocol_errors():
            request = await open_current_request()
            fetched = await request.services.output_files.download(id, request.user.name, MAX_FILE_BYTES)
        _mime_type.set(fetched.file.mime_type)
        return _text_or_bytes(fetched)

    @server.resource(
        "claude://jobs/{id}/output{?first,limit}",
        name="job-output",
        title="The answers of a job",
        description="One JSON line an item, in order. first and limit, in items, give a page.",
        mime_type="application/x-ndjson",
    )
    async def job_output(id: str, first: str = "", limit: str = "") -> str:  # noqa: A002 - the address's own word
        with _protocol_errors():
            request = await open_current_request()
            jobs_of_user, user = request.services.jobs, request.user.name
            start, count = _item_number(first, 0), min(_item_number(limit, MAX_OUTPUT_ITEMS), MAX_OUTPUT_ITEMS)
            return await jobs_of_user.read_output(id, user, start, count)

    @server.resource(
        "claude://usage",
        name="usage",
        title="What was spent today",
        mime_type="text/markdown",
        description="Requests, tokens and dollars since midnight UTC, by model.",
    )
    async def usage() -> str:
        with _protocol_errors():
            request = await open_current_request()
            return await info.usage_table(request.services, request.user, "today")

    @server.resource(
        "claude://models",
        name="models",
        title="The models",
        mime_type="text/markdown",
        description="The models that can be asked, with limits, capabilities and prices.",
    )
    async def models() -> str:
        with _protocol_errors():
            return await info.models_table((await open_current_request()).services)

    @server.resource(
        "claude://threads/{id}{?offset,limit}",
        name="thread",
        title="A conversation",
        description="The questions and answers of a thread. offset and limit, in characters, select a page.",
        mime_type="text/markdown",
    )
    async def thread(id: str, offset: str = "", limit: str = "") -> str:  # noqa: A002 - the address's own word
        with _protocol_errors():
            request = await open_current_request()
            transcript = await request.services.threads.read_transcript(id, request.user.name)
            text = replace_lone_surrogates(jobs.transcript_markdown(transcript))
            return text_paging.select_page(text, offset, limit).with_next_link(f"claude://threads/{id}")

    del call, file, job_output, thread, usage, models  # registered; the names are the server's now


def _protocol_errors() -> AbstractContextManager[None]:
    """The failures of the request that is being answered, in the codes of its protocol version."""
    return call_errors_as_protocol_errors(current_request().protocol_version)


def _item_number(value: str, default: int) -> int:
    return int(value) if value.isdecimal() and len(value) <= MAX_ITEM_NUMBER_DIGITS else default


def _text_or_bytes(fetched: DownloadedFile) -> str | bytes:
    """Text where the type says so and it is."""
    kind = fetched.file.mime_type.partition(";")[0].strip().lower()
    if kind.startswith("text/") or kind.endswith(("+json", "+xml")) or kind in TEXT_CONTENT_TYPES:
        try:
            return fetched.data.decode("utf-8-sig")
        except UnicodeDecodeError:
            pass
    return fetched.data
