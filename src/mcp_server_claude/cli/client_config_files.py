"""The configuration files of MCP clients: where they are, and how this server is written into one.

`config_path` names the documentation of each path. Files that hold comments (JSONC) are left alone: writing them again
would lose the comments.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, cast

from mcp_server_claude.cli.client_config import (
    KEY_PLACEHOLDER,
    SERVER_NAME,
    TOKEN_PLACEHOLDER,
    format_configuration,
)
from mcp_server_claude.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp_server_claude.cli.client_config import Client, Json


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenConfig:
    """The file that was written; `backup` is the copy of the one before, None if there was none."""

    path: Path
    backup: Path | None
    has_changed: bool


def config_path(
    client: Client,
    *,
    home: Path,
    directory: Path,
    platform: str = sys.platform,
    environ: Mapping[str, str] = os.environ,
) -> Path:
    """The client's file for this user; for Claude Code and VS Code that of the project in `directory`.

    Raises:
        RequestError: The client has no file of a fixed name.
    """
    match client:
        case "claude-code":
            return directory / ".mcp.json"
        case "vscode":
            return directory / ".vscode" / "mcp.json"
        case "claude-desktop":
            return _application_data(home, platform, environ) / "Claude" / "claude_desktop_config.json"
        case "cursor":
            return home / ".cursor" / "mcp.json"
        case "windsurf":  # https://docs.windsurf.com/windsurf/cascade/mcp, read 2026-11-29
            return home / ".codeium" / "windsurf" / "mcp_config.json"
        case "zed":  # https://zed.dev/docs/configuring-zed, read 2026-11-29
            folder = home / ".config" if platform == "darwin" else _application_data(home, platform, environ)
            return folder / ("Zed" if platform == "win32" else "zed") / "settings.json"
        case "codex":  # https://developers.openai.com/codex/mcp, as documented by November 2026
            return Path(environ.get("CODEX_HOME") or home / ".codex") / "config.toml"
        case "gemini":  # https://geminicli.com/docs/tools/mcp-server/, as documented by November 2026
            return Path(environ.get("GEMINI_CLI_HOME") or home) / ".gemini" / "settings.json"
        case "cline":
            return _cline_path(home, environ)
        case "inspector":
            raise RequestError(
                "The Inspector has no file of a fixed name. Save what --json prints, and pass that file with --config."
            )


def write_config(client: Client, path: Path, configuration: Json) -> WrittenConfig:
    """Write this server into the client's file and keep everything else. The file before is copied beside it.

    Raises:
        RequestError: The file cannot be read, is not plain JSON or TOML, or cannot be written.
    """
    target = path.resolve()  # a link, as dotfile managers make them, stays one
    try:
        before = target.read_text(encoding="utf-8-sig") if target.exists() else ""
        after = (
            _merge_toml(path, before, configuration) if client == "codex" else _merge_json(path, before, configuration)
        )
        if after == before:
            return WrittenConfig(path=path, backup=None, has_changed=False)
        backup = _back_up(target) if before else None
        _replace(target, after)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise RequestError(f"{path} cannot be changed: {reason}.") from None
    return WrittenConfig(path=path, backup=backup, has_changed=True)


def _merge_json(path: Path, before: str, configuration: Json) -> str:
    try:
        existing: object = json.loads(before) if before.strip() else {}
    except ValueError:
        raise RequestError(f"{path} is not plain JSON (it may have comments). Add this server by hand.") from None
    if not isinstance(existing, dict):
        raise RequestError(f"{path} does not contain a JSON object. Add this server by hand.")
    merged = cast("Json", existing)
    for name, value in configuration.items():
        present = merged.setdefault(name, type(value)())
        if isinstance(value, dict) and isinstance(present, dict):
            cast("Json", present).update(cast("Json", _fill_placeholders(cast("Json", value), cast("Json", present))))
        elif isinstance(value, list) and isinstance(present, list):
            items = cast("list[object]", present)
            items += [item for item in cast("list[object]", value) if item not in items]
        else:
            raise RequestError(f"{name!r} in {path} has the wrong type. Add this server by hand.")
    return before if json.loads(before or "{}") == merged else json.dumps(merged, indent=2, ensure_ascii=False) + "\n"


def _fill_placeholders(value: object, present: object) -> object:
    """The value, with the key or token that the file holds already in the place of a placeholder."""
    if isinstance(value, dict):
        before = cast("Json", present) if isinstance(present, dict) else {}
        return {name: _fill_placeholders(each, before.get(name)) for name, each in cast("Json", value).items()}
    is_placeholder = isinstance(value, str) and (KEY_PLACEHOLDER in value or TOKEN_PLACEHOLDER in value)
    return present if is_placeholder and isinstance(present, str) else value


def _merge_toml(path: Path, before: str, configuration: Json) -> str:
    try:
        existing = tomllib.loads(before)
    except tomllib.TOMLDecodeError:
        raise RequestError(f"{path} is not TOML. Add this server by hand.") from None
    servers = existing.get("mcp_servers", {})
    if SERVER_NAME in servers:
        if servers[SERVER_NAME] == cast("Json", configuration["mcp_servers"])[SERVER_NAME]:
            return before
        raise RequestError(f"{path} already has another [mcp_servers.{SERVER_NAME}]. Edit it by hand.")
    gap = "\n" if before and not before.endswith("\n") else ""
    return f"{before}{gap}{chr(10) if before else ''}{format_configuration('codex', configuration)}\n"


def _back_up(path: Path) -> Path:
    backup = path.with_name(f"{path.name}.{datetime.now().astimezone():%Y%m%d-%H%M%S}.bak")
    shutil.copy2(path, backup)
    return backup


def _replace(path: Path, text: str) -> None:
    """Write the file at once, with the permissions of the one before; a new one is for its owner alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        if path.exists():
            shutil.copymode(path, name)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _cline_path(home: Path, environ: Mapping[str, str]) -> Path:
    """The file that Cline's extension and its command line share.

    From `sdk/packages/shared/src/storage/paths.ts` of https://github.com/cline/cline, read 2026-11-29. The extension's
    file in VS Code's global storage is the one before March 2026, which Cline moves here when it starts
    (https://github.com/cline/cline/pull/9630).
    """
    if path := environ.get("CLINE_MCP_SETTINGS_PATH"):
        return Path(path)
    data = environ.get("CLINE_DATA_DIR") or Path(environ.get("CLINE_DIR") or home / ".cline") / "data"
    return Path(data) / "settings" / "cline_mcp_settings.json"


def _application_data(home: Path, platform: str, environ: Mapping[str, str]) -> Path:
    match platform:
        case "darwin":
            return home / "Library" / "Application Support"
        case "win32":
            return Path(environ.get("APPDATA") or home / "AppData" / "Roaming")
        case _:
            return Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
