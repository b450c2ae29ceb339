"""`mcp-server-claude config`: print the configuration of an MCP client, or write it into the client's file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mcp_server_claude.cli import client_config, client_config_files, local_files, terminal_output
from mcp_server_claude.cli.command_line import server_command
from mcp_server_claude.errors import RequestError
from mcp_server_claude.network_addresses import split_http_url
from mcp_server_claude.settings_sources import config_file, variable_name

if TYPE_CHECKING:
    from mcp_server_claude.settings import Settings


def print_config(
    client: Annotated[
        client_config.Client | None, typer.Argument(help="Print only this client's configuration.")
    ] = None,
    url: Annotated[
        str, typer.Option("--url", metavar="URL", help="Connect to the HTTP server at this address instead.")
    ] = "",
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print only the text of the client's file.")] = False,
    write: Annotated[bool, typer.Option("--write", help="Write it into the client's file, with a backup.")] = False,
) -> None:
    """Print your MCP client's configuration, ready to paste, or write it into the client's file.

    Claude Code and VS Code have a file for each project: run `--write` in its directory.
    """
    if client is None and (as_json or write):
        option = "--json" if as_json else "--write"
        raise typer.BadParameter(f"name one client: {', '.join(client_config.CLIENTS)}.", param_hint=option)
    if as_json and write:
        raise typer.BadParameter("choose one of them.", param_hint="--json, --write")
    if url and split_http_url(url.strip()) is None:
        raise typer.BadParameter("use an address such as https://claude.example.com/mcp.", param_hint="--url")
    if client is None:
        for name in client_config.CLIENTS:
            _print_client(name, url)
    elif write:
        _write_client(client, url)
    elif as_json:
        typer.echo(client_config.format_configuration(client, _configuration(client, url)))
    else:
        _print_client(client, url)
    if as_json or url:
        return
    if not write and not _keyring():
        typer.secho(client_config.KEY_VARIABLE_NOTE, dim=True)
    if note := _shell_settings_note(terminal_output.load_settings()):
        typer.secho(note, fg="yellow")


def _shell_settings_note(settings: Settings) -> str:
    """A sentence on the settings of this shell that a client does not have if it is started elsewhere; or nothing."""
    fields = [field for field in type(settings).model_fields if field not in {"api_key", "keyring"}]
    names = [variable_name(field) for field in fields if settings.source_of(field) == variable_name(field)]
    if not names:
        return ""
    return (
        f"Set in this shell: {', '.join(names)}. A client that is started elsewhere has them only from the `env` of "
        f"this server's entry, or from {config_file()}."
    )


def _keyring() -> str:
    """The name of the key in the system's keyring that the server would use, or nothing."""
    settings = terminal_output.load_settings()
    return settings.keyring if settings.api_key is None else ""


def _configuration(client: client_config.Client, url: str) -> client_config.Json:
    if not url:
        return client_config.client_configuration(client, server_command(), _keyring())
    address = url.strip().rstrip("/")
    return client_config.http_configuration(client, address if address.endswith("/mcp") else f"{address}/mcp")


def _print_client(client: client_config.Client, url: str) -> None:
    typer.secho(f"{client_config.CLIENT_NAMES[client]}\n", bold=True)
    if url:
        try:
            typer.echo(client_config.format_configuration(client, _configuration(client, url)) + "\n")
        except RequestError as error:
            typer.echo(f"{error}\n")
        return
    for snippet in client_config.config_snippets(client, server_command(), _keyring()):
        typer.secho(f"{snippet.location}:\n", dim=True)
        typer.echo(snippet.text + "\n")


def _write_client(client: client_config.Client, url: str) -> None:
    path = client_config_files.config_path(client, home=Path.home(), directory=local_files.working_directory())
    written = client_config_files.write_config(client, path, _configuration(client, url))
    if written.has_changed:
        backup = f"; the old file is {written.backup}" if written.backup else ""
        typer.echo(f"Wrote {path}{backup}. Restart {client_config.CLIENT_NAMES[client]}.")
    else:
        typer.echo(f"{path} already contains this server.")
    if not url and _keyring():
        typer.echo(f"It takes the key {_keyring()} from the keyring of the system.")
    elif not url and client in client_config.ENVIRONMENT_KEY_CLIENTS:
        typer.echo(f"It takes the key from {client_config.KEY_VARIABLE} in your environment.")
    text = path.read_text(encoding="utf-8")
    for placeholder in (client_config.KEY_PLACEHOLDER, client_config.TOKEN_PLACEHOLDER):
        is_needed = placeholder != client_config.KEY_PLACEHOLDER or not _keyring()
        if placeholder in text and is_needed:
            typer.secho(f"Replace {placeholder} in it.", fg="yellow")
