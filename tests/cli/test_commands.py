"""The shell's door, by its real command."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING

import pytest

from mcp_server_claude import __version__
from mcp_server_claude.cli.command_line import pasteable_command
from support.server_command import REAL_COMMAND, server_command

if TYPE_CHECKING:
    from pathlib import Path


def shell(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(server_command(*arguments), check=False, capture_output=True, encoding="utf-8")


def test_the_version_is_printed() -> None:
    assert shell("--version").stdout == f"mcp-server-claude {__version__}\n"


def test_the_package_runs_as_a_module() -> None:
    done = subprocess.run([*REAL_COMMAND, "--version"], check=True, capture_output=True, encoding="utf-8")
    assert done.stdout.endswith(f"{__version__}\n")


def test_help_explains_the_call_without_arguments_and_names_every_command() -> None:
    answer = shell("--help")

    assert answer.returncode == 0
    assert "Without arguments it serves MCP over stdio" in answer.stdout
    for command in ("demo", "doctor", "config", "simulate"):
        assert f"\n  {command} " in answer.stdout
    assert not re.search(r"\w\.\.\.", answer.stdout)


@pytest.mark.parametrize("command", [("ask",), ("jobs",), ("jobs", "list"), ("user", "add")])
def test_help_has_a_short_option_at_every_level(command: tuple[str, ...]) -> None:
    done = shell(*command, "-h")
    assert (done.returncode, done.stderr) == (0, "")
    assert "-h, --help" in done.stdout


def test_help_imports_only_what_it_shows() -> None:
    """The heavy packages take half a second; a command imports what it needs when it runs."""
    program = "import sys, mcp_server_claude.cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, encoding="utf-8")
    heavy = {"anthropic", "anyio", "asyncio", "fastapi", "httpx2", "mcp", "pydantic", "rich", "sqlite3"}
    assert heavy.isdisjoint(done.stdout.split())


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX's")
@pytest.mark.parametrize("arguments", [(), ("serve",)])
def test_on_a_terminal_a_line_explains_that_the_server_waits_for_a_client(arguments: tuple[str, ...]) -> None:
    import pty

    ours, theirs = pty.openpty()
    command = server_command(*arguments)
    with subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        printed = process.stderr.readline()
        os.close(ours)
        os.close(theirs)
        process.terminate()
    assert printed == (
        b"This serves MCP over stdio and waits for an MCP client. To see its commands: mcp-server-claude --help\n"
    )


def test_a_pasteable_command_names_a_path_unless_the_shell_finds_it_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a venv" / "bin"
    folder.mkdir(parents=True)
    for name in ("mcp-server-claude", "python"):
        (folder / name).touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.chdir(tmp_path)
    assert pasteable_command("user", "add", "NAME") == "'a venv/bin/mcp-server-claude' user add NAME"
    monkeypatch.chdir("/")
    assert pasteable_command() == f"'{str(folder / 'mcp-server-claude')[1:]}'"
    monkeypatch.setenv("PATH", str(folder))
    assert pasteable_command("doctor") == "mcp-server-claude doctor"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["frobnicate"], "No such command 'frobnicate'."),
        (["--frobnicate"], "No such option: --frobnicate"),
        (["config", "emacs"], "Invalid value for 'client': 'emacs' is not one of claude-code, claude-desktop, "),
        (["config", "--json"], "name one client: claude-code"),
        (["simulate", "--port", "70000"], "Invalid value for '--port'"),
    ],
)
def test_an_invalid_command_line_is_one_line_on_stderr_and_exit_code_2(arguments: list[str], complaint: str) -> None:
    answer = shell(*arguments)

    assert answer.returncode == 2
    assert complaint in answer.stderr
    assert answer.stdout == ""
    assert "Traceback" not in answer.stderr


def test_the_simulator_answers_at_the_printed_url_until_ctrl_c() -> None:
    command = server_command("simulate", "--port", "0")
    with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") as process:
        assert process.stdout is not None
        url = next(word for word in process.stdout.readline().split() if word.startswith("http://"))

        request = urllib.request.Request(f"{url}/v1/models", headers={"x-api-key": "any"})  # noqa: S310 - loopback
        with urllib.request.urlopen(request) as response:  # noqa: S310 - loopback
            assert json.load(response)["data"]

        process.send_signal(signal.SIGINT)
        assert process.wait() == 0


def test_a_port_in_use_is_reported_in_one_line() -> None:
    command = server_command("simulate", "--port", "0")
    with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") as process:
        assert process.stdout is not None
        url = next(word for word in process.stdout.readline().split() if word.startswith("http://"))
        port = url.rpartition(":")[2]

        second = shell("simulate", "--port", port)
        process.terminate()

    assert second.returncode == 78
    assert second.stderr.startswith(f"Cannot listen on 127.0.0.1:{port}: ")
    assert len(second.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("encoding", "printed", "warning"),
    [
        ("utf-8", "Settings → Developer", ""),
        ("cp1252", "Settings ? Developer", "characters printed as ?: cp1252 lacks them."),
        ("ascii", "Settings → Developer", ""),
        ("cp1252:backslashreplace", r"Settings \u2192 Developer", ""),
    ],
)
def test_characters_that_the_output_lacks_are_counted_on_stderr(encoding: str, printed: str, warning: str) -> None:
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    done = subprocess.run([*REAL_COMMAND, "config"], check=True, capture_output=True, env=environment)
    assert printed in done.stdout.decode()
    assert warning in done.stderr.decode()
    assert bool(done.stderr) is bool(warning)


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_a_completion_script_is_printed_for_each_shell(name: str) -> None:
    printed = shell("completion", name)
    assert printed.returncode == 0
    assert "_MCP_SERVER_CLAUDE_COMPLETE=complete_" in printed.stdout


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize(
    ("line", "completions"),
    [
        ("mcp-server-claude th", ["threads"]),
        ("mcp-server-claude ask --ma", ["--max-tokens", "--max-usd"]),
        ("mcp-server-claude chat -m so", ["sonnet"]),
        ("mcp-server-claude map --model claude-opus-5", ["claude-opus-5-5", "claude-opus-5"]),
    ],
)
def test_bash_completes_commands_options_and_models(line: str, completions: list[str], tmp_path: Path) -> None:
    words = line.split(" ")
    environment = {
        "MCP_CLAUDE_DATA_DIR": str(tmp_path),
        "_MCP_SERVER_CLAUDE_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    done = subprocess.run(
        REAL_COMMAND, capture_output=True, check=False, encoding="utf-8", env=os.environ | environment
    )
    assert done.stdout.split() == completions, done.stderr
