"""A backend of the library `keyring` that keeps its entries in a JSON file, for tests on machines without a keyring."""

from __future__ import annotations

import json
import os
from pathlib import Path

from keyring.backend import KeyringBackend
from keyring.errors import PasswordDeleteError

FILE_VARIABLE = "TEST_KEYRING_FILE"


class FileKeyring(KeyringBackend):
    """The entries of the file that `TEST_KEYRING_FILE` names."""

    priority = 1.0  # pyright: ignore[reportAssignmentType] - `keyring` declares a property of the class

    def get_password(self, service: str, username: str) -> str | None:
        return self._entries().get(f"{service} {username}")

    def set_password(self, service: str, username: str, password: str) -> None:
        self._write(self._entries() | {f"{service} {username}": password})

    def delete_password(self, service: str, username: str) -> None:
        entries = self._entries()
        if entries.pop(f"{service} {username}", None) is None:
            raise PasswordDeleteError("There is no such entry.")
        self._write(entries)

    def _entries(self) -> dict[str, str]:
        path = Path(os.environ[FILE_VARIABLE])
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def _write(self, entries: dict[str, str]) -> None:
        Path(os.environ[FILE_VARIABLE]).write_text(json.dumps(entries), encoding="utf-8")
