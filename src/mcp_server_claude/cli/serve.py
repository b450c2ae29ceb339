"""`mcp-server-claude serve`: MCP over stdio for one client, or everything over HTTP for a team."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from mcp_server_claude.errors import ConfigurationError
from mcp_server_claude.server.stdio_command import serve_stdio
from mcp_server_claude.settings import Settings
from mcp_server_claude.telemetry import stderr_logging


def run_server(
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 and :: are all of them.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where to listen; 0 takes a free port.")] = 8000,
    *,
    http: Annotated[bool, typer.Option("--http", help="Serve /mcp, /chat and the pages over HTTP.")] = False,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Let everybody in while there are no users, also from other machines.")
    ] = False,
) -> None:
    """Serve MCP over stdio, or with --http a whole team: /mcp for clients, /chat for programs, / for people.

    Over HTTP, Ctrl-C or SIGTERM ends it when the requests in flight are done (MCP_CLAUDE_DRAIN_S at most), a second one
    at once. The exit code is 0, or 128 and the signal's number when something was cut.
    """
    if not http:
        serve_stdio()
    from mcp_server_claude.web.http_server import serve_http

    settings = Settings.load()
    stderr_logging.setup_logging(settings)
    for problem in settings.problems:
        typer.secho(problem, fg="yellow", err=True)
    try:
        code = serve_http(settings, host, port, announce=_print_line, insecure=insecure)
    except ConfigurationError as failure:
        typer.secho(str(failure), fg="red", err=True)
        raise typer.Exit(1) from None
    sys.stdout.flush()
    raise typer.Exit(code)


def _print_line(line: str) -> None:
    print(line, flush=True)
