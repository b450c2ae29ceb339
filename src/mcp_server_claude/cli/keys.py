"""`mcp-server-claude keys`: API keys in the keyring of the operating system."""

from __future__ import annotations

import json
import re
import sys
from typing import Annotated, TypeAlias

import typer

from mcp_server_claude.anthropic_api import system_keyring
from mcp_server_claude.anthropic_api.credentials import validate_key
from mcp_server_claude.cli import terminal_output
from mcp_server_claude.cli.call_options import JsonOption
from mcp_server_claude.cli.command_group import subcommand_group
from mcp_server_claude.errors import RequestError
from mcp_server_claude.settings_sources import is_placeholder

DEFAULT_KEY_NAME = "default"
KEY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
MAX_KEY_CHARS = 10_000
NameArgument: TypeAlias = Annotated[str, typer.Argument(metavar="[NAME]", help="The name of the key.")]

app = subcommand_group("Keep API keys in the keyring of the operating system: set, list, remove.")


@app.command("set")
def set_key(name: NameArgument = DEFAULT_KEY_NAME) -> None:
    """Save a key, typed without echo or read from stdin, and print the setting that selects it."""
    _check_name(name)
    key = _read_key_input()
    validate_key(key, "The input")
    system_keyring.save_key(name, key)
    typer.echo(f"Saved the key {name}. The server uses it with MCP_CLAUDE_KEYRING={name} and no MCP_CLAUDE_API_KEY.")


@app.command("list")
def list_keys(*, as_json: JsonOption = False) -> None:
    """List the names of the keys, without the keys."""
    in_use = terminal_output.load_settings().keyring
    names = system_keyring.key_names()
    if as_json:
        typer.echo(json.dumps([{"name": name, "in_use": name == in_use} for name in names], indent=2))
        return
    for name in names:
        typer.echo(f"{name} (MCP_CLAUDE_KEYRING names it)" if name == in_use else name)
    if not names:
        typer.echo("There are no keys.")


@app.command("remove")
def delete_key(name: NameArgument = DEFAULT_KEY_NAME) -> None:
    """Remove a key from the keyring."""
    _check_name(name)
    if not system_keyring.remove_key(name):
        raise RequestError(f"There is no key named {name!r}.", kind="not_found")
    typer.echo(f"Removed the key {name}.")


def _check_name(name: str) -> None:
    if not KEY_NAME.fullmatch(name):
        raise RequestError("A name has letters, digits, dots, dashes and underscores, at most 64 of them.")


def _read_key_input() -> str:
    if sys.stdin.isatty():
        text: str = typer.prompt("API key", hide_input=True)
    else:
        text = sys.stdin.read(MAX_KEY_CHARS + 1)
    key = text.strip().strip("\"'").strip()
    if is_placeholder(key) or len(key) > MAX_KEY_CHARS:
        raise RequestError("The input is not a key. Type the key, or pipe it to stdin.")
    return key
