"""The commands of the shell, one module each.

Importing them is cheap, so that `--help` and completion answer at once: a command imports what it needs when it runs.
"""

from __future__ import annotations

import inspect
import io
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from mcp_server_claude import __version__
from mcp_server_claude.cli import (
    backup_and_forget,
    config_command,
    demo_command,
    doctor_command,
    serve,
    simulate_command,
    usage,
    users,
)

if TYPE_CHECKING:
    from collections.abc import Callable

app = typer.Typer(
    name="mcp-server-claude",
    help="An MCP server that gives any MCP client a Claude to delegate to.\n\n"
    "Without arguments it serves MCP over stdio: that is what a client's configuration starts.",
    epilog="Settings are environment variables MCP_CLAUDE_…; MCP_CLAUDE_API_KEY holds the key.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(requested: bool) -> None:  # noqa: FBT001 - typer's signature
    if requested:
        typer.echo(f"mcp-server-claude {__version__}")
        raise typer.Exit


@app.callback()
def main(
    *,
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Runs before every command."""
    del version
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that lacks ✓ or … shows ? instead of a traceback


def _add_command(name: str, function: Callable[..., None]) -> None:
    """Add a command, with its docstring's first paragraph in the list of commands (click would cut it at a width)."""
    summary = inspect.getdoc(function) or ""
    app.command(name, short_help=" ".join(summary.partition("\n\n")[0].split()))(function)


_add_command("serve", serve.run_server)
app.add_typer(users.app, name="user", short_help=users.SUMMARY)
_add_command("usage", usage.show_usage)
_add_command("backup", backup_and_forget.back_up)
_add_command("forget", backup_and_forget.forget_text)
_add_command("demo", demo_command.run_demo)
_add_command("doctor", doctor_command.run_doctor)
_add_command("config", config_command.print_config)
_add_command("simulate", simulate_command.run_simulator)
