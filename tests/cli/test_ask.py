"""`mcp-server-claude ask`, by its real command, against the simulator."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import anyio
import anyio.to_thread
import pytest

from mcp_server_claude.cli.ask_session import CODE_BLOCK
from mcp_server_claude.cli.local_files import file_references
from mcp_server_claude.cli.short_schema import parse_schema_option
from mcp_server_claude.errors import RequestError
from mcp_server_claude.files import FilePolicy
from mcp_server_claude.files.url_references import data_uri
from mcp_server_claude.simulator import directive
from support.mcp_session import FAKE_KEY, ledger_rows
from support.server_command import REAL_COMMAND, server_command
from support.shell_command import ShellCommand, shell_command
from support.simulator_requests import message_requests

if TYPE_CHECKING:
    from pathlib import Path
    from subprocess import CompletedProcess

    from mcp_server_claude.simulator import Simulator

pytestmark = pytest.mark.anyio


@pytest.fixture
def ask(upstream: Simulator, tmp_path: Path) -> ShellCommand:
    return shell_command(upstream, tmp_path, "ask")


async def test_into_a_pipe_stdout_is_exactly_the_answer_and_the_footer_is_on_stderr(ask: ShellCommand) -> None:
    done = await ask("What is tea?", directive(text="Tea is **leaves**."))
    assert done.returncode == 0, done.stderr
    assert done.stdout == b"Tea is **leaves**.\n"
    assert done.stderr.startswith(b"[claude-sonnet-5-5 ")
    (row,) = ledger_rows(ask.data_dir)
    assert (row["tool"], row["source"], row["user"]) == ("ask", "shell", "local")


async def test_stdin_is_the_prompt_or_is_appended_to_it(ask: ShellCommand) -> None:
    assert (await ask("--quiet", stdin="Grüße".encode())).stderr == b""
    assert (await ask("Review this", stdin=b"- old\n+ new\n")).returncode == 0
    first, second = message_requests(ask.api)
    assert "Grüße" in json.dumps(first.body, ensure_ascii=False)
    assert "+ new" in json.dumps(second.body)
    assert "Review this" in json.dumps(second.body)


async def test_a_conversation_is_continued_by_its_id_or_as_the_latest(ask: ShellCommand) -> None:
    first = json.loads((await ask("One", "--json")).stdout)
    thread = first["usage"]["thread"]
    assert json.loads((await ask("Two", "-c", "--json")).stdout)["usage"]["thread"] == thread
    assert json.loads((await ask("Three", "-t", thread, "--json")).stdout)["usage"]["thread"] == thread
    latest = cast("dict[str, list[object]]", message_requests(ask.api)[-1].body)
    assert len(latest["messages"]) == 5


async def test_a_schema_makes_the_answer_json(ask: ShellCommand) -> None:
    done = await ask("Extract", "--schema", "name, age int, tags [str]", "-q")
    value = json.loads(done.stdout)
    assert set(value) == {"name", "age", "tags"}
    assert isinstance(value["age"], int)


async def test_only_the_first_code_block_is_printed(ask: ShellCommand) -> None:
    code = directive(text="Try this:\n\n```sh\necho hi\n```\n\nor\n\n```sh\nno\n```")
    assert (await ask("-x", "-q", code)).stdout == b"echo hi\n"
    nothing = await ask("-x", directive(text="No code."))
    assert (nothing.returncode, nothing.stdout) == (1, b"")
    assert b"has no code block" in nothing.stderr


@pytest.mark.parametrize(
    ("arguments", "fields", "code", "sentence"),
    [
        ((), {}, 2, "The prompt is empty."),
        (("hi", "--model", "gpt"), {}, 2, "'gpt'"),
        (("hi", "-c"), {}, 2, "There is no conversation to continue."),
        (("hi", "-f", "/nowhere/a.txt"), {}, 2, "/nowhere/a.txt"),
        (("hi", "--schema", "name thing"), {}, 2, "'thing' is not a type"),
        (("hi",), {"base_url": "http://127.0.0.1:9", "retry_for_s": 0}, 75, "refused"),
        (("hi",), {"api_key": ""}, 78, "There is no API key."),
        (("hi", "--max-usd", "0.000001"), {}, 2, "max_usd"),
    ],
)
async def test_each_failure_has_a_message_and_the_exit_code_of_its_class(
    ask: ShellCommand, arguments: tuple[str, ...], fields: dict[str, object], code: int, sentence: str
) -> None:
    done = await ask(*arguments, stdin=b"", **fields)
    assert (done.returncode, done.stdout) == (code, b""), done.stderr
    assert sentence in done.stderr.decode()
    assert b"Traceback" not in done.stderr


async def test_an_invalid_setting_is_reported_once(ask: ShellCommand) -> None:
    done = await ask("hi", user_concurrent="several")
    assert (done.returncode, done.stdout) == (78, b"")
    assert done.stderr.count(b"MCP_CLAUDE_USER_CONCURRENT") == 1, done.stderr


async def test_a_cost_above_the_limit_needs_approval_without_a_terminal(ask: ShellCommand) -> None:
    refused = await ask("Hi", confirm_above_usd=0.05)
    assert (refused.returncode, refused.stdout) == (2, b"")
    assert b"--yes, or a lower --max-usd" in refused.stderr
    assert not message_requests(ask.api)
    for approved in (("--yes",), ("--max-usd", "0.04")):
        assert (await ask("Hi", *approved, confirm_above_usd=0.05)).returncode == 0
    items = replace(ask, words=("map", "{item}", "-q"))
    assert (await items(stdin=b"a\nb\n", confirm_above_usd=0.05)).returncode == 2
    assert (await items("-y", stdin=b"a\nb\n", confirm_above_usd=0.05)).returncode == 0


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX's")
@pytest.mark.parametrize(("answer", "code", "requests"), [(b"y\n", 0, 1), (b"n\n", 2, 0), (b"\x04", 2, 0)])
async def test_on_a_terminal_the_user_approves_the_cost_first(
    ask: ShellCommand, answer: bytes, code: int, requests: int
) -> None:
    import pty

    ours, theirs = pty.openpty()
    environment = ask.environment(confirm_above_usd=0.05)

    def run() -> tuple[int, bytes]:
        command = server_command("ask", "-q", "Hi")
        with subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, cwd=ask.directory
        ) as process:
            os.close(theirs)
            output = b""
            while b"Send it?" not in output:
                output += os.read(ours, 4096)
            os.write(ours, answer)
            with suppress(OSError):  # the terminal is gone
                while chunk := os.read(ours, 4096):
                    output += chunk
        os.close(ours)
        return process.returncode, output

    exit_code, output = await anyio.to_thread.run_sync(run)
    assert b"This call may cost up to $" in output
    assert exit_code == code, output
    assert len(message_requests(ask.api)) == requests


async def test_an_incomplete_answer_has_exit_code_1(ask: ShellCommand) -> None:
    done = await ask(f"Tell me everything. {directive(think=5)}", "--max-tokens", "20")
    assert done.returncode == 1
    assert done.stdout
    assert b"INCOMPLETE: " in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is a signal on POSIX only")
async def test_ctrl_c_keeps_the_text_so_far_and_closes_the_connection(ask: ShellCommand) -> None:
    process = await anyio.open_process(
        server_command("ask", "Tell me. [[sim: tokens=400 fault=stall at=90]]"),
        env=ask.environment(),
        stdin=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    text = await process.stdout.receive()
    process.send_signal(signal.SIGINT)
    errors = b"".join([chunk async for chunk in process.stderr])
    assert await process.wait() == 130
    assert text
    assert b"stopped \xc2\xb7 kept " in errors
    assert b"thread t_" in errors
    with anyio.fail_after(30):
        await ask.api.wait_until_idle()
    assert [record.end for record in ask.api.requests if record.path == "/v1/messages"] == ["disconnected"]


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX's")
async def test_on_a_terminal_the_answer_is_rendered(ask: ShellCommand) -> None:
    import pty

    ours, theirs = pty.openpty()
    command = server_command("ask", "-q", directive(text="Tea is **leaves**.\x1b]0;owned\x07"))

    def run() -> bytes:
        with subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env=ask.environment(), cwd=ask.directory
        ) as process:
            os.close(theirs)
            output = b""
            try:
                while chunk := os.read(ours, 4096):
                    output += chunk
            except OSError:  # Linux reports the end of a pseudo-terminal as EIO
                pass
            assert process.wait() == 0
            return output

    output = await anyio.to_thread.run_sync(run)
    os.close(ours)
    assert b"leaves" in output
    assert b"**" not in output
    assert b"\x1b]0;" not in output


async def test_a_dry_run_sends_nothing(ask: ShellCommand) -> None:
    done = await ask("What is tea?", "--dry-run")
    assert b"as requested" in done.stdout
    assert message_requests(ask.api) == []


def test_a_file_outside_the_working_directory_is_sent_unless_its_name_looks_secret(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for folder in (inside, outside):
        folder.mkdir()
    (inside / "a.py").write_text("a")
    (outside / "b.py").write_text("b")
    (outside / ".env").write_text("KEY=1")
    names = ["a.py", "*.py", "https://example.com/a.pdf", "../outside/b.py", "a.py:1-2"]
    policy = FilePolicy(roots=(inside,))
    assert file_references(names, working_directory=inside, policy=policy) == [
        *names[:3],
        data_uri("b.py", b"b"),
        names[4],
    ]
    with pytest.raises(RequestError, match="may contain a secret"):
        file_references(["../outside/.env"], working_directory=inside, policy=policy)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has another variable for the home directory")
@pytest.mark.parametrize("directory", [".", ".."], ids=["home", "above"])
async def test_in_a_home_directory_a_file_that_is_named_is_sent_and_a_glob_is_refused(
    ask: ShellCommand, directory: str
) -> None:
    home = ask.directory / "ada"
    home.mkdir()
    (home / "notes.txt").write_text("green leaves", encoding="utf-8")
    cwd = (home / directory).resolve()
    name = str((home / "notes.txt").relative_to(cwd))

    async def run(*words: str) -> CompletedProcess[bytes]:
        environ = ask.environment() | {"HOME": str(home)}
        return await anyio.run_process([*REAL_COMMAND, *words], check=False, env=environ, cwd=cwd)

    done = await run("ask", "-f", name, "What is it?")
    assert done.returncode == 0, done.stderr
    assert "green leaves" in json.dumps(message_requests(ask.api)[-1].body)
    for words in (["ask", "-f", f"{name[:-4]}*"], ["ask", "-f", f"{name}:1-2"], ["map", "Name {item}", name]):
        refused = await run(*words)
        assert refused.returncode == 2
        assert refused.stderr.startswith(b"A home directory, or one that contains it, is not read as a project."), words


def test_a_short_schema_has_types_lists_optional_fields_and_descriptions(tmp_path: Path) -> None:
    schema = parse_schema_option("name\nage int: in years, rounded\nscores [float]\nborn? : a year")
    assert schema == {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "age": {"type": "integer", "description": "in years, rounded"},
            "scores": {"type": "array", "items": {"type": "number"}},
            "born": {"type": "string", "description": "a year"},
        },
        "required": ["name", "age", "scores"],
        "additionalProperties": False,
    }
    (tmp_path / "s.json").write_text('{"type": "array"}')
    assert parse_schema_option(str(tmp_path / "s.json")) == {"type": "array"}
    for wrong in ("", "a b c", "a, a", "a [int", '{"a"'):
        with pytest.raises(RequestError):
            parse_schema_option(wrong)


def test_a_code_block_ends_at_its_own_fence() -> None:
    found = CODE_BLOCK.search("x\n````md\n```\ninner\n```\n````\n")
    assert found is not None
    assert found["code"] == "```\ninner\n```\n"


async def test_a_bug_is_reported_with_its_traceback_and_without_the_key(ask: ShellCommand) -> None:
    command = [sys.executable, "-c", COMMAND_WITH_A_BUG, "ask", "What is tea?"]
    done = await anyio.run_process(command, check=False, cwd=ask.directory, env=ask.environment())
    assert done.returncode == 78
    assert done.stdout == b""
    stderr = done.stderr.decode()
    assert "A bug in mcp-server-claude ended the call c_" in stderr
    assert "Traceback (most recent call last)" in stderr
    assert "LookupError: no request for" in stderr
    assert FAKE_KEY not in stderr


COMMAND_WITH_A_BUG = f"""
from mcp_server_claude.__main__ import main
from mcp_server_claude.engine.request_loop import RequestLoop

async def run(self):
    raise LookupError("no request for {FAKE_KEY}")

RequestLoop.run = run
main()
"""


ASCII_LOCALE = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
"""An environment in which Python takes arguments, the names of files and standard streams for ASCII."""


@pytest.mark.skipif(os.name == "nt", reason="locales are POSIX's")
@pytest.mark.parametrize(
    "words", [("ask", "Grüße aus 日本", "-f", "ä.txt"), ("chat",), ("map", "Grüße {item}", "ä.txt")]
)
async def test_text_and_names_beyond_ascii_arrive_in_an_ascii_locale(ask: ShellCommand, words: tuple[str, ...]) -> None:
    (ask.directory / "ä.txt").write_text("grün", encoding="utf-8")
    done = await anyio.run_process(
        server_command(*words, real=True),
        input="Grüße /file?\n/file ä.txt\nUnd grün?\n/exit\n".encode() if words[0] == "chat" else b"",
        check=False,
        cwd=ask.directory,
        env=ask.environment() | ASCII_LOCALE,
    )
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False), done.stderr
    sent = json.dumps([request.body for request in message_requests(ask.api)], ensure_ascii=False)
    assert "Grüße" in sent
    assert "grün" in sent
    assert "ä.txt" in sent or words[0] == "map"
    assert words[0] != "ask" or "日本" in sent


@pytest.mark.skipif(sys.platform == "win32", reason="Windows reports a closed pipe as another error")
@pytest.mark.parametrize("words", [("ask",), ("chat",)])
async def test_when_the_reader_of_the_pipe_has_ended_the_answer_is_stopped_without_a_word(
    ask: ShellCommand, words: tuple[str, ...]
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = await anyio.run_process(
        server_command(*words),
        input=directive(tokens=5000, think=0).encode() + b"\n",
        stdout=writing,
        check=False,
        env=ask.environment(),
        cwd=ask.directory,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")
    (row,) = ledger_rows(ask.data_dir)
    assert row["end"] == "cancelled"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows reports a closed pipe as another error")
async def test_messages_that_cannot_be_written_leave_the_answer_and_its_exit_code(ask: ShellCommand) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    yes = directive(text="Yes.")
    for words in (["ask", "Tea?", yes], ["ask", "--json", "Tea?", yes], ["map", f"Describe {{item}} {yes}", "-"]):
        done = await anyio.run_process(
            [*REAL_COMMAND, *words],
            input=b"tea\n" if words[0] == "map" else b"",
            stderr=writing,
            check=False,
            env=ask.environment(),
            cwd=ask.directory,
        )
        assert (done.returncode, b"Yes." in done.stdout) == (0, True), words
    os.close(writing)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has a device that is always full")  # noqa: PTH110
async def test_a_full_disk_under_stderr_leaves_the_answer_and_its_exit_code(ask: ShellCommand) -> None:
    with open("/dev/full", "wb") as full:  # noqa: ASYNC230, PTH123
        done = await anyio.run_process(
            [*REAL_COMMAND, "ask", "Tea?", directive(text="Yes.")],
            stderr=full,
            check=False,
            env=ask.environment(),
            cwd=ask.directory,
        )
    assert (done.returncode, done.stdout) == (0, b"Yes.\n")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has a device that is always full")  # noqa: PTH110
async def test_a_full_disk_is_one_sentence_and_exit_code_75(ask: ShellCommand) -> None:
    with open("/dev/full", "wb") as full:  # noqa: ASYNC230, PTH123
        done = await anyio.run_process(
            [*REAL_COMMAND, "ask", "-q", "Tea?"], stdout=full, check=False, env=ask.environment(), cwd=ask.directory
        )
    assert (done.returncode, done.stderr) == (
        75,
        b"The disk to which mcp-server-claude writes is full. Try again later.\n",
    )


async def test_an_answer_is_utf_8_where_the_output_is_ascii_and_counts_what_another_encoding_lacks(
    ask: ShellCommand,
) -> None:
    words = [*REAL_COMMAND, "ask", "-q", "Tea?", directive(text="Thé → 茶")]

    async def answer_in(encoding: str) -> tuple[bytes, bytes]:
        environment = ask.environment() | {"PYTHONIOENCODING": encoding}
        done = await anyio.run_process(words, check=False, env=environment, cwd=ask.directory)
        return done.stdout.replace(b"\r\n", b"\n"), done.stderr.replace(b"\r\n", b"\n")

    assert await answer_in("ascii") == ("Thé → 茶\n".encode(), b"")
    lost = b"2 characters printed as ?: cp1252 lacks them. PYTHONIOENCODING=utf-8 prints them.\n"
    assert await answer_in("cp1252") == (b"Th\xe9 ? ?\n", lost)
