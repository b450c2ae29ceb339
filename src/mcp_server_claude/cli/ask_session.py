"""The run of one question of `mcp-server-claude ask`: its call, its display, its result and exit code."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, cast

import typer

from mcp_server_claude import exit_codes, number_formatting
from mcp_server_claude.cli import job_display, local_files, shell_call, terminal_output
from mcp_server_claude.cli.answer_display import MarkdownDisplay, PlainDisplay, SilentDisplay
from mcp_server_claude.cli.command_line import pasteable_command
from mcp_server_claude.cli.markdown_stream import without_control_characters
from mcp_server_claude.cli.short_schema import parse_schema_option
from mcp_server_claude.cli.spending_prompt import confirm_cost
from mcp_server_claude.files import url_references
from mcp_server_claude.services.open_services import file_policy_for

if TYPE_CHECKING:
    from mcp_server_claude.call_types import Call, Effort, ToolName
    from mcp_server_claude.cli.answer_display import AnswerDisplay
    from mcp_server_claude.cli.call_options import AskOptions
    from mcp_server_claude.cli.shell_call import CallResult
    from mcp_server_claude.services.lazy_services import Services

CODE_BLOCK = re.compile(
    r"^[ \t]*(?P<fence>`{3,}|~{3,})[^\n]*\n(?P<code>.*?)^[ \t]*(?P=fence)[`~]*[ \t]*$", re.DOTALL | re.MULTILINE
)


def run_question(options: AskOptions) -> int:
    """Ask, print the result; the exit code."""
    return shell_call.run_with_services(partial(_ask, options=options))


async def _ask(services: Services, options: AskOptions) -> int:
    call = await _build_call(services, options)
    if options.dry_run:
        await _print_estimate(services, call)
        return 0
    await confirm_cost(
        services.settings,
        partial(services.threads.estimate_call_cost, call),
        max_usd=call.max_usd,
        approved=options.approved,
    )
    if options.batch:
        return await _wait_for_batch(services, call, options)
    result = await shell_call.run_displayed(services, call, _display(options))
    if result.reply is None:
        return _print_interrupted(result, options)
    return _print_result(result, options)


async def _build_call(services: Services, options: AskOptions) -> Call:
    files = local_files.named_files(options.files, file_policy_for(services.settings))
    prompt = options.prompt
    if (piped := local_files.read_stdin()).strip():
        text = None if prompt.strip() else local_files.stdin_text(piped)
        if text is None:
            files.append(url_references.data_uri(local_files.STDIN_NAME, piped))
        else:
            prompt = text
    return await shell_call.build_shell_call(
        "ask",
        prompt=prompt,
        model=options.model,
        effort=cast("Effort", options.effort),
        system=options.system,
        max_tokens=options.max_tokens,
        max_usd=options.max_usd,
        files=files,
        schema=parse_schema_option(options.schema) if options.schema.strip() else None,
        tools=cast("list[ToolName]", options.tools),
        thread=await shell_call.find_thread(services, options.thread, continues=options.continues),
        batch=options.batch,
    )


async def _wait_for_batch(services: Services, call: Call, options: AskOptions) -> int:
    """Send the question in a batch, wait for its answer, and print that."""
    job_id = (await services.jobs.start_ask(call)).record.id
    snapshot = await job_display.wait_displayed(services, job_id, call.user, quiet=options.quiet)
    if snapshot is None:
        return job_display.exit_from_batch(job_id)
    if options.as_json:
        job_display.print_json(snapshot)
    else:
        for item in await services.jobs.read_items(job_id, call.user, 0, 1):
            typer.echo(without_control_characters(item.text) if sys.stdout.isatty() else item.text)
    if not options.quiet:
        job_display.print_summary(
            snapshot, await services.jobs.failed_items(job_id, call.user, job_display.MAX_FAILURES)
        )
    return await job_display.job_exit_code(services, snapshot)


def _display(options: AskOptions) -> AnswerDisplay:
    if options.as_json or options.code_only or options.schema.strip():
        return SilentDisplay(status=not options.quiet)
    return MarkdownDisplay(status=not options.quiet) if sys.stdout.isatty() else PlainDisplay()


def _print_result(result: CallResult, options: AskOptions) -> int:
    reply = result.reply
    assert reply is not None  # noqa: S101 - the caller has handled an interrupted call
    code = exit_codes.EXIT_INCOMPLETE if reply.incomplete else 0
    if options.as_json:
        typer.echo(json.dumps(_result_json(result), ensure_ascii=False, indent=2))
        return code
    if options.code_only:
        found = CODE_BLOCK.search(reply.text)
        if found is None:
            hint = f" To see it: {pasteable_command('threads', 'show', result.thread)}" if result.thread else ""
            typer.secho(f"The answer has no code block.{hint}", fg="red", err=True)
            return exit_codes.EXIT_INCOMPLETE
        typer.echo(found["code"], nl=False)
    elif options.schema.strip():
        typer.echo(reply.text)
    if reply.incomplete:
        typer.secho(f"INCOMPLETE: {without_control_characters(reply.incomplete)}", fg="yellow", err=True)
    if not options.quiet:
        shell_call.print_footer(reply)
        for file in reply.files:
            typer.secho(f"file {file.id}: {without_control_characters(file.name)}", dim=True, err=True)
    return code


def _print_interrupted(result: CallResult, options: AskOptions) -> int:
    if options.as_json:
        typer.echo(json.dumps({"text": result.text, "call_id": result.call.id, "interrupted": True}, indent=2))
    elif not options.quiet:
        shell_call.print_interrupted(result)
    return exit_codes.EXIT_INTERRUPTED


def _result_json(result: CallResult) -> dict[str, object]:
    """The result for programs: the text, the data of a schema, and the usage with the same fields as over MCP."""
    reply = result.reply
    assert reply is not None  # noqa: S101 - the caller has handled an interrupted call
    value: dict[str, object] = {"text": reply.text}
    if reply.structured_output is not None:
        value["data"] = reply.structured_output.value
    if reply.incomplete:
        value["incomplete"] = reply.incomplete
    if reply.citations:
        value["citations"] = [asdict(citation) for citation in reply.citations]
    if reply.files:
        value["files"] = [asdict(file) for file in reply.files]
    return value | {"usage": dict(reply.usage.as_json())}


async def _print_estimate(services: Services, call: Call) -> None:
    estimates = await services.threads.estimate_call_cost(call)
    rows = [
        (
            each.variant,
            each.model,
            ("at most " if each.estimated else "") + number_formatting.format_tokens(each.input_tokens),
            number_formatting.format_usd(each.input_usd),
            number_formatting.format_usd(each.typical_usd),
            number_formatting.format_usd(each.max_usd),
        )
        for each in estimates
    ]
    header = ("way", "model", "input tokens", "input", "short answer", "longest answer")
    terminal_output.print_table(header, rows, left=2)
