"""`mcp-server-claude jobs`: list, show, wait for, cancel and resume background jobs, and get their output."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import typer

from mcp_server_claude import exit_codes, number_formatting
from mcp_server_claude.cli import job_display, shell_call, terminal_output
from mcp_server_claude.cli.call_options import JsonOption, QuietOption
from mcp_server_claude.cli.command_group import subcommand_group
from mcp_server_claude.cli.markdown_stream import without_control_characters
from mcp_server_claude.errors import RequestError
from mcp_server_claude.server.tools.jobs import JOB_STOP_TIMEOUT_S
from mcp_server_claude.users.user import LOCAL

if TYPE_CHECKING:
    from mcp_server_claude.jobs.job_snapshot import JobSnapshot
    from mcp_server_claude.services.lazy_services import Services

MAX_TITLE_CHARS = 60
UserOption: TypeAlias = Annotated[str, typer.Option(metavar="NAME", help="The jobs of this user.")]
JobArgument: TypeAlias = Annotated[str, typer.Argument(metavar="ID", help="The id of a job (j_…).")]

app = subcommand_group("List, show, wait for, cancel and resume background jobs, and get their output.")


@app.command("list")
def list_jobs(
    number: Annotated[int, typer.Option("--number", "-n", min=1, max=10_000, help="Maximum number of rows.")] = 20,
    user: UserOption = LOCAL.name,
    *,
    as_json: JsonOption = False,
) -> None:
    """List the latest jobs with their progress and cost."""
    shell_call.run_with_services(partial(_list, user=user.strip().lower(), number=number, as_json=as_json))


@app.command("show")
def show_job(job: JobArgument, user: UserOption = LOCAL.name, *, as_json: JsonOption = False) -> None:
    """Print the state of a job: its progress, cost and failures. Exit code 1 unless it is complete."""
    work = partial(_show, job_id=job.strip(), user=user.strip().lower(), as_json=as_json)
    raise typer.Exit(shell_call.run_with_services(work))


@app.command("wait")
def wait_for_job_end(
    job: JobArgument,
    user: UserOption = LOCAL.name,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0, metavar="SECONDS", help="Maximum wait; 0 for no limit.")
    ] = 0.0,
    *,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Wait for the end of a job, and run it if no server does. Exit code 1 unless it is complete.

    Ctrl-C ends the wait; the job stays open for the next server, or the next wait.
    """
    work = partial(
        _wait_and_print,
        job_id=job.strip(),
        user=user.strip().lower(),
        seconds=timeout or math.inf,
        as_json=as_json,
        quiet=quiet,
    )
    raise typer.Exit(shell_call.run_with_services(work))


@app.command("resume")
def resume_job(
    job: JobArgument, user: UserOption = LOCAL.name, *, as_json: JsonOption = False, quiet: QuietOption = False
) -> None:
    """Ask again for the items that failed, were stopped, or are missing. Ctrl-C stops the job."""
    work = partial(_resume, job_id=job.strip(), user=user.strip().lower(), as_json=as_json, quiet=quiet)
    raise typer.Exit(shell_call.run_with_services(work))


@app.command("cancel")
def cancel_job(job: JobArgument, user: UserOption = LOCAL.name) -> None:
    """Stop a job, also in another process, and keep the answers so far."""
    raise typer.Exit(
        shell_call.run_with_services(partial(_stop_and_print, job_id=job.strip(), user=user.strip().lower()))
    )


@app.command("output")
def print_output(
    job: JobArgument,
    form: Annotated[
        Literal["jsonl", "csv"], typer.Option("--format", help="Lines of JSON, or CSV. A single answer is text.")
    ] = "jsonl",
    user: UserOption = LOCAL.name,
) -> None:
    """Print the answers so far of a job, one line per item; for a single question its text."""
    work = partial(_output, job_id=job.strip(), user=user.strip().lower(), as_csv=form == "csv")
    raise typer.Exit(shell_call.run_with_services(work))


async def _list(services: Services, *, user: str, number: int, as_json: bool) -> None:
    snapshots = await services.jobs.latest_jobs(user, number)
    if as_json:
        typer.echo(json.dumps([each.as_json() for each in snapshots], indent=2, ensure_ascii=False))
        return
    if not snapshots:
        typer.echo("There are no jobs.")
        return
    head = ("job", "started (UTC)", "state", "model", "answered", "failed", "cost", "prompt")
    terminal_output.print_table(head, [_table_line(each) for each in snapshots], left=len(head))


async def _show(services: Services, *, job_id: str, user: str, as_json: bool) -> int:
    snapshot = await services.jobs.read_job(job_id, user)
    if as_json:
        job_display.print_json(snapshot)
    else:
        typer.echo(_title_line(snapshot))
        job_display.print_summary(snapshot, await services.jobs.failed_items(job_id, user, job_display.MAX_FAILURES))
    return 0 if snapshot.state == "complete" else exit_codes.EXIT_INCOMPLETE


async def _wait_and_print(
    services: Services, *, job_id: str, user: str, seconds: float, as_json: bool, quiet: bool
) -> int:
    snapshot = await services.jobs.read_job(job_id, user)
    if not snapshot.is_closed and not services.jobs.can_run(snapshot.record) and not quiet:
        typer.secho(
            "This process cannot answer its items: it has another key, or other directories. Waiting for a server.",
            fg="yellow",
            err=True,
        )
    ended = await job_display.wait_displayed(services, job_id, user, seconds, quiet=quiet)
    if ended is None:
        return exit_codes.EXIT_INTERRUPTED
    return await _print_end(services, ended, as_json=as_json, quiet=quiet)


async def _resume(services: Services, *, job_id: str, user: str, as_json: bool, quiet: bool) -> int:
    snapshot = await services.jobs.resume_job(job_id, user)
    if not snapshot.is_closed and not services.jobs.can_run(snapshot.record):
        raise RequestError("This process cannot answer its items. Run it with the key and in the directory of the job.")
    ended, interrupted = await job_display.run_job(services, job_id, user, quiet=quiet)
    code = await _print_end(services, ended, as_json=as_json, quiet=quiet)
    return exit_codes.EXIT_INTERRUPTED if interrupted else code


async def _print_end(services: Services, snapshot: JobSnapshot, *, as_json: bool, quiet: bool) -> int:
    record = snapshot.record
    if as_json:
        job_display.print_json(snapshot)
    if not quiet:
        failures = await services.jobs.failed_items(record.id, record.user, job_display.MAX_FAILURES)
        job_display.print_summary(snapshot, failures)
    return await job_display.job_exit_code(services, snapshot)


async def _stop_and_print(services: Services, *, job_id: str, user: str) -> int:
    await services.jobs.read_job(job_id, user)
    if not await services.jobs.stop_job(job_id, user):
        typer.echo(f"{job_id} was not running.")
        return 0
    snapshot = await services.jobs.wait_for_job(job_id, user, JOB_STOP_TIMEOUT_S)
    typer.echo(f"{job_id} is {'stopping' if not snapshot.is_closed else snapshot.state}.")
    return 0


async def _output(services: Services, *, job_id: str, user: str, as_csv: bool) -> int:
    snapshot = await services.jobs.read_job(job_id, user)
    if not snapshot.is_single:
        is_read = await job_display.write_pages(services.jobs.output_pages(job_id, user, as_csv=as_csv))
        return 0 if is_read else exit_codes.EXIT_INCOMPLETE
    if snapshot.call_id:
        typer.echo(without_control_characters((await services.calls.read_call(snapshot.call_id, user)).text))
    return 0


def _table_line(snapshot: JobSnapshot) -> tuple[str, ...]:
    record, progress = snapshot.record, snapshot.progress
    title = without_control_characters(record.title)
    return (
        record.id,
        f"{datetime.fromtimestamp(record.created_at, UTC):%Y-%m-%d %H:%M}",
        snapshot.state,
        record.model or "-",
        f"{progress.done:,} of {progress.items:,}",
        f"{progress.failed:,}",
        number_formatting.format_usd(snapshot.cost_usd),
        title[:MAX_TITLE_CHARS] + ("…" if len(title) > MAX_TITLE_CHARS else ""),
    )


def _title_line(snapshot: JobSnapshot) -> str:
    record = snapshot.record
    return without_control_characters(f"{record.tool}, {record.model or 'default model'}: {record.title}")
