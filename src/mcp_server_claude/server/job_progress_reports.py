"""Progress while a client waits for a job: the answer as it is written, or the items that are done."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from mcp_server_claude import number_formatting
from mcp_server_claude.call_types import TextDelta
from mcp_server_claude.server.progress_notifications import progress_reporter

if TYPE_CHECKING:
    from mcp_server_claude.calls.running_call import RunningCall
    from mcp_server_claude.jobs.background_jobs import BackgroundJobs
    from mcp_server_claude.jobs.job_snapshot import JobSnapshot
    from mcp_server_claude.server.tool_dependencies import Caller
    from mcp_server_claude.settings import Settings

ITEM_REPORT_INTERVAL_S = 0.5
"""Seconds between two notifications on items at least."""
PROGRESS_STEP = 1e-6
"""Progress must increase strictly, also while no item ends."""


async def wait_for_job(jobs: BackgroundJobs, job_id: str, caller: Caller, settings: Settings, seconds: float) -> None:
    """Wait until a job is closed, at most so many seconds, with progress.

    Raises:
        RequestError: This user has no such job.
        ConfigurationError: It could not be read.
    """
    snapshot = await jobs.read_job(job_id, caller.user.name)
    if snapshot.is_single:
        await _wait_for_answer(jobs, job_id, caller, settings, seconds)
    else:
        await _wait_for_items(jobs, snapshot, caller, settings, seconds)


async def _wait_for_answer(
    jobs: BackgroundJobs, job_id: str, caller: Caller, settings: Settings, seconds: float
) -> None:
    """Wait with the text as progress, from its beginning, if the call runs in this process; else with heartbeats."""
    followed: RunningCall | None = None
    async with progress_reporter(caller.send_progress, caller.style, settings) as progress:

        def follow(_: JobSnapshot) -> None:
            nonlocal followed
            running = jobs.running_call(job_id)
            if running is None or followed is not None:
                return
            followed = running
            if running.text.chars:
                progress.queue_event(TextDelta(running.text.slice(0)))
            running.listeners.append(progress.queue_event)

        try:
            await jobs.wait_for_job(job_id, caller.user.name, seconds, follow)
        finally:
            if followed is not None:
                followed.listeners.remove(progress.queue_event)


async def _wait_for_items(
    jobs: BackgroundJobs, snapshot: JobSnapshot, caller: Caller, settings: Settings, seconds: float
) -> None:
    """Wait with the number of finished items as progress."""
    report = ItemReport(snapshot)
    deadline, sent_at = time.monotonic() + seconds, 0.0
    while True:
        now = time.monotonic()
        if report.has_news(snapshot) or now - sent_at >= settings.heartbeat_s:
            await caller.send_progress(report.next_value(snapshot), report.line(snapshot), snapshot.progress.items)
            sent_at = now
        if snapshot.is_closed or now >= deadline:
            return
        pause = min(ITEM_REPORT_INTERVAL_S, deadline - now)
        await jobs.wait_at_most(pause)
        snapshot = await jobs.read_job(snapshot.record.id, caller.user.name)


class ItemReport:
    """The progress of a job, and the time left by the speed since the wait began."""

    def __init__(self, snapshot: JobSnapshot) -> None:
        self._started_at = time.monotonic()
        self._finished_before = snapshot.progress.finished
        self._last_counts: tuple[int, int] | None = None
        self._value = 0.0

    def has_news(self, snapshot: JobSnapshot) -> bool:
        """True if items have ended since the last report."""
        return (snapshot.progress.finished, snapshot.progress.failed) != self._last_counts

    def next_value(self, snapshot: JobSnapshot) -> float:
        """The finished items, a little more each time."""
        self._last_counts = (snapshot.progress.finished, snapshot.progress.failed)
        self._value = max(self._value + PROGRESS_STEP, float(snapshot.progress.finished))
        return self._value

    def line(self, snapshot: JobSnapshot) -> str:
        """One line: items done of all, failures, cost, time left."""
        progress = snapshot.progress
        line = items_status_line(snapshot)
        finished = progress.finished - self._finished_before
        left = progress.items - progress.finished
        if finished and left:
            seconds = (time.monotonic() - self._started_at) / finished * left
            line += f" · {number_formatting.format_seconds(seconds)} left"
        return line


def items_status_line(snapshot: JobSnapshot) -> str:
    """The items done of all, the failures and the cost of a job in one line."""
    progress = snapshot.progress
    parts = [f"{progress.finished} of {progress.items}"]
    if progress.failed:
        parts.append(f"{progress.failed} failed")
    parts.append(number_formatting.format_usd(snapshot.cost_usd))
    return " · ".join(parts)
