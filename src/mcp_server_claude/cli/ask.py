"""`mcp-server-claude ask`: one question, its answer streamed to the terminal or into a pipe."""

from __future__ import annotations

from typing import Annotated

import typer

from mcp_server_claude.cli.call_options import (
    ApprovedOption,
    AskOptions,
    BatchOption,
    ContinueOption,
    EffortOption,
    FileOption,
    JsonOption,
    MaxTokensOption,
    MaxUsdOption,
    ModelOption,
    QuietOption,
    SchemaOption,
    SystemOption,
    ThreadOption,
    ToolOption,
)


def ask_question(
    prompt: Annotated[list[str] | None, typer.Argument(metavar="[PROMPT]", help="The question or task.")] = None,
    file: FileOption = [],  # noqa: B006 - typer copies defaults
    system: SystemOption = "",
    model: ModelOption = "",
    effort: EffortOption = "",
    thread: ThreadOption = "",
    schema: SchemaOption = "",
    tool: ToolOption = [],  # noqa: B006 - typer copies defaults
    max_tokens: MaxTokensOption = 0,
    max_usd: MaxUsdOption = 0.0,
    *,
    resume: ContinueOption = False,
    extract: Annotated[
        bool, typer.Option("--extract", "-x", help="Print only the first code block of the answer.")
    ] = False,
    batch: BatchOption = False,
    approved: ApprovedOption = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the price without asking.")] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Ask Claude a question. The answer streams to stdout, a line on tokens and cost to stderr.

    Input on stdin is sent along with the prompt, or is the prompt if there is none:
    `git diff | mcp-server-claude ask "Review this"`.

    Ctrl-C stops the answer and keeps the text so far. Exit codes: 0 a complete answer, 1 an incomplete one, 2 a wrong
    argument, 75 try again later, 78 a missing or wrong configuration, 130 Ctrl-C.
    """
    from mcp_server_claude.cli.ask_session import run_question

    options = AskOptions(
        prompt=" ".join(prompt or []),
        files=file,
        system=system,
        model=model,
        effort=effort,
        continues=resume,
        thread=thread,
        schema=schema,
        code_only=extract,
        tools=[str(each) for each in tool],
        max_tokens=max_tokens,
        max_usd=max_usd,
        batch=batch,
        dry_run=dry_run,
        approved=approved,
        as_json=as_json,
        quiet=quiet,
    )
    raise typer.Exit(run_question(options))
