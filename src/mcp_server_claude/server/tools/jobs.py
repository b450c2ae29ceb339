"""`claude_jobs`: find, read, wait for and stop calls by their id, whatever became of them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

from mcp.types import CallToolResult, TextContent, ToolAnnotations
from pydantic import Field

from mcp_server_claude import number_formatting
from mcp_server_claude.errors import RequestError
from mcp_server_claude.lone_surrogates import replace_lone_surrogates
from mcp_server_claude.server import job_progress_reports, job_results, tool_results
from mcp_server_claude.server.client_quirks import max_wait_s
from mcp_server_claude.server.panel.panel_tool import PANEL_META
from mcp_server_claude.server.progress_notifications import progress_reporter
from mcp_server_claude.server.strict_tool import RESULT_META, StrictTool
from mcp_server_claude.server.tool_dependencies import CallerDep, ServicesDep

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcp_server_claude.call_types import OutputFile
    from mcp_server_claude.calls.running_calls import CallSnapshot
    from mcp_server_claude.calls.thread_transcripts import ThreadTranscript
    from mcp_server_claude.services.service_access import ServiceAccess
    from mcp_server_claude.store.call_journal import JournaledCall
    from mcp_server_claude.store.thread_messages import Thread, ThreadMessage

MAX_PROMPT_HEAD_CHARS = 60
THREAD_ID_PREFIX, JOB_ID_PREFIX = "t_", "j_"
JOB_STOP_TIMEOUT_S = 5.0
"""Seconds that a job is given to stop, which another process may be running."""


async def claude_jobs(
    id: Annotated[str, Field(description="Id of a job (j_…), call (c_…) or thread (t_…). Empty: lists.")] = "",  # noqa: A002
    wait: Annotated[float, Field(description="Seconds to wait for its end.", ge=0, le=3600)] = 0,
    cancel: Annotated[bool, Field(description="Stop it. The text so far is kept and returned.")] = False,  # noqa: FBT002
    *,
    services: ServicesDep,
    caller: CallerDep,
) -> CallToolResult:
    """List jobs and the latest calls, incomplete ones first, or read one by its id: its text so far and its cost.

    Use it after a call timed out or was cancelled, or while it runs: no text is lost.
    """
    jobs, background = services.calls, services.jobs
    await services.close_orphans()
    name, user = id.strip(), caller.user.name
    limit = services.settings.inline_limit(client_truncates=caller.truncates_results)
    if not name:
        if cancel:
            raise RequestError("cancel needs the id of a job or a call.")
        return await _list_all(services, user)
    if name.startswith(JOB_ID_PREFIX):
        if cancel:
            await background.stop_job(name, user)
            await background.wait_for_job(name, user, JOB_STOP_TIMEOUT_S)
        if wait:
            seconds = min(wait, max_wait_s(caller.traits))
            await job_progress_reports.wait_for_job(background, name, caller, services.settings, seconds)
        snapshot = await background.read_job(name, user)
        if snapshot.is_single and snapshot.call_id:
            files = await services.output_files.files_of_call(snapshot.call_id, user)
            read = await jobs.read_call(snapshot.call_id, user)
            return _call_result(read, files, limit, job_id=name)
        return await job_results.job_result(background, snapshot)
    if name.startswith(THREAD_ID_PREFIX):
        transcript = await services.threads.read_transcript(name, user)
        content = tool_results.truncate_text(
            transcript_markdown(transcript), f"claude://threads/{name}", limit, "conversation"
        )
        line = TextContent(
            type="text", text=f"[{name} · {number_formatting.format_count(len(transcript.turns), 'turn')}]"
        )
        return CallToolResult(content=[*content, line])
    if cancel:
        await jobs.stop_and_wait(name, user)
    if wait:
        await jobs.read_call(name, user)  # no client waits for a call of another user
        async with progress_reporter(
            caller.send_progress, caller.style, services.settings
        ):  # heartbeats: a silent call is given up
            await jobs.wait_until_done(name, min(wait, max_wait_s(caller.traits)))
    files = await services.output_files.files_of_call(name, user)
    return _call_result(await jobs.read_call(name, user), files, limit)


async def _list_all(services: ServiceAccess, user: str) -> CallToolResult:
    jobs = await services.jobs.latest_jobs(user)
    calls = await services.calls.latest_calls(user)
    threads = await services.threads.latest_threads(user)
    tables = [job_results.jobs_table(jobs)] if jobs else []
    tables += [_calls_table(calls)] if calls else []
    tables += [_threads_table(threads)] if threads else []
    return tool_results.text_result(*(tables or ["No calls yet."]))


def jobs_tool() -> StrictTool:
    """The tool as clients see it."""
    return StrictTool.for_function(
        claude_jobs,
        title="Claude: calls and their text",
        annotations=ToolAnnotations(
            title="Claude jobs",
            read_only_hint=False,
            destructive_hint=False,
            idempotent_hint=True,
            open_world_hint=False,
        ),
        meta=RESULT_META
        | PANEL_META
        | {"anthropic/searchHint": "claude call job result timed out cancelled read again"},
    )


def _calls_table(records: Sequence[JournaledCall]) -> str:
    rows = [
        (
            record.id,
            f"{datetime.fromtimestamp(record.started_at, UTC):%m-%d %H:%M}",
            "running" if record.state == "open" else record.end or "?",
            record.model or "-",
            number_formatting.format_tokens(record.chars),
            record.prompt_head[:MAX_PROMPT_HEAD_CHARS]
            + ("…" if len(record.prompt_head) > MAX_PROMPT_HEAD_CHARS else ""),
        )
        for record in records
    ]
    return tool_results.markdown_table(("id", "started (UTC)", "state", "model", "characters", "prompt"), rows)


def _threads_table(threads: Sequence[Thread]) -> str:
    rows = [
        (
            each.id,
            f"{datetime.fromtimestamp(each.touched_at, UTC):%m-%d %H:%M}",
            each.model,
            each.head[:MAX_PROMPT_HEAD_CHARS],
        )
        for each in threads
    ]
    return tool_results.markdown_table(("thread", "latest (UTC)", "model", "first question"), rows)


def transcript_markdown(conversation: ThreadTranscript) -> str:
    """A conversation as Markdown: who said what. Of files the names; thinking and tools' results are left out."""
    parts = [
        f"## {'Question' if turn.role == 'user' else 'Answer'}\n\n{_message_text(turn)}" for turn in conversation.turns
    ]
    return "\n\n".join(parts) or "(nothing yet)"


def _message_text(turn: ThreadMessage) -> str:
    from mcp_server_claude.calls.thread_transcripts import render_answer
    from mcp_server_claude.files import summarize_files  # neither before the client's handshake is answered

    if turn.role == "assistant":
        return render_answer(turn)
    texts = [str(block.get("text") or "") for block in turn.content if block.get("type") == "text"]
    files = [f"[{each.kind}: {each.name}]\n" for each in summarize_files(turn.content[:-1])]  # the text comes last
    return "".join((*files, "\n" if files else "", *texts[-1:]))


def _no_text_note(record: JournaledCall) -> str:
    """The note for a call without text. A complete call had one, and it was deleted."""
    return "(the text is no longer kept)" if record.end == "complete" else "(no text)"


def _call_result(
    snapshot: CallSnapshot, files: Sequence[OutputFile], limit: int | None, *, job_id: str = ""
) -> CallToolResult:
    """The text, a line on its state, links to the files it made, and the usage if there is one."""
    record = snapshot.record
    state = "running" if record.state == "open" else record.end or "?"
    name = f"{job_id} · {record.id}" if job_id else record.id
    line = f"[{name} · {state} · {number_formatting.format_tokens(len(snapshot.text))} characters]"
    content = tool_results.truncate_text(snapshot.text or _no_text_note(record), f"claude://calls/{record.id}", limit)
    content += [TextContent(type="text", text=line), *map(tool_results.file_resource_link, files)]
    if record.end != "complete":
        why = "it is still being written. Ask again with wait=50." if record.state == "open" else record.incomplete
        content.append(TextContent(type="text", text=replace_lone_surrogates(f"INCOMPLETE: {why}")))
    meta = tool_results.files_meta(files)
    if record.usage is not None:
        meta[tool_results.USAGE_KEY] = dict(record.usage)
    return CallToolResult(content=content, _meta=meta or None)
