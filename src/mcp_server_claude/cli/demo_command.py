"""`mcp-server-claude demo`: an answer that streams through MCP, in the terminal or on the chat page."""

from __future__ import annotations

from typing import Annotated

import typer

from mcp_server_claude.cli import demo


def run_demo(
    prompt: Annotated[str, typer.Option(help="Ask this prompt instead.")] = "",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="With --http: the port to listen on; 0 for any free one.")
    ] = 8000,
    *,
    live: Annotated[bool, typer.Option("--live", help="Ask the real API, with your key. Costs about a cent.")] = False,
    http: Annotated[bool, typer.Option("--http", help="Serve the chat page for your browser instead.")] = False,
) -> None:
    """Watch an answer stream through MCP. No key and no network needed."""
    if http and (live or prompt):
        raise typer.BadParameter("the pages ask the simulated API, and you type the prompt there.", param_hint="--http")
    raise typer.Exit(demo.run_in_browser(port) if http else demo.run_in_terminal(prompt, live=live))
