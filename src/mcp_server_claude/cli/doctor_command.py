"""`mcp-server-claude doctor`: what works and what does not, with a hint for each problem."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Annotated

import anyio
import typer

from mcp_server_claude.cli import doctor, terminal_output

if TYPE_CHECKING:
    from mcp_server_claude.cli.doctor import Finding

FINDING_MARKS = {True: ("✓", "green"), None: ("!", "yellow"), False: ("✗", "red")}
LABEL_WIDTH = 9
"""Columns of a finding's name."""


def run_doctor(
    *,
    offline: Annotated[bool, typer.Option("--offline", help="Send nothing over the network.")] = False,
    ping: Annotated[
        bool, typer.Option("--ping", help="Also ask Claude for one word, to test a whole call, and print its cost.")
    ] = False,
) -> None:
    """Check the key, the API, the ledger and more, with a hint for each problem.

    Exit code 1 if something keeps the server from working.
    """
    if offline and ping:
        raise typer.BadParameter("it sends a request; leave out --offline.", param_hint="--ping")
    logging.disable()  # the findings say it
    findings = anyio.run(partial(doctor.run_checks, offline=offline, ping=ping))
    for finding in findings:
        _print_finding(finding)
    raise typer.Exit(1 if doctor.has_failures(findings) else 0)


def _print_finding(finding: Finding) -> None:
    mark, color = FINDING_MARKS[finding.ok]
    width, indent = terminal_output.stdout_columns(), LABEL_WIDTH + 3
    typer.secho(mark, fg=color, nl=False)
    label = f" {finding.name:<{LABEL_WIDTH}} "
    typer.echo(terminal_output.wrap_paragraph(finding.text, width - 1, label=label, indent=indent))
    if finding.hint:
        hint = terminal_output.wrap_paragraph(finding.hint, width, label=" " * indent + "→ ", indent=indent)
        typer.secho(hint, fg=color)
