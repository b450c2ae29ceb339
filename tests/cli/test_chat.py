"""`mcp-server-claude chat` with its lines from a pipe, against the simulator."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, cast

import anyio
import pytest

from mcp_server_claude.cli.line_history import HISTORY_FILE
from mcp_server_claude.simulator import directive
from support.server_command import server_command
from support.shell_command import ShellCommand, shell_command
from support.simulator_requests import message_requests

if TYPE_CHECKING:
    from pathlib import Path

    from mcp_server_claude.simulator import Simulator

pytestmark = pytest.mark.anyio


@pytest.fixture
def chat(upstream: Simulator, tmp_path: Path) -> ShellCommand:
    return shell_command(upstream, tmp_path, "chat")


async def test_a_conversation_continues_until_the_input_ends(chat: ShellCommand) -> None:
    (chat.directory / "notes.txt").write_text("the notes")
    lines = [
        f"One {directive(text='First.', think=5)}",
        "/model haiku",
        "/file notes.txt",
        '"""Two',
        f'lines {directive(text="Second.", think=5)}"""',
        "/cost",
        "/nonsense",
        f"Three \\\ngoes on {directive(text='Third.')}",
    ]
    done = await chat(stdin="\n".join(lines).encode())
    assert done.returncode == 0, done.stderr
    printed = done.stdout.decode()
    assert [word for word in ("First.", "Second.", "Third.") if word in printed] == ["First.", "Second.", "Third."]
    assert "2 answers, $0.0001" in printed
    assert "There is no command" in done.stderr.decode()
    bodies = [cast("dict[str, list[object]]", request.body) for request in message_requests(chat.api)]
    assert [len(body["messages"]) for body in bodies] == [1, 3, 5]
    assert "haiku" in str(bodies[1]["model"])
    assert "the notes" in json.dumps(bodies[1])
    assert "Three \\ngoes on" in json.dumps(bodies[2])


async def test_a_model_that_cannot_be_asked_is_refused_at_the_command(chat: ShellCommand) -> None:
    (chat.directory / "notes.txt").write_text("the notes")
    lines = [
        "/model haiku",
        "/file notes.txt",
        "/model gpt",
        "/model",
        f"hi {directive(text='Here.')}",
        "/exit",
        "never",
    ]
    done = await chat(stdin="\n".join(lines).encode())
    assert done.stderr.decode().startswith("There is no model named 'gpt';")
    assert done.stdout.decode().splitlines()[:3] == [
        "model: haiku",
        "With the next message: notes.txt",
        "model: haiku",
    ]
    (request,) = message_requests(chat.api)
    assert "haiku" in str(cast("dict[str, object]", request.body)["model"])
    assert "the notes" in json.dumps(request.body)


async def test_a_file_that_cannot_be_sent_is_not_attached(chat: ShellCommand) -> None:
    (chat.directory / "a.txt").write_text("first")
    (chat.directory / "b.bin").write_bytes(b"\0\1\2")
    lines = ["/file a.txt", "/file absent.txt", "/file b.bin", "/file .env", "/file"]
    done = await chat(stdin="\n".join(lines).encode())
    assert done.stdout.decode().splitlines()[-1] == "With the next message: a.txt"
    assert [word in done.stderr.decode() for word in ("absent.txt", "b.bin", ".env")] == [True] * 3
    assert message_requests(chat.api) == []


async def test_an_error_of_a_message_keeps_the_files_and_says_so(chat: ShellCommand) -> None:
    (chat.directory / "a.txt").write_text("first")
    kept = "Still attached: a.txt (/detach removes them)\n"
    lines = ["/file a.txt", f"One {directive(status=400)}", f"Two {directive(status=401)}", "Three"]
    done = await chat(stdin="\n".join(lines).encode())
    assert done.stderr.decode().count(kept) == 2
    assert "No longer attached" not in done.stderr.decode()
    assert "first" in json.dumps(message_requests(chat.api)[-1].body)


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX's")
async def test_only_the_file_at_fault_is_detached(chat: ShellCommand) -> None:
    from support.pseudo_terminal import pseudo_terminal

    for name in ("a.txt", "b.txt"):
        (chat.directory / name).write_text(f"this is {name}")
    command = server_command("chat", "-f", "a.txt", "-f", "b.txt")
    async with pseudo_terminal(command, chat.environment(), chat.directory) as terminal:
        await terminal.wait_for(lambda lines: lines[-1] == "›")
        (chat.directory / "a.txt").unlink()
        terminal.send("One\r")
        lines = await terminal.wait_for(lambda lines: lines[-1] == "›" and len(lines) > 3)
        assert "No longer attached: a.txt" in lines
        assert "Still attached: b.txt (/detach removes them)" in lines
        terminal.send("Two\r")
        await terminal.wait_for(lambda lines: lines[-1] == "›" and any(line.startswith("[claude") for line in lines))
        terminal.send("\x04")
        assert await terminal.wait() == 0
    (request,) = message_requests(chat.api)
    assert "this is b.txt" in json.dumps(request.body)


async def test_files_are_detached_by_a_command(chat: ShellCommand) -> None:
    for name in ("a.txt", "b.txt"):
        (chat.directory / name).write_text(name)
    lines = ["/file a.txt", "/file b.txt", "/file a.txt", "/detach c.txt", "/detach a.txt", "/detach"]
    done = await chat(stdin="\n".join(lines).encode())
    heading = "With the next message: "
    shown = [line.removeprefix(heading) for line in done.stdout.decode().splitlines()]
    assert shown == ["a.txt", "a.txt, b.txt", "a.txt, b.txt", "b.txt", "no files"]
    assert done.stderr == b"c.txt is not attached. Attached: a.txt, b.txt.\n"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["-m", "gpt"], "There is no model named 'gpt'"),
        (["-f", "absent.txt"], 'There is no "absent.txt"'),
        (["-t", "t_0000000000000000"], "There is no thread with that id"),
    ],
)
async def test_wrong_options_are_refused_before_the_first_message(
    chat: ShellCommand, arguments: list[str], complaint: str
) -> None:
    done = await chat(*arguments, stdin=b"One\n")
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.decode().startswith(complaint)
    assert message_requests(chat.api) == []


async def test_a_text_in_quotation_marks_is_no_command(chat: ShellCommand) -> None:
    done = await chat(stdin=b'"""/etc/hosts is what?"""\n/etc/hosts\n')
    (request,) = message_requests(chat.api)
    assert "/etc/hosts is what?" in json.dumps(request.body)
    assert b"There is no command /etc/hosts." in done.stderr


async def test_a_thread_and_the_latest_conversation_exclude_each_other(chat: ShellCommand) -> None:
    done = await chat("-c", "--thread", "t_0000000000000000", stdin=b"One\n")
    assert (done.returncode, done.stderr) == (2, b"Use --continue or --thread, not both.\n")


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX's")
@pytest.mark.parametrize(("days", "is_stored"), [(30, True), (0, False)])
async def test_typed_lines_are_stored_unless_nothing_is_retained(
    chat: ShellCommand, days: int, *, is_stored: bool
) -> None:
    import pty

    ours, theirs = pty.openpty()
    try:
        os.write(ours, b"/cost\n/exit\n")
        done = await anyio.run_process(
            server_command("chat"), input=None, stdin=theirs, stdout=theirs, env=chat.environment(retention_days=days)
        )
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == 0
    path = chat.data_dir / HISTORY_FILE
    assert path.exists() is is_stored
    assert not is_stored or "/cost" in path.read_text(encoding="utf-8")


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX's")
async def test_ctrl_c_discards_the_typed_line_and_a_stopped_answer_can_be_continued(chat: ShellCommand) -> None:
    from support.pseudo_terminal import pseudo_terminal

    async with pseudo_terminal(server_command("chat"), chat.environment(), chat.directory) as terminal:
        await terminal.wait_for(lambda lines: lines[-1] == "›")
        terminal.send("half a line")
        await terminal.wait_for(lambda lines: lines[-1] == "› half a line")
        terminal.send("\x03")
        await terminal.wait_for(lambda lines: lines[-1] == "›")

        terminal.send("One [[sim: tokens=400 fault=stall at=90]]\r")
        await terminal.wait_for(lambda lines: any(line.startswith("writing") for line in lines))
        terminal.send("\x03")
        lines = await terminal.wait_for(lambda lines: any(line.startswith("[stopped · kept") for line in lines))
        assert any("· thread t_" in line for line in lines)
        terminal.send("Two\r")
        await terminal.wait_for(lambda lines: lines[-1] == "›" and any(line.startswith("[claude") for line in lines))
        terminal.send("\x04")
        assert await terminal.wait() == 0
    bodies = [cast("dict[str, list[object]]", request.body) for request in message_requests(chat.api)]
    assert [len(body["messages"]) for body in bodies] == [1, 3]


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX's")
async def test_an_answer_that_was_stopped_before_its_text_leaves_the_files_attached(chat: ShellCommand) -> None:
    from support.pseudo_terminal import pseudo_terminal

    (chat.directory / "a.txt").write_text("this is a")
    async with pseudo_terminal(server_command("chat", "-f", "a.txt"), chat.environment(), chat.directory) as terminal:
        await terminal.wait_for(lambda lines: lines[-1] == "›")
        terminal.send("One [[sim: tokens=400 fault=stall at=0]]\r")
        await terminal.wait_for(lambda lines: any(line.startswith("thinking") for line in lines))
        terminal.send("\x03")
        await terminal.wait_for(lambda lines: "Still attached: a.txt (/detach removes them)" in lines)
        terminal.send("Two\r")
        await terminal.wait_for(lambda lines: lines[-1] == "›" and any(line.startswith("[claude") for line in lines))
        terminal.send("\x04")
        assert await terminal.wait() == 0
    body = cast("dict[str, list[object]]", message_requests(chat.api)[-1].body)
    assert len(body["messages"]) == 1
    assert "this is a" in json.dumps(body)


async def test_a_new_conversation_has_its_own_cost(chat: ShellCommand) -> None:
    done = await chat(stdin=b"One\n/new\n/cost\n")
    assert b"0 answers, $0" in done.stdout


async def test_the_latest_conversation_is_continued(chat: ShellCommand) -> None:
    await chat(stdin=b"One\n")
    await chat("-c", stdin=b"Two\n")
    latest = cast("dict[str, list[object]]", message_requests(chat.api)[-1].body)
    assert len(latest["messages"]) == 3
