"""The exit codes of commands, each by its real command."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, cast

import pytest

from mcp_server_claude.cli.terminal_output import file_error
from mcp_server_claude.errors import ConfigurationError
from mcp_server_claude.exit_codes import error_exit_code
from support.mcp_session import server_environment
from support.server_command import REAL_COMMAND, server_command

if TYPE_CHECKING:
    from pathlib import Path


def run(data_dir: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        server_command(*arguments),
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        env=server_environment(data_dir=data_dir),
    )


def join_words(value: object) -> str | None:
    """The id of a test with these arguments."""
    return " ".join(map(str, cast("list[object]", value))) if isinstance(value, list) else None


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["ask"], 2, "The prompt is empty."),
        (["map", "Describe {item}"], 2, "There are no items."),
        (["threads", "show", "t_0"], 2, "There is no conversation 't_0'."),
        (["jobs", "show", "j_0"], 2, "There is no job with that id."),
        (["config", "inspector", "--write"], 2, "The Inspector has no file of a fixed name."),
        (["config", "claude-desktop", "--json", "--url", "http://127.0.0.1"], 2, "Claude Desktop takes HTTP servers"),
        (["keys", "remove", "a b"], 2, "A name has letters,"),
        (["ask", "Hi"], 78, "There is no API key"),
        (["backup", "copy.db"], 78, "There is no "),
        (["move", "--to", "postgresql://127.0.0.1:9/x"], 78, "There is no database in "),
        (["demo", "--live"], 78, "--live needs a key"),
        (["serve", "--http", "--host", "203.0.113.9"], 78, "Cannot listen on 203.0.113.9"),
        (["simulate", "--host", "203.0.113.9"], 78, "Cannot listen on 203.0.113.9"),
    ],
    ids=join_words,
)
def test_an_error_is_one_line_on_stderr_and_the_exit_code_of_its_class(
    tmp_path: Path, arguments: list[str], code: int, complaint: str
) -> None:
    done = run(tmp_path / "data", *arguments)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert done.stderr.startswith(complaint)
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("number", "code"), [(errno.ENOSPC, 75), (errno.EDQUOT, 75), (errno.EACCES, 2), (errno.EROFS, 2)]
)
def test_a_full_disk_is_temporary_and_another_fault_is_the_name_of_the_file(number: int, code: int) -> None:
    failure = file_error("x.md cannot be written", OSError(number, os.strerror(number)))
    assert str(failure) == f"x.md cannot be written: {os.strerror(number)}."
    assert error_exit_code(failure) == code


def test_a_fault_of_a_file_of_the_server_is_a_matter_of_configuration() -> None:
    failure = file_error("The database cannot be read", PermissionError(errno.EACCES, "no"), ConfigurationError)
    assert error_exit_code(failure) == 78


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["ask", "--tool", "foo", "x"], "Invalid value for '--tool': 'foo' is not one of web, code, read."),
        (["ask", "--effort", "foo", "x"], "'--effort': 'foo' is not one of low, medium, high, xhigh, max."),
        (["threads", "export", "t_0", "--format", "xml"], "'--format': 'xml' is not one of markdown, json."),
        (["jobs", "output", "j_0", "--format", "xml"], "'--format': 'xml' is not one of jsonl, csv."),
        (["completion", "csh"], "'shell': 'csh' is not one of bash, zsh, fish."),
        (["jobs", "list", "-n", "2.5"], "'--number' / '-n': '2.5' is not a whole number."),
        (["jobs", "list", "-n", "0"], "'--number' / '-n': 0 is less than 1, the smallest value."),
        (["ask", "--max-usd", "1e7", "x"], "'--max-usd': 1e7 is more than 1,000,000, the largest value."),
        (["ask", "--max-usd", "inf", "x"], "'--max-usd': inf is more than 1,000,000, the largest value."),
        (["map", "--max-usd", "nan", "x"], "'--max-usd': 'nan' is not a number."),
        (["map", "--max-usd", "much", "x"], "'--max-usd': 'much' is not a number."),
        (["serve", "--port", "70000"], "'--port': 70000 is more than 65,535, the largest value."),
    ],
    ids=join_words,
)
def test_a_wrong_option_is_named_with_what_it_takes(tmp_path: Path, arguments: list[str], complaint: str) -> None:
    done = run(tmp_path / "data", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].endswith(complaint)


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX's")
@pytest.mark.anyio
@pytest.mark.parametrize("arguments", [("keys", "set"), ("forget", "--user", "local")])
async def test_ctrl_c_at_a_question_has_exit_code_130(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    from support.pseudo_terminal import pseudo_terminal

    data_dir = tmp_path / "data"
    data_dir.mkdir()
    (data_dir / "chat_history").write_text("a line\n")
    environment = server_environment(data_dir=data_dir)
    assert run(data_dir, "usage").returncode == 0  # makes the database
    async with pseudo_terminal(server_command(*arguments), environment, tmp_path) as terminal:
        await terminal.wait_for(lambda lines: lines[-1].endswith((":", "[y/N]:")))
        terminal.send("\x03")
        assert await terminal.wait() == 130
    assert (data_dir / "chat_history").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
def test_ctrl_c_while_lines_are_read_from_a_pipe_has_exit_code_130(tmp_path: Path) -> None:
    environment = server_environment(data_dir=tmp_path / "data", api_key="sk-ant-test-0000-not-a-key")
    with subprocess.Popen(
        server_command("chat"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"/cost\n")
        process.stdin.flush()
        process.stdout.readline()  # it waits for the next line
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
    assert (process.returncode, errors) == (130, b"")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows deletes no directory that is in use")
@pytest.mark.parametrize(
    "arguments", [["ask", "Hi", "-f", "x.txt"], ["map", "Hi", "x.txt"], ["config", "claude-code", "--write"]]
)
def test_a_deleted_working_directory_is_an_error_in_one_sentence(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "gone").mkdir()
    script = 'cd "$0" && rmdir "$0" && exec "$@"'
    done = subprocess.run(
        ["/bin/sh", "-c", script, str(tmp_path / "gone"), *REAL_COMMAND, *arguments],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        env=server_environment(data_dir=tmp_path / "data", api_key="sk-ant-test-0000-not-a-key"),
    )
    sentence = "The working directory does not exist any more. Change to another one.\n"
    assert (done.returncode, done.stderr) == (2, sentence)
