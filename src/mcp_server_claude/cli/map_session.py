"""The run of `mcp-server-claude map`: its items, its job, the answers and the exit code."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import anyio.to_thread
import typer

from mcp_server_claude import exit_codes
from mcp_server_claude.cli import job_display, local_files, shell_call, terminal_output
from mcp_server_claude.cli.markdown_stream import without_control_characters
from mcp_server_claude.cli.short_schema import parse_schema_option
from mcp_server_claude.cli.spending_prompt import confirm_cost
from mcp_server_claude.errors import RequestError
from mcp_server_claude.files.content_types import TextFile, UnsupportedFile, detect_content
from mcp_server_claude.files.item_sources import TABLE_ENDINGS, read_item_source
from mcp_server_claude.jobs.job_snapshot import MAP_TOOL
from mcp_server_claude.jobs.map_jobs import MapRequest
from mcp_server_claude.services.open_services import file_policy_for
from mcp_server_claude.users.user import LOCAL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcp_server_claude.call_types import Effort
    from mcp_server_claude.cli.call_options import MapOptions
    from mcp_server_claude.files import FilePolicy
    from mcp_server_claude.jobs.background_jobs import BackgroundJobs
    from mcp_server_claude.jobs.map_estimates import MapEstimate
    from mcp_server_claude.services.lazy_services import Services

STDIN_ARGUMENT = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemArguments:
    """The items of a request: values, a glob or a table in `items`, or the paths of files."""

    items: Sequence[object] = ()
    files: Sequence[str] = ()


def run_map(options: MapOptions) -> int:
    """Have the items answered, print the answers; the exit code."""
    return shell_call.run_with_services(partial(_map, options=options))


async def _map(services: Services, options: MapOptions) -> int:
    request = await _build_request(services, options)
    jobs = services.jobs
    if options.dry_run:
        await _print_map_estimate(jobs, request, as_json=options.as_json)
        return 0

    async def variants() -> Sequence[MapEstimate]:
        return (await jobs.estimate_map(request)).variants

    await confirm_cost(services.settings, variants, max_usd=request.max_usd, approved=options.approved)
    job_id = (await jobs.start_map(request)).record.id
    if options.batch:
        waited = await job_display.wait_displayed(services, job_id, LOCAL.name, quiet=options.quiet)
        if waited is None:
            return job_display.exit_from_batch(job_id)
        snapshot, interrupted = waited, False
    else:
        snapshot, interrupted = await job_display.run_job(services, job_id, LOCAL.name, quiet=options.quiet)
    is_read = True
    if options.as_json:
        job_display.print_json(snapshot)
    elif not options.output and not interrupted:
        is_read = await job_display.write_pages(jobs.output_pages(job_id, LOCAL.name))
    if not options.quiet:
        job_display.print_summary(snapshot, await jobs.failed_items(job_id, LOCAL.name, job_display.MAX_FAILURES))
    if interrupted:
        return exit_codes.EXIT_INTERRUPTED
    return await job_display.job_exit_code(services, snapshot) or (0 if is_read else exit_codes.EXIT_INCOMPLETE)


async def _build_request(services: Services, options: MapOptions) -> MapRequest:
    policy = file_policy_for(services.settings)
    directory = local_files.working_directory()
    arguments = await anyio.to_thread.run_sync(partial(item_arguments, options.sources, directory, policy))
    template = await shell_call.build_shell_call(
        MAP_TOOL,
        prompt=options.prompt,
        model=options.model,
        effort=cast("Effort", options.effort),
        system=options.system,
        schema=parse_schema_option(options.schema) if options.schema.strip() else None,
        batch=options.batch,
    )
    return MapRequest(
        template=template,
        items=arguments.items,
        files=arguments.files,
        output=options.output.strip() or None,
        max_usd=options.max_usd,
    )


def item_arguments(sources: Sequence[str], directory: Path, policy: FilePolicy) -> ItemArguments:
    """The items that the arguments name, or the lines of stdin without any.

    Raises:
        RequestError: There are none, an argument is neither a file nor a glob, or the input on stdin is not text.
    """
    if not sources or list(sources) == [STDIN_ARGUMENT]:
        items = [_line_item(line) for line in _stdin_lines() if line.strip()]
        if not items:
            raise RequestError("There are no items. Name files, a glob or a table, or pipe one item a line to stdin.")
        return ItemArguments(items=items)
    paths = [directory / Path(source).expanduser() for source in sources]
    if len(sources) == 1 and sources[0].lower().endswith(TABLE_ENDINGS) and not _is_glob(sources[0], paths[0]):
        return ItemArguments(items=_table_items(sources[0], paths[0], policy))
    local_files.check_has_root(policy)
    if len(sources) == 1 and _is_glob(sources[0], paths[0]):
        return ItemArguments(items=list(sources))
    missing = next((source for source, path in zip(sources, paths, strict=True) if not path.is_file()), None)
    if missing is not None:
        raise RequestError(
            f"There is no file {missing!r}. Items are files, one glob, one .jsonl, .csv or .tsv file, or the lines of "
            "stdin.",
            kind="not_found",
        )
    return ItemArguments(files=[str(path) for path in paths])


def _stdin_lines() -> Sequence[str]:
    """The lines of stdin, numbered as editors do.

    Raises:
        RequestError: It is not text.
    """
    match detect_content(local_files.read_stdin()):
        case TextFile() as text:
            return text.lines()
        case UnsupportedFile(description="empty"):
            return ()
        case UnsupportedFile(description=description):
            raise RequestError(f"The input on stdin is {description}. Items are lines of text.")
        case _:
            raise RequestError("The input on stdin is a PDF or an image. Name it as a file instead.")


def _is_glob(source: str, path: Path) -> bool:
    return any(character in source for character in local_files.GLOB_CHARACTERS) and not path.is_file()


def _table_items(source: str, path: Path, policy: FilePolicy) -> Sequence[object]:
    """A table for the job to read, or its rows where it lies outside of the working directory."""
    resolved = path.resolve()
    if not resolved.is_file() or any(resolved.is_relative_to(root) for root in policy.roots):
        return [source]
    rows = read_item_source(resolved.name, replace(policy, roots=(resolved.parent,)))
    return [row.get("row", row.get("item")) for row in rows]


def _line_item(line: str) -> object:
    """A line as an item: the fields of a JSON object, any other line as it is."""
    if line.lstrip().startswith("{"):
        try:
            value: object = json.loads(line)
        except (ValueError, RecursionError):
            return line
        return cast("object", value) if isinstance(value, dict) else line
    return line


async def _print_map_estimate(jobs: BackgroundJobs, request: MapRequest, *, as_json: bool) -> None:
    estimates = await jobs.estimate_map(request)
    if as_json:
        typer.echo(json.dumps(estimates.as_json(), indent=2, ensure_ascii=False))
        return
    header, *rows = estimates.table()
    terminal_output.print_table(header, rows, left=2)
    for note in estimates.notes():
        typer.echo(without_control_characters(note))
