"""The end of a job: complete or not, and its trace."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from mcp_server_claude.telemetry.job_spans import record_job_span

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcp_server_claude.store.job_records import JobEnd, JobProgress, JobRecord

_log = logging.getLogger(__name__)


def job_end(job: JobRecord, progress: JobProgress, reason: str) -> JobEnd:
    """The end of a job whose items are all finished. `reason` says why it was stopped or has no output, or is empty."""
    if job.stop_requested and not reason:
        return "cancelled"
    return "complete" if progress.done == progress.items and not progress.incomplete and not reason else "incomplete"


def record_job_end(
    job: JobRecord, progress: JobProgress, end: JobEnd, ended_at: float, traceparents: Sequence[str]
) -> None:
    """Log the end of a job and record its span, linked to those of its calls. Times are unix seconds."""
    _log.info("job %s ended %s: %d of %d items answered", job.id, end, progress.done, progress.items)
    attributes: dict[str, str | int | float] = {
        "job_id": job.id,
        "tool": job.tool,
        "model": job.model,
        "end": end,
        "items": progress.items,
        "items.done": progress.done,
        "items.failed": progress.failed,
        "items.interruptions": progress.interruptions,
        "cost_usd": progress.cost_micros / 1e6,
    }
    record_job_span(
        job.tool,
        attributes,
        traceparents,
        started_at=job.created_at,
        ended_at=ended_at,
        complete=end == "complete",
    )
