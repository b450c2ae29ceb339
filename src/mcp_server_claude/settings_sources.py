"""The sources of the settings, the environment and a TOML file, and a sentence for each value that cannot be used."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from platformdirs import user_config_path
from pydantic_settings import EnvSettingsSource, TomlConfigSettingsSource

from mcp_server_claude.frozen_dataclass import frozen_dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import ValidationError
    from pydantic_settings import BaseSettings

ENV_PREFIX = "MCP_CLAUDE_"
APP_NAME = "mcp-server-claude"
CONFIG_VARIABLE = f"{ENV_PREFIX}CONFIG"
"""The variable that names the file of settings; it has the prefix, and is no setting itself."""
PLACEHOLDER_VALUE = re.compile(
    r"^\$\{[^}]*\}$|^\$[A-Z_]\w*$|^\$\(.*\)$|^%\w+%$|^\{?(env|input):[\w-]+\}?$|^op://|^\{\{.*\}\}$"
    r"|^<.*>$|^(your|sk-ant)-(api-)?key(-here)?$|^sk-ant-\.\.\.$|^replace-",
    re.IGNORECASE,
)
"""A value that a client failed to expand or a person failed to replace: `${…}`, `%…%`, `op://…`, `<your key>`."""
COPYING_MARKS = " \t\r\n\"'`“”‘’,;"
"""What surrounds a value that was copied out of a shell, a program, or JSON."""
COPIED_NAME = re.compile(r"^(?:export\s+)?(?:MCP_CLAUDE|ANTHROPIC)_[A-Z_]+\s*=\s*")
MAX_SHOWN_PATH_CHARS = 200


@frozen_dataclass(kw_only=True)
class SourceValues:
    """The values that the sources have for the fields, not validated.

    `source_by_field` names the source of each: an environment variable, or the path of the file. `problems` has one
    sentence for each setting that cannot be used.
    """

    values: Mapping[str, Any]
    source_by_field: Mapping[str, str]
    problems: tuple[str, ...]

    def without_invalid(self, error: ValidationError) -> SourceValues:
        """The values without those that are invalid, and with a problem for each of them."""
        wrong = {str(each["loc"][0]): each["msg"] for each in error.errors(include_input=False, include_url=False)}
        problems = (f"{self.source_by_field[name]}: {name} {_requirement(why)}." for name, why in wrong.items())
        return replace(
            self,
            values={name: value for name, value in self.values.items() if name not in wrong},
            source_by_field={name: source for name, source in self.source_by_field.items() if name not in wrong},
            problems=(*self.problems, *problems),
        )


def read_sources(settings_class: type[BaseSettings]) -> SourceValues:
    """Read the environment and the file of settings; the environment wins. Never fails."""
    path, fields = config_file(), settings_class.model_fields
    from_env = {
        name: bare
        for name, value in EnvSettingsSource(settings_class)().items()
        if name in fields and (bare := _without_quotes(value)) != ""
    }
    from_file, problems = _read_config_file(settings_class, path)
    problems += [f"{path.name} has no setting named {name!r}." for name in from_file if name not in fields]
    problems += [f"There is no setting {name}." for name in _unknown_variables(os.environ, set(fields))]
    if project := os.environ.get("CLAUDE_PROJECT_DIR", "").strip():
        from_env.setdefault("project_dir", project)
    values = {name: value for name, value in from_file.items() if name in fields} | from_env
    return SourceValues(
        values=values,
        source_by_field={name: variable_name(name) if name in from_env else str(path) for name in values},
        problems=tuple(problems),
    )


def variable_name(field: str) -> str:
    """The environment variable of a field."""
    return ENV_PREFIX + field.upper()


def is_placeholder(value: str) -> bool:
    """True if a value was left unfilled, by a client that did not expand `${…}` or by a person."""
    return not value or PLACEHOLDER_VALUE.match(value) is not None


def without_copying_marks(value: str) -> str:
    """A copied key or address without what surrounds it: quotes, spaces, a comma, the name of its variable."""
    return COPIED_NAME.sub("", value.strip(COPYING_MARKS)).strip(COPYING_MARKS)


def config_file() -> Path:
    """The path of the TOML file of settings (`MCP_CLAUDE_CONFIG` names another)."""
    named = _without_quotes(os.environ.get(CONFIG_VARIABLE, ""))
    return expand_home(str(named)) if named else user_config_path(APP_NAME) / "config.toml"


def expand_home(name: str) -> Path:
    """A path with `~` as the directory of its user, or as it is written where there is none."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)


def _without_quotes(value: object) -> object:
    """A value without spaces and quotes around it, which `docker --env-file` and others take for a part of it."""
    if not isinstance(value, str):
        return value
    bare = value.strip()
    is_quoted = len(bare) > 1 and bare[0] == bare[-1] and bare[0] in "\"'"
    return bare[1:-1].strip() if is_quoted else bare


def _requirement(message: str) -> str:
    """The end of a sentence of which the setting is the subject, from pydantic's message."""
    requirement = message.removeprefix("Input should be ")
    if requirement != message:
        return f"must be {requirement.partition(', unable')[0]}"
    return f"is invalid: {message.removeprefix('Value error, ')}"


def _unknown_variables(environ: Mapping[str, str], fields: set[str]) -> list[str]:
    known = {CONFIG_VARIABLE} | {variable_name(field) for field in fields}
    return sorted(name for name in environ if name.upper().startswith(ENV_PREFIX) and name.upper() not in known)


def _read_config_file(settings_class: type[BaseSettings], path: Path) -> tuple[dict[str, Any], list[str]]:
    shown = str(path)[:MAX_SHOWN_PATH_CHARS]
    try:
        if os.environ.get(CONFIG_VARIABLE, "").strip() and not path.exists():
            return {}, [f"{CONFIG_VARIABLE} names {shown}, which does not exist."]
        if path.is_dir():
            return {}, [f"{shown} could not be read (IsADirectoryError)."]
        return TomlConfigSettingsSource(settings_class, path)(), []
    except (OSError, ValueError) as error:  # unreadable, or not TOML
        return {}, [f"{shown} could not be read ({type(error).__name__})."]
