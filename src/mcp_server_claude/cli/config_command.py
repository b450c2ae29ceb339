"""`mcp-server-claude config`: the configuration of an MCP client, ready to paste."""

from __future__ import annotations

from typing import Annotated

import typer

from mcp_server_claude.cli import client_config
from mcp_server_claude.cli.command_line import server_command


def print_config(
    client: Annotated[client_config.Client | None, typer.Argument(help="Only this client's.")] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Only the JSON of the client's file.")] = False,
) -> None:
    """Print your MCP client's configuration, ready to paste."""
    command = server_command()
    if as_json:
        if client is None:
            raise typer.BadParameter(f"name one client: {', '.join(client_config.CLIENTS)}.", param_hint="--json")
        typer.echo(client_config.config_json(client, command))
        return
    for name in client_config.CLIENTS if client is None else (client,):
        typer.secho(f"{client_config.CLIENT_NAMES[name]}\n", bold=True)
        for snippet in client_config.config_snippets(name, command):
            typer.secho(f"{snippet.location}:\n", dim=True)
            typer.echo(snippet.text + "\n")
    typer.secho(client_config.KEY_VARIABLE_NOTE, dim=True)
