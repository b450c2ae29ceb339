"""`mcp-server-claude doctor`: what works and what does not, with a hint for each problem."""

from __future__ import annotations

import logging
import shutil
import sys
import textwrap
from functools import partial
from typing import TYPE_CHECKING, Annotated

import anyio
import typer

from mcp_server_claude.cli import doctor

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
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    typer.secho(mark, fg=color, nl=False)
    typer.echo(_with_hanging_indent(f" {finding.name:<{LABEL_WIDTH}} ", finding.text, width - 1))
    if finding.hint:
        typer.secho(_with_hanging_indent(" " * (LABEL_WIDTH + 3) + "→ ", finding.hint, width), fg=color)


def _with_hanging_indent(label: str, text: str, width: int) -> str:
    """A label with its text beside it; further lines start below the text."""
    return textwrap.fill(
        text,
        width=max(width, 40),
        initial_indent=label,
        subsequent_indent=" " * (LABEL_WIDTH + 3),
        break_long_words=False,
        break_on_hyphens=False,
    )
