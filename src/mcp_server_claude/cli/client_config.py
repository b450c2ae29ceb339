"""Configuration of MCP clients for this installation: the text to paste, and the file that it belongs in.

The key goes into `MCP_CLAUDE_API_KEY`: an `ANTHROPIC_API_KEY` would change how Claude Code itself pays.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, cast, get_args

from mcp_server_claude.cli.command_line import shell_line
from mcp_server_claude.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Client: TypeAlias = Literal[
    "claude-code",
    "claude-desktop",
    "cursor",
    "vscode",
    "windsurf",
    "zed",
    "codex",
    "gemini",
    "cline",
    "inspector",
]
CLIENTS: tuple[Client, ...] = get_args(Client)
CLIENT_NAMES: Mapping[Client, str] = {
    "claude-code": "Claude Code",
    "claude-desktop": "Claude Desktop",
    "cursor": "Cursor",
    "vscode": "VS Code",
    "windsurf": "Windsurf",
    "zed": "Zed",
    "codex": "Codex",
    "gemini": "Gemini CLI",
    "cline": "Cline",
    "inspector": "MCP Inspector",
}

SERVER_NAME = "claude"
"""The server's name in a client: Claude Code calls its tools `mcp__claude__…`."""
KEY_VARIABLE = "MCP_CLAUDE_API_KEY"
KEYRING_VARIABLE = "MCP_CLAUDE_KEYRING"
ENVIRONMENT_KEY_CLIENTS: frozenset[Client] = frozenset({"claude-code", "codex", "cursor", "gemini", "windsurf"})
"""Clients whose file refers to the key in their environment."""
KEY_VARIABLE_NOTE = f"Put the key in {KEY_VARIABLE}. Claude Code would use ANTHROPIC_API_KEY for its own requests too."
KEY_PLACEHOLDER = "<your Anthropic API key>"
"""A value that `is_placeholder` recognises, so that a forgotten key is reported as such."""
KEY_REFERENCE = "${MCP_CLAUDE_API_KEY}"
TOKEN_PLACEHOLDER = "<your token>"  # noqa: S105 - none
TOKEN_VARIABLE = "MCP_CLAUDE_TOKEN"  # noqa: S105 - a name
VSCODE_INPUT_ID = "anthropic-api-key"
DESKTOP_CONFIG_FOLDERS = (
    "macOS: ~/Library/Application Support/Claude/, Windows: %APPDATA%\\Claude\\, Linux: ~/.config/Claude/; "
    "or Settings → Developer → Edit Config"
)
CALL_TIMEOUT_S = 3600
"""The time that a tool call may take, where a client's file can say so and its default is 60 s.

Codex: `tool_timeout_sec` (https://developers.openai.com/codex/mcp, as documented by November 2026).
Cline: `timeout`, from 30 s to an hour (https://docs.cline.bot/mcp/configuring-mcp-servers, read 2026-11-29).
"""
EXAMPLE_COMMAND = "/path/to/mcp-server-claude"
"""The command in `claude_desktop_config.example.json`."""

Json: TypeAlias = "dict[str, object]"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigSnippet:
    """A text to paste; `location` says into what, in half a sentence without a full stop."""

    location: str
    text: str


def config_snippets(client: Client, command: Sequence[str], keyring: str = "") -> tuple[ConfigSnippet, ...]:
    """Everything that can be pasted for a client, the shortest way first; see `client_configuration`."""
    written = ConfigSnippet(
        location=_config_location(client, keyring),
        text=format_configuration(client, client_configuration(client, command, keyring)),
    )
    variable = f"{KEYRING_VARIABLE}={keyring}" if keyring else f"{KEY_VARIABLE}={KEY_PLACEHOLDER}"
    match client:
        case "claude-code":
            added = ("claude", "mcp", "add", SERVER_NAME, "-e", variable, "--", *command)
            return (
                ConfigSnippet(
                    location="In a shell (with --scope user before the --: for all your projects)",
                    text=shell_line(added),
                ),
                written,
            )
        case "inspector":
            inspector = ("npx", "@modelcontextprotocol/inspector")
            key = ("-e", variable)
            return (
                ConfigSnippet(
                    location="In a shell, for its page in the browser", text=shell_line((*inspector, *key, *command))
                ),
                ConfigSnippet(
                    location="In a shell, for one request",
                    text=shell_line((*inspector, "--cli", *key, *command, "--method", "tools/list")),
                ),
                written,
            )
        case _:
            return (written,)


def config_json(client: Client, command: Sequence[str]) -> str:
    """The client's configuration file with this server in it: JSON, for Codex TOML."""
    return format_configuration(client, client_configuration(client, command))


def format_configuration(client: Client, configuration: Json) -> str:
    """A configuration in the format of the client's file."""
    if client != "codex":
        return json.dumps(configuration, indent=2, ensure_ascii=False)
    servers = cast("dict[str, dict[str, object]]", configuration["mcp_servers"])
    lines = [f"[mcp_servers.{SERVER_NAME}]"]
    lines += [f"{name} = {toml_value(value)}" for name, value in servers[SERVER_NAME].items()]
    return "\n".join(lines)


def toml_value(value: object) -> str:
    """A value in TOML: basic strings and arrays of strings are written as in JSON, an object as an inline table."""
    if not isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    fields = cast("Json", value).items()
    return f"{{ {', '.join(f'{json.dumps(name, ensure_ascii=False)} = {toml_value(each)}' for name, each in fields)} }}"


def client_configuration(client: Client, command: Sequence[str], keyring: str = "") -> Json:
    """The configuration file of a client that has only this server.

    `keyring` is the name of the key in the system's keyring that the server uses; else the file says where a key comes
    from.
    """
    configuration = _key_configuration(client, command)
    if not keyring:
        return configuration
    configuration.pop("inputs", None)
    for servers in configuration.values():
        entry = cast("dict[str, Json]", servers)[SERVER_NAME]
        entry.pop("env_vars", None)
        env = {name: value for name, value in cast("Json", entry.get("env", {})).items() if name != KEY_VARIABLE}
        entry["env"] = {KEYRING_VARIABLE: keyring} | env
    return configuration


def _key_configuration(client: Client, command: Sequence[str]) -> Json:
    """The configuration file of a client that gives the server a key."""
    started: Json = {"command": command[0], "args": list(command[1:])}
    match client:
        case "claude-code":
            # Without `alwaysLoad` the model sees only the tools' names at first. An unset variable is passed on
            # literally, which the settings recognise.
            entry = {"type": "stdio", **started, "env": {KEY_VARIABLE: KEY_REFERENCE}, "alwaysLoad": True}
        case "vscode":
            entry = {"type": "stdio", **started, "env": {KEY_VARIABLE: f"${{input:{VSCODE_INPUT_ID}}}"}}
            token_input = {
                "type": "promptString",
                "id": VSCODE_INPUT_ID,
                "description": "Anthropic API key",
                "password": True,
            }
            return {"inputs": [token_input], "servers": {SERVER_NAME: entry}}
        case "cursor":
            entry = {"type": "stdio", **started, "env": {KEY_VARIABLE: f"${{env:{KEY_VARIABLE}}}"}}
        case "claude-desktop":
            # Nothing is expanded there. Desktop ends a tool call after about 60 s, so longer ones detach before.
            entry = {**started, "env": {KEY_VARIABLE: KEY_PLACEHOLDER, "MCP_CLAUDE_DETACH_AFTER_S": "55"}}
        case "gemini":
            entry = {**started, "env": {KEY_VARIABLE: KEY_REFERENCE}}
        case "windsurf":
            entry = {**started, "env": {KEY_VARIABLE: f"${{env:{KEY_VARIABLE}}}"}}
        case "codex":
            entry = {**started, "env_vars": [KEY_VARIABLE], "tool_timeout_sec": CALL_TIMEOUT_S}
            return {"mcp_servers": {SERVER_NAME: entry}}
        case "zed":
            return {"context_servers": {SERVER_NAME: {**started, "env": {KEY_VARIABLE: KEY_PLACEHOLDER}}}}
        case "cline":
            entry = {**started, "env": {KEY_VARIABLE: KEY_PLACEHOLDER}, "timeout": CALL_TIMEOUT_S}
        case "inspector":
            entry = {**started, "env": {KEY_VARIABLE: KEY_PLACEHOLDER}}  # nothing is expanded there: literal values
    return {"mcpServers": {SERVER_NAME: entry}}


def http_configuration(client: Client, url: str) -> Json:
    """The configuration file of a client for the server at a URL, which ends in /mcp.

    Raises:
        RequestError: The client's file has no place for it.
    """
    headers: Json = {"Authorization": f"Bearer {TOKEN_PLACEHOLDER}"}
    match client:
        case "claude-code" | "inspector":
            entry: Json = {"type": "http", "url": url, "headers": headers}
        case "vscode":
            return {"servers": {SERVER_NAME: {"type": "http", "url": url, "headers": headers}}}
        case "cursor":
            entry = {"url": url, "headers": headers}
        case "windsurf":
            entry = {"serverUrl": url, "headers": headers}
        case "gemini":
            entry = {"httpUrl": url, "headers": headers}
        case "cline":
            entry = {"type": "streamableHttp", "url": url, "headers": headers, "timeout": CALL_TIMEOUT_S}
        case "zed":
            return {"context_servers": {SERVER_NAME: {"url": url, "headers": headers}}}
        case "codex":
            entry = {"url": url, "bearer_token_env_var": TOKEN_VARIABLE, "tool_timeout_sec": CALL_TIMEOUT_S}
            return {"mcp_servers": {SERVER_NAME: entry}}
        case "claude-desktop":
            raise RequestError("Claude Desktop takes HTTP servers as connectors in its settings, not in its file.")
    return {"mcpServers": {SERVER_NAME: entry}}


def _config_location(client: Client, keyring: str = "") -> str:
    takes_key = f"it takes {KEY_VARIABLE} from your environment"
    location = _file_location(client)
    if keyring and client == "vscode":
        return "In .vscode/mcp.json of a workspace"
    return f"{location} ({takes_key})" if client in ENVIRONMENT_KEY_CLIENTS and not keyring else location


def _file_location(client: Client) -> str:
    match client:
        case "claude-code":
            return "In .mcp.json at the root of a project"
        case "claude-desktop":
            return f"In claude_desktop_config.json ({DESKTOP_CONFIG_FOLDERS}); then quit and start it again"
        case "cursor":
            return "In ~/.cursor/mcp.json or a project's .cursor/mcp.json"
        case "vscode":
            return "In .vscode/mcp.json of a workspace (it asks for the key once, and keeps it)"
        case "windsurf":
            return "In ~/.codeium/windsurf/mcp_config.json"
        case "zed":
            return "In Zed's settings.json (zed: open settings file)"
        case "codex":
            return "In ~/.codex/config.toml"
        case "gemini":
            return "In ~/.gemini/settings.json"
        case "cline":
            return "In ~/.cline/data/settings/cline_mcp_settings.json (Cline: MCP Servers → Configure)"
        case "inspector":
            return "In a file, for its --config"
