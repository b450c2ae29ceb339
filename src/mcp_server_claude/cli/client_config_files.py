"""The configuration files of MCP clients: where they are, and how this server is written into one.

`config_path` names the documentation of each path. Only the entry of this server is written; the rest of the text, with
its comments and indentation, stays as it is.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, cast

from mcp_server_claude.cli import json_members
from mcp_server_claude.cli.client_config import SERVER_NAME, format_configuration, toml_value
from mcp_server_claude.cli.command_line import pasteable_command
from mcp_server_claude.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp_server_claude.cli.client_config import Client, Json


SERVER_FIELDS = frozenset({"type", "command", "args", "url", "serverUrl", "httpUrl"})
"""Fields of an entry that say which server it is. They are written; of all others the file's values stay."""
TOML_HEADER = re.compile(
    rf"""^[ \t]*\[[ \t]*mcp_servers[ \t]*\.[ \t]*["']?{SERVER_NAME}["']?[ \t]*\][^\r\n]*""", re.MULTILINE
)

TOML_VALUE = r"""(?:"(?:[^"\\\r\n]|\\.)*"|'[^'\r\n]*'|[^#"'\r\n])*?(?=[ \t]*(?:#|\r?$))"""
"""A value of one line, up to a comment behind it."""


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

    What somebody has added to the entry of this server stays, such as a budget in its `env`, and so do the key and the
    token in it.

    Raises:
        RequestError: The file cannot be read, is not JSON (with comments or without) or TOML, or cannot be written.
    """
    target = path.resolve()  # a link, as dotfile managers make them, stays one
    merge = _merge_toml if client == "codex" else _merge_json
    try:
        before = _read_text(target) if target.exists() else ""
        after = merge(before, configuration)
        if after == before:
            return WrittenConfig(path=path, backup=None, has_changed=False)
        backup = _back_up(target) if before else None
        _replace(target, after)
    except OSError as error:
        raise RequestError(f"{path} cannot be changed: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise RequestError(f"{path} cannot be changed: it is not UTF-8.") from None
    except ValueError as error:  # those of json and tomllib name the place
        raise RequestError(
            f"{path} cannot be changed: {error}. To add this server by hand: {pasteable_command('config', client)}"
        ) from None
    return WrittenConfig(path=path, backup=backup, has_changed=True)


def _read_text(path: Path) -> str:
    """The text of a file with its ends of lines, without a byte order mark."""
    return path.read_bytes().decode("utf-8-sig")


def _merge_json(before: str, configuration: Json) -> str:
    text = before if before.strip() else "{}\n"
    existing = json_members.parse_jsonc(text)
    if not isinstance(existing, dict):
        raise ValueError("it does not contain a JSON object")  # noqa: TRY004 - translated above
    present = cast("Json", existing)
    for name, value in configuration.items():
        held = present.get(name, type(value)())
        if isinstance(value, dict) and isinstance(held, dict):
            before_entry = cast("Json", held).get(SERVER_NAME)
            entry = _merge_entry(cast("dict[str, Json]", value)[SERVER_NAME], before_entry)
            if entry != before_entry:
                text = _set_changes(text, (name, SERVER_NAME), before_entry, entry)
        elif isinstance(value, list) and isinstance(held, list):
            items = cast("list[object]", held)
            known = [cast("Json", item).get("id") for item in items if isinstance(item, dict)]
            for item in cast("list[Json]", value):
                if item["id"] not in known:
                    text = json_members.append_element(text, name, item)
        else:
            raise ValueError(f"{name!r} in it has the wrong type")  # noqa: TRY004 - translated above
    return text


def _set_changes(text: str, path: tuple[str, ...], before: object, after: object) -> str:
    """Set what differs, each member by itself, so that the comments between them stay."""
    held, fields = _members_of(before), _members_of(after)
    if not held or not held.keys() <= fields.keys():
        return json_members.set_member(text, path, after)
    for name, value in fields.items():
        if name not in held or held[name] != value:
            text = _set_changes(text, (*path, name), held.get(name), value)
    return text


def _members_of(value: object) -> Json:
    return cast("Json", value) if isinstance(value, dict) else {}


def _merge_entry(entry: Json, present: object) -> Json:
    """This server's entry with what the file has in it already, unless that is for the other transport."""
    if not isinstance(present, dict) or ("command" in present) != ("command" in entry):
        return entry
    before = cast("Json", present)
    merged = before | {name: value for name, value in entry.items() if name in SERVER_FIELDS or name not in before}
    for name, value in entry.items():
        held = before.get(name)
        if isinstance(value, dict) and isinstance(held, dict):  # its `env` or `headers`
            merged[name] = cast("Json", value) | cast("Json", held)
        elif isinstance(value, list) and isinstance(held, list) and name not in SERVER_FIELDS:
            items = cast("list[object]", held)
            merged[name] = [*items, *(item for item in cast("list[object]", value) if item not in items)]
    return merged


def _merge_toml(before: str, configuration: Json) -> str:
    existing = tomllib.loads(before)
    servers = existing.setdefault("mcp_servers", {})
    if not isinstance(servers, dict):
        raise ValueError("'mcp_servers' in it has the wrong type")  # noqa: TRY004 - translated above
    present = cast("Json", servers).get(SERVER_NAME)
    entry = _merge_entry(cast("dict[str, Json]", configuration["mcp_servers"])[SERVER_NAME], present)
    if entry == present:
        return before
    newline = "\r\n" if "\r\n" in before else "\n"
    if present is None:
        gap = newline if before and not before.endswith("\n") else ""
        block = format_configuration("codex", configuration).replace("\n", newline)
        after = f"{before}{gap}{newline if before else ''}{block}{newline}"
    else:
        after = _set_toml_values(before, entry, cast("Json", present), newline)
    cast("Json", servers)[SERVER_NAME] = entry
    if not _is_toml_of(after, existing):  # e.g. `mcp_servers` is an inline table, or a value has several lines
        raise ValueError(f"its [mcp_servers.{SERVER_NAME}] is written in another way")
    return after


def _set_toml_values(before: str, entry: Json, present: Json, newline: str) -> str:
    """The text in which the lines of this server's table have the values of `entry`, if each value has one line."""
    header = TOML_HEADER.search(before)
    if header is None or "command" not in present or "command" not in entry:
        return before
    following = re.compile(r"^\s*\[", re.MULTILINE).search(before, header.end())
    end = following.start() if following else len(before)
    block = before[header.end() : end]
    for name, value in entry.items():
        if present.get(name) == value:
            continue
        line = f"{name} = {toml_value(value)}"
        block, count = re.subn(rf"^{name}[ \t]*={TOML_VALUE}", lambda _, text=line: text, block, flags=re.MULTILINE)
        if not count:
            block = f"{newline}{line}{block}"
    return before[: header.end()] + block + before[end:]


def _is_toml_of(text: str, value: Json) -> bool:
    try:
        return tomllib.loads(text) == value
    except tomllib.TOMLDecodeError:
        return False


def _back_up(path: Path) -> Path:
    backup = path.with_name(f"{path.name}.{datetime.now().astimezone():%Y%m%d-%H%M%S}.bak")
    shutil.copy2(path, backup)
    return backup


def _replace(path: Path, text: str) -> None:
    """Write the file at once, with the permissions of the one before; a new one is for its owner alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
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
