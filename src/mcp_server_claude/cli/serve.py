"""`mcp-server-claude serve`: MCP over stdio for one client, or everything over HTTP for a team."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from mcp_server_claude.cli import terminal_output


def run_server(
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 or :: for all addresses.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to listen on; 0 for any free one.")] = 8000,
    *,
    http: Annotated[bool, typer.Option("--http", help="Serve /mcp, /chat and the pages over HTTP.")] = False,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Admit everybody, also from other machines, while there are no users.")
    ] = False,
) -> None:
    """Serve MCP over stdio; with --http serve a team: /mcp for clients, /chat for programs, / for people.

    Over HTTP, Ctrl-C or SIGTERM ends the server when the running requests have finished (after MCP_CLAUDE_DRAIN_S
    seconds at the latest); a second one ends it at once. The exit code is 0, or 128 plus the number of the signal when
    requests were cut off.
    """
    if not http:
        from mcp_server_claude.server.stdio_command import serve_stdio

        serve_stdio()
    from mcp_server_claude.telemetry import stderr_logging
    from mcp_server_claude.web.http_server import serve_http

    settings = terminal_output.load_settings()
    stderr_logging.setup_logging(settings)
    code = serve_http(settings, host, port, announce=_print_line, insecure=insecure)
    sys.stdout.flush()
    raise typer.Exit(code)


def _print_line(line: str) -> None:
    print(line, flush=True)
