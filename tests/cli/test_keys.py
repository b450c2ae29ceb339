"""`mcp-server-claude keys`, by its real command, with the library `keyring` and a backend that keeps a file."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest

from support.mcp_session import FAKE_KEY, server_environment
from support.server_command import server_command
from support.simulator_requests import message_requests

if TYPE_CHECKING:
    import subprocess

    from mcp_server_claude.simulator import Simulator

pytestmark = pytest.mark.anyio
TESTS = Path(__file__).parents[1]
SECRET_SERVICE_PROGRAMS = ("dbus-run-session", "gnome-keyring-daemon")
SECRET_SERVICE_SCRIPT = """
set -e
printf 'password\\n' | gnome-keyring-daemon --unlock --components=secrets >/dev/null
printf %s "$TEST_KEY" | "$@" keys set work
"$@" keys list
MCP_CLAUDE_KEYRING=work "$@" ask "[[sim: text=answered]]" --quiet
"$@" keys remove work
"$@" keys list
"""
"""A session of the Secret Service, which is GNOME's and KDE's keyring, and the commands with it."""


@dataclass(frozen=True)
class KeyringCommand:
    """A command in an environment with a keyring of its own. New processes: the library chooses its backend once."""

    entries: Path
    data_dir: Path
    base_url: str

    async def __call__(
        self, *arguments: str, stdin: bytes = b"", variables: dict[str, str] | None = None, **fields: object
    ) -> subprocess.CompletedProcess[bytes]:
        environment = server_environment(**({"data_dir": self.data_dir, "base_url": self.base_url} | fields))
        keyring = {
            "PYTHON_KEYRING_BACKEND": "support.file_keyring.FileKeyring",
            "TEST_KEYRING_FILE": str(self.entries),
            "PYTHONPATH": os.pathsep.join((str(TESTS), os.environ.get("PYTHONPATH", ""))),
        }
        return await anyio.run_process(
            server_command(*arguments, real=True),
            input=stdin,
            check=False,
            env=environment | keyring | (variables or {}),
        )


@pytest.fixture
def command(upstream: Simulator, tmp_path: Path) -> KeyringCommand:
    return KeyringCommand(tmp_path / "keyring.json", tmp_path / "data", upstream.url)


@pytest.mark.slow
async def test_a_saved_key_is_listed_used_by_a_call_and_removed(upstream: Simulator, command: KeyringCommand) -> None:
    saved = await command("keys", "set", "work", stdin=f"  {FAKE_KEY}\n".encode())
    assert saved.returncode == 0, saved.stderr
    assert FAKE_KEY.encode() not in saved.stdout + saved.stderr
    listed = await command("keys", "list", "--json", keyring="work")
    assert json.loads(listed.stdout) == [{"name": "work", "in_use": True}]

    answered = await command("ask", "Hi", "-q", keyring="work")
    assert answered.returncode == 0, answered.stderr
    assert len(message_requests(upstream)) == 1

    assert (await command("keys", "remove", "work")).returncode == 0
    assert (await command("keys", "list")).stdout == b"There are no keys.\n"
    again = await command("keys", "remove", "work")
    assert (again.returncode, b"There is no key named 'work'." in again.stderr) == (2, True)


@pytest.mark.slow
@pytest.mark.skipif(
    not all(map(shutil.which, SECRET_SERVICE_PROGRAMS)), reason="there is no D-Bus and GNOME keyring here"
)
async def test_the_secret_service_keeps_a_key_for_a_call(upstream: Simulator, tmp_path: Path) -> None:
    environment = server_environment(data_dir=tmp_path / "data", base_url=upstream.url)
    done = await anyio.run_process(
        ["dbus-run-session", "--", "sh", "-c", SECRET_SERVICE_SCRIPT, "sh", *server_command(real=True)],
        check=False,
        env=environment | {"HOME": str(tmp_path), "TEST_KEY": FAKE_KEY},
    )
    assert done.returncode == 0, done.stderr.decode()
    saved, *lines = done.stdout.decode().splitlines()
    assert saved.startswith("Saved the key work.")
    assert lines == ["work", "answered", "Removed the key work.", "There are no keys."]
    assert len(message_requests(upstream)) == 1


async def test_a_keyring_without_the_key_is_an_error_that_names_the_command(command: KeyringCommand) -> None:
    done = await command("ask", "Hi", keyring="work")
    assert done.returncode == 78
    assert b"mcp-server-claude keys set work" in done.stderr


async def test_a_machine_without_a_keyring_is_an_error_in_one_sentence(command: KeyringCommand) -> None:
    done = await command("keys", "list", variables={"PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring"})
    assert done.returncode == 78
    assert b"This system has no keyring." in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("name", "key", "sentence"),
    [("a b", FAKE_KEY, "A name has letters"), ("work", "", "not a key"), ("work", "sk-ant-a b", "cannot be a key")],
)
async def test_an_invalid_name_or_key_is_rejected(command: KeyringCommand, name: str, key: str, sentence: str) -> None:
    done = await command("keys", "set", name, stdin=key.encode())
    assert done.returncode in {2, 78}
    assert sentence in done.stderr.decode()
    assert not command.entries.exists()
