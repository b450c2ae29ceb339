"""API keys in the keyring of the operating system, through the library `keyring` (the extra `keyring`).

The library is imported when a key is read or written, never at the start. Keyrings cannot list their entries, so one
more entry holds the names (https://keyring.readthedocs.io, as documented by November 2026).
"""

from __future__ import annotations

import json
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

from mcp_server_claude.anthropic_api.credentials import require_package
from mcp_server_claude.errors import ConfigurationError
from mcp_server_claude.settings_sources import APP_NAME

T = TypeVar("T")

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES_ENTRY = "(names)"
"""The entry with the names of all keys as a JSON list. Its brackets keep it apart from the name of a key."""


class KeyringLibrary(Protocol):
    """The functions of `keyring` that are used here."""

    def get_password(self, service_name: str, username: str) -> str | None:
        """Read an entry."""
        ...

    def set_password(self, service_name: str, username: str, password: str) -> None:
        """Write an entry."""
        ...

    def delete_password(self, service_name: str, username: str) -> None:
        """Delete an entry."""
        ...


def read_key(name: str) -> str | None:
    """The key of that name; None if there is none. Blocks, and the system may ask its user to unlock the keyring.

    Raises:
        ConfigurationError: The library is not installed, or the keyring cannot be used.
    """
    return _use_keyring(lambda library: library.get_password(APP_NAME, name))


@cache
def cached_key(name: str) -> str:
    """The key of that name, read once in this process. Blocks as `read_key` does, the first time.

    Raises:
        ConfigurationError: There is none, the library is not installed, or the keyring cannot be used.
    """
    key = read_key(name)
    if not key:
        raise ConfigurationError(
            f"The system's keyring has no key named {name!r}. To save one: {APP_NAME} keys set {name}", kind="keyring"
        )
    return key


def save_key(name: str, key: str) -> None:
    """Save a key under a name, in place of the one before. Blocks as `read_key` does.

    Raises:
        ConfigurationError: The library is not installed, or the keyring cannot be used.
    """
    _use_keyring(lambda library: library.set_password(APP_NAME, name, key))
    _save_names({*key_names(), name})


def remove_key(name: str) -> bool:
    """Remove the key of that name. Returns False if there was none. Blocks as `read_key` does.

    Raises:
        ConfigurationError: The library is not installed, or the keyring cannot be used.
    """
    is_there = read_key(name) is not None
    if is_there:
        _use_keyring(lambda library: library.delete_password(APP_NAME, name))
    _save_names(set(key_names()) - {name})
    return is_there


def key_names() -> list[str]:
    """The names of all keys that were saved, sorted. Blocks as `read_key` does.

    Raises:
        ConfigurationError: The library is not installed, or the keyring cannot be used.
    """
    text = read_key(NAMES_ENTRY)
    try:
        names: object = json.loads(text) if text else []
    except ValueError:
        names = []
    return sorted(map(str, cast("list[object]", names))) if isinstance(names, list) else []


def _save_names(names: set[str]) -> None:
    _use_keyring(lambda library: library.set_password(APP_NAME, NAMES_ENTRY, json.dumps(sorted(names))))


def _use_keyring(use: Callable[[KeyringLibrary], T]) -> T:
    require_package("keyring", "The system's keyring", "keyring")
    library = cast("KeyringLibrary", import_module("keyring"))
    try:
        return use(library)
    except Exception as error:  # noqa: BLE001 - each keyring raises its own classes, and their text may hold the key
        name = type(error).__name__
        problem = (
            "This system has no keyring. Set MCP_CLAUDE_API_KEY."
            if name == "NoKeyringError"
            else f"The system's keyring cannot be used ({name}). Unlock it, or set MCP_CLAUDE_API_KEY."
        )
        raise ConfigurationError(problem, kind="keyring") from None
