"""The shell's commands; each is a module that is imported when the command is used."""

from __future__ import annotations

import io
import sys
from typing import Annotated, Any

import typer
from typer._completion_classes import completion_init  # typer has no public name for it

from mcp_server_claude import __version__, number_formatting
from mcp_server_claude.cli.command_group import CONTEXT_SETTINGS, LazyCommandGroup
from mcp_server_claude.errors import CallError
from mcp_server_claude.exit_codes import EXIT_INTERRUPTED, error_exit_code
from mcp_server_claude.standard_streams import (
    REPLACE_AND_COUNT,
    ReplacedCharacters,
    is_ascii,
    lose_unwritable_messages,
)

DEFAULT_ERROR_HANDLERS = frozenset({"strict", "surrogateescape"})
"""Those that Python gives standard output by itself; `PYTHONIOENCODING=cp1252:backslashreplace` names another."""

completion_init()  # the formats in which each shell asks for completions


class ErrorReportingGroup(LazyCommandGroup):
    """The group of all commands: an error that one raises is a line on stderr, and the exit code of its class."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that the arguments name."""
        try:
            return super().invoke(ctx)
        except CallError as failure:
            from mcp_server_claude.cli.terminal_output import print_call_error

            print_call_error(failure)
            raise typer.Exit(error_exit_code(failure)) from None
        except typer.Abort as abort:
            if isinstance(abort.__context__, KeyboardInterrupt):  # Ctrl-C at a question
                typer.echo(err=True)
                raise typer.Exit(EXIT_INTERRUPTED) from None
            raise
        except typer.BadParameter as error:
            from mcp_server_claude.cli.option_errors import plain_sentence

            error.message = plain_sentence(error)
            raise


app = typer.Typer(
    name="mcp-server-claude",
    cls=ErrorReportingGroup,
    help="An MCP server that gives any MCP client a Claude to delegate to.\n\n"
    "Without arguments it serves MCP over stdio: that is what a client's configuration starts.",
    epilog="Settings are environment variables MCP_CLAUDE_…; put the key in MCP_CLAUDE_API_KEY.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings=CONTEXT_SETTINGS,
)


def _show_version(requested: bool) -> None:  # noqa: FBT001 - typer's signature
    if requested:
        typer.echo(f"mcp-server-claude {__version__}")
        raise typer.Exit


@app.callback()
def main(
    context: typer.Context,
    *,
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Runs before every command."""
    del version
    replaced = ReplacedCharacters()
    context.call_on_close(lambda: _warn_of_replaced_characters(replaced.count))
    lose_unwritable_messages()
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if not isinstance(stream, io.TextIOWrapper):
            continue
        if is_ascii(stream.encoding):  # as typer prints to such a stream
            stream.reconfigure(encoding="utf-8")
        if stream is sys.stdin:  # input that is not text stays recognisable
            stream.reconfigure(errors="surrogateescape")
        elif stream is sys.stderr:  # a terminal that lacks ✓ or … shows ? instead of a traceback
            stream.reconfigure(errors="replace")
        elif stream.errors in DEFAULT_ERROR_HANDLERS:
            stream.reconfigure(errors=REPLACE_AND_COUNT)


def _warn_of_replaced_characters(count: int) -> None:
    """Say on stderr that characters were lost: an answer in a file would show it to nobody."""
    if count and sys.stdout is not None:  # pyright: ignore[reportUnnecessaryComparison] - None if closed
        characters = number_formatting.format_count(count, "character")
        typer.secho(
            f"{characters} printed as ?: {sys.stdout.encoding} lacks them. PYTHONIOENCODING=utf-8 prints them.",
            fg="yellow",
            err=True,
        )
