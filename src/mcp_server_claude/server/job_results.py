"""Results of tools about jobs: the list, the note that one has started, and the digest of one with many items."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from mcp.types import CallToolResult, ResourceLink, TextContent

from mcp_server_claude import number_formatting
from mcp_server_claude.lone_surrogates import replace_lone_surrogates
from mcp_server_claude.server import tool_results

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcp_server_claude.jobs.background_jobs import BackgroundJobs
    from mcp_server_claude.jobs.job_snapshot import JobSnapshot
    from mcp_server_claude.store.job_items import ItemRecord

JOB_KEY = "mcp-server-claude/job"
MAX_TITLE_CHARS = 60
DIGEST_ITEMS = 3
"""Answers that a digest shows."""
MAX_DIGEST_FAILURES = 5
MAX_DIGEST_ANSWER_CHARS = 500


def started_result(snapshot: JobSnapshot) -> CallToolResult:
    """The result of a call that continues in the background."""
    job_id = snapshot.record.id
    text = (
        f'Job {job_id} has started. claude_jobs(id="{job_id}", wait=50) returns the answer, or as much as there is by '
        "then. It continues without this client, and after a restart of the server."
        f"{' A batch takes up to 24 hours, most less than one.' if snapshot.record.batch else ''}"
    )
    return CallToolResult(content=[_text_block(text)], _meta={JOB_KEY: snapshot.as_json()})


def jobs_table(snapshots: Sequence[JobSnapshot]) -> str:
    """The jobs as a Markdown table."""
    rows = [
        (
            each.record.id,
            f"{datetime.fromtimestamp(each.record.created_at, UTC):%m-%d %H:%M}",
            each.state,
            f"{each.progress.finished} of {each.progress.items}"
            + (f", {each.progress.failed} failed" if each.progress.failed else ""),
            number_formatting.format_usd(each.cost_usd),
            each.record.model or "-",
            each.record.title[:MAX_TITLE_CHARS] + ("…" if len(each.record.title) > MAX_TITLE_CHARS else ""),
        )
        for each in snapshots
    ]
    return tool_results.markdown_table(("job", "started (UTC)", "state", "items", "cost", "model", "prompt"), rows)


async def job_result(jobs: BackgroundJobs, snapshot: JobSnapshot) -> CallToolResult:
    """The digest of a job: counts, failures with their reasons, cost, the place of the answers, and the first of them.

    Raises:
        ConfigurationError: The items could not be read.
    """
    record, progress = snapshot.record, snapshot.progress
    failures = await jobs.failed_items(record.id, record.user, MAX_DIGEST_FAILURES)
    if snapshot.is_single:
        return _single_without_call(snapshot, failures)
    first = await jobs.read_items(record.id, record.user, 0, DIGEST_ITEMS)
    lines = [_counts_line(snapshot)]
    if record.reason:
        lines.append(f"Stopped: {record.reason}")
    lines += [_failure_line(item) for item in failures]
    unshown = progress.failed + progress.incomplete - len(failures)
    if unshown > 0:
        lines.append(f"… and {unshown} more.")
    answer_lines = [_answer_line(item) for item in first if item.state == "done"]
    if answer_lines:
        lines += ["", f"The first {len(answer_lines)}:", *answer_lines]
    content: list[TextContent | ResourceLink] = [_text_block("\n".join(lines))]
    if progress.done:
        is_written = bool(record.output_digest) and snapshot.is_closed
        where = f"The answers, one line an item: {record.output}" if is_written else ""
        content.append(_text_block(where or f"The answers so far: {output_address(record.id)}"))
        content.append(
            ResourceLink(
                type="resource_link",
                uri=output_address(record.id),
                name=f"{record.id}.jsonl",
                mime_type="application/x-ndjson",
            )
        )
    if not snapshot.is_closed:
        content.append(_text_block(f'INCOMPLETE: it is still running. claude_jobs(id="{record.id}", wait=50) waits.'))
    elif snapshot.state != "complete":
        content.append(_text_block("INCOMPLETE: the same call of claude_map asks only for the missing items."))
    return CallToolResult(content=[*content], _meta={JOB_KEY: snapshot.as_json()})


def output_address(job_id: str) -> str:
    """The resource with the answers of a job."""
    return f"claude://jobs/{job_id}/output"


def _single_without_call(snapshot: JobSnapshot, failures: Sequence[ItemRecord]) -> CallToolResult:
    """The result of a question that has not been sent: it waits, or it could not be sent."""
    record = snapshot.record
    reason = str((failures[0].error or {}).get("message", "")) if failures else ""
    if snapshot.is_closed:
        text = reason or record.reason or "It was stopped before it was sent."
        return CallToolResult(
            content=[_text_block(f"{text} [{record.id}]")], is_error=True, _meta={JOB_KEY: snapshot.as_json()}
        )
    line = _text_block(f"[{record.id} · waiting]")
    state = "it is in a batch, which takes up to 24 hours" if record.batch else "it has not been sent yet"
    why = _text_block(f'INCOMPLETE: {state}. claude_jobs(id="{record.id}", wait=50) waits for it.')
    return CallToolResult(content=[_text_block("(no text)"), line, why], _meta={JOB_KEY: snapshot.as_json()})


def _counts_line(snapshot: JobSnapshot) -> str:
    progress = snapshot.progress
    parts = [f"{snapshot.record.id}: {snapshot.state}", f"{progress.done} of {progress.items} answered"]
    for count, word in (
        (progress.incomplete, "of them cut"),
        (progress.failed, "failed"),
        (progress.cancelled, "not asked"),
        (progress.running, "running"),
        (progress.todo, "waiting"),
        (progress.interruptions, "interrupted and asked again"),
    ):
        if count:
            parts.append(f"{count} {word}")
    parts.append(number_formatting.format_usd(snapshot.cost_usd))
    return " · ".join(parts)


def _failure_line(item: ItemRecord) -> str:
    reason = item.note or str((item.error or {}).get("message", ""))
    return f"- item {item.seq}: {reason}"


def _answer_line(item: ItemRecord) -> str:
    text = item.text if len(item.text) <= MAX_DIGEST_ANSWER_CHARS else f"{item.text[:MAX_DIGEST_ANSWER_CHARS]}…"
    return f"- item {item.seq}: {text if item.is_json else json.dumps(text, ensure_ascii=False)}"


def _text_block(text: str) -> TextContent:
    return TextContent(type="text", text=replace_lone_surrogates(text))
