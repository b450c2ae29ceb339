"""`mcp-server-claude map`: one prompt over many items, in a job that can be resumed."""

from __future__ import annotations

from typing import Annotated

import typer

from mcp_server_claude.cli.call_options import (
    MAX_USD,
    ApprovedOption,
    BatchOption,
    EffortOption,
    MapOptions,
    ModelOption,
    QuietOption,
    SchemaOption,
    SystemOption,
)


def map_items(
    prompt: Annotated[
        str, typer.Argument(metavar="PROMPT", help="The task. {item}, or {field} of a row, is filled in.")
    ],
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ITEMS]...",
            help="Files or a quoted glob (a file an item), or one .jsonl, .csv or .tsv file (a row an item). None: the "
            "lines of stdin; a line that is a JSON object is a row.",
        ),
    ] = None,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="A .jsonl or .csv file; stdout without it.")
    ] = "",
    system: SystemOption = "",
    model: ModelOption = "",
    effort: EffortOption = "",
    schema: SchemaOption = "",
    max_usd: Annotated[
        float,
        typer.Option(
            "--max-usd",
            min=0,
            max=MAX_USD,
            metavar="USD",
            help="Maximum cost of all items together; 0 for no limit.",
        ),
    ] = 0.0,
    *,
    batch: BatchOption = False,
    approved: ApprovedOption = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the price without asking.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the job as JSON instead of the answers.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Ask the same of many items in parallel, each in a fresh context; the answers come in the order of the items.

    `mcp-server-claude map "Name the license" 'vendor/*/LICENSE'`, or
    `mcp-server-claude map "Translate {text} to French" rows.csv -o french.jsonl`.

    Ctrl-C stops the job and keeps what is answered. The same command again asks only for what is missing. Exit codes:
    0 all answered, 1 some answers missing or cut, 2 a wrong argument, 75 try again later, 78 a missing or wrong
    configuration, 130 Ctrl-C.
    """
    from mcp_server_claude.cli.map_session import run_map

    options = MapOptions(
        prompt=prompt,
        sources=sources or [],
        output=output,
        system=system,
        model=model,
        effort=effort,
        schema=schema,
        max_usd=max_usd,
        batch=batch,
        dry_run=dry_run,
        approved=approved,
        as_json=as_json,
        quiet=quiet,
    )
    raise typer.Exit(run_map(options))
