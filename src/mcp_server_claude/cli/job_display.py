"""A job at the shell: its progress on a terminal, its answers, the line at its end, and its exit code."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from typing import TYPE_CHECKING, Self

import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from mcp_server_claude import exit_codes, number_formatting
from mcp_server_claude.cli import shell_call, terminal_output
from mcp_server_claude.cli.answer_display import FRAMES_PER_S
from mcp_server_claude.cli.markdown_stream import without_control_characters
from mcp_server_claude.server.job_progress_reports import ItemReport
from mcp_server_claude.server.tools.jobs import JOB_STOP_TIMEOUT_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Sequence

    from mcp_server_claude.jobs.job_snapshot import JobSnapshot
    from mcp_server_claude.services.lazy_services import Services
    from mcp_server_claude.store.job_items import ItemRecord

MAX_FAILURES = 5
"""Failed items that are printed with their reason."""
MAX_CODE_ITEMS = 20
"""Items that are searched for the error that stopped a job."""


class JobProgressLine:
    """One line on stderr while a job runs: items done, failures, cost, time left. Nothing if it is no terminal."""

    def __init__(self, snapshot: JobSnapshot, *, quiet: bool) -> None:
        console = Console(stderr=True, highlight=False)
        self._report = ItemReport(snapshot)
        self._text = self._report.line(snapshot)
        self._began = time.monotonic()
        self._live = Live(self, console=console, refresh_per_second=FRAMES_PER_S, transient=True)
        self._is_visible = console.is_terminal and not quiet

    def __enter__(self) -> Self:
        if self._is_visible:
            self._live.start()
        return self

    def __exit__(self, *failure: object) -> None:
        if self._is_visible:
            self._live.stop()

    def show_snapshot(self, snapshot: JobSnapshot) -> None:
        """Take in a new state of the job."""
        self._text = self._report.line(snapshot)

    def __rich__(self) -> Text:
        elapsed = number_formatting.format_seconds(time.monotonic() - self._began)
        return Text(f"{self._text} · {elapsed}", "dim", no_wrap=True)


async def wait_displayed(
    services: Services, job_id: str, user: str, seconds: float = math.inf, *, quiet: bool = False
) -> JobSnapshot | None:
    """Wait until a job is closed, at most so many seconds, with its progress. None if Ctrl-C ended the wait.

    Raises:
        CallError: There is no such job, or it could not be read.
    """
    jobs = services.jobs
    with JobProgressLine(await jobs.read_job(job_id, user), quiet=quiet) as line:
        return await shell_call.run_until_signal(lambda: jobs.wait_for_job(job_id, user, seconds, line.show_snapshot))


async def run_job(services: Services, job_id: str, user: str, *, quiet: bool) -> tuple[JobSnapshot, bool]:
    """Run a job to its end. Ctrl-C stops it and keeps what is answered; the second value is then True.

    Raises:
        CallError: There is no such job, or it could not be read.
    """
    snapshot = await wait_displayed(services, job_id, user, quiet=quiet)
    if snapshot is not None:
        return snapshot, False
    await services.jobs.stop_job(job_id, user)
    return await services.jobs.wait_for_job(job_id, user, JOB_STOP_TIMEOUT_S), True


def exit_from_batch(job_id: str) -> int:
    """Print how to wait for a batch again, which Ctrl-C has left to itself; the exit code."""
    typer.secho(f"[{job_id} continues · mcp-server-claude jobs wait {job_id}]", fg="yellow", err=True)
    return exit_codes.EXIT_INTERRUPTED


async def write_pages(pages: AsyncIterable[bytes]) -> bool:
    """Write the lines of an output to stdout, without control characters on a terminal.

    Returns:
        False if the reader of a pipe, such as head, ended before it had everything.
    """
    plain = sys.stdout.isatty()
    sys.stdout.flush()
    try:
        async for page in pages:
            shown = without_control_characters(page.decode()).encode() if plain else page
            sys.stdout.buffer.write(shown)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True


def print_json(snapshot: JobSnapshot) -> None:
    """Print a job for programs."""
    typer.echo(json.dumps(snapshot.as_json(), indent=2, ensure_ascii=False))


def print_summary(snapshot: JobSnapshot, failures: Sequence[ItemRecord]) -> None:
    """Print the end of a job on stderr: the failures with their reasons, its counts, cost and output."""
    record, progress = snapshot.record, snapshot.progress
    for item in failures:
        reason = item.note or str((item.error or {}).get("message", ""))
        typer.secho(without_control_characters(f"item {item.seq}: {reason}"), fg="yellow", err=True)
    rest = progress.failed + progress.incomplete - len(failures)
    if rest > 0:
        typer.secho(f"… and {rest:,} more", fg="yellow", err=True)
    if record.reason:
        typer.secho(without_control_characters(f"Stopped: {record.reason}"), fg="red", err=True)
    parts = [
        record.id,
        snapshot.state,
        f"{progress.done:,} of {progress.items:,} answered",
        number_formatting.format_usd(snapshot.cost_usd),
    ]
    if record.output and snapshot.is_closed:
        parts.append(record.output)
    terminal_output.print_parts(without_control_characters(f"[{' · '.join(parts)}]").split(" · "))
    if snapshot.is_closed and snapshot.state != "complete" and not snapshot.is_single:
        typer.secho(_how_to_continue(snapshot), dim=True, err=True)


def _how_to_continue(snapshot: JobSnapshot) -> str:
    """The sentence after a job that lacks answers, or whose output could not be written."""
    record, progress = snapshot.record, snapshot.progress
    if progress.done == progress.items and not progress.incomplete:
        return f"The answers are kept: mcp-server-claude jobs output {record.id}"
    return f"To ask again for what is missing: mcp-server-claude jobs resume {record.id}"


async def job_exit_code(services: Services, snapshot: JobSnapshot) -> int:
    """The exit code of a job: 0 if it is complete, that of the error that stopped it if nothing is answered, else 1.

    Raises:
        ConfigurationError: Its items could not be read.
    """
    if snapshot.state == "complete":
        return 0
    if snapshot.progress.done:
        return exit_codes.EXIT_INCOMPLETE
    for item in await services.jobs.read_items(snapshot.record.id, snapshot.record.user, 0, MAX_CODE_ITEMS):
        error = item.error
        if error is None and item.call_id:
            error = (await services.calls.read_call(item.call_id, snapshot.record.user)).record.failure
        if error is not None and "class" in error:
            return exit_codes.stored_error_exit_code(error)
    return exit_codes.EXIT_INCOMPLETE
