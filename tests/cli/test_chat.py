"""`mcp-server-claude chat` with its lines from a pipe, against the simulator."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

import pytest

from mcp_server_claude.simulator import directive
from support.shell_command import ShellCommand, shell_command
from support.simulator_requests import message_requests

if TYPE_CHECKING:
    from pathlib import Path

    from mcp_server_claude.simulator import Simulator

pytestmark = pytest.mark.anyio


@pytest.fixture
def chat(upstream: Simulator, tmp_path: Path) -> ShellCommand:
    return shell_command(upstream, tmp_path, "chat")


async def test_a_conversation_goes_on_until_the_input_ends(chat: ShellCommand) -> None:
    (chat.directory / "notes.txt").write_text("the notes")
    lines = [
        f"One {directive(text='First.')}",
        "/model haiku",
        "/file notes.txt",
        '"""Two',
        f'lines {directive(text="Second.")}"""',
        "/cost",
        "/nonsense",
        f"Three \\\ngoes on {directive(text='Third.')}",
    ]
    done = await chat(stdin="\n".join(lines).encode())
    assert done.returncode == 0, done.stderr
    printed = done.stdout.decode()
    assert [word for word in ("First.", "Second.", "Third.") if word in printed] == ["First.", "Second.", "Third."]
    assert "2 answers, <$0.0001" in printed
    assert "There is no command" in done.stderr.decode()
    bodies = [cast("dict[str, list[object]]", request.body) for request in message_requests(chat.api)]
    assert [len(body["messages"]) for body in bodies] == [1, 3, 5]
    assert "haiku" in str(bodies[1]["model"])
    assert "the notes" in json.dumps(bodies[1])
    assert "Three \\ngoes on" in json.dumps(bodies[2])


async def test_after_an_error_the_conversation_goes_on(chat: ShellCommand) -> None:
    done = await chat(stdin=f"/model gpt\nhi\n/model haiku\nhi {directive(text='Here.')}\n/exit\nnever".encode())
    assert b"'gpt'" in done.stderr
    assert b"Here." in done.stdout
    assert len(message_requests(chat.api)) == 1


async def test_the_latest_conversation_is_continued(chat: ShellCommand) -> None:
    await chat(stdin=b"One\n")
    await chat("-c", stdin=b"Two\n")
    latest = cast("dict[str, list[object]]", message_requests(chat.api)[-1].body)
    assert len(latest["messages"]) == 3
