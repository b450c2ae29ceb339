"""Text in other encodings than UTF-8, binary data and broken characters, as input of each command that sends text."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

import pytest

from mcp_server_claude.simulator import directive
from support.shell_command import ShellCommand, shell_command
from support.simulator_requests import message_requests

if TYPE_CHECKING:
    from pathlib import Path

    from mcp_server_claude.simulator import Simulator

pytestmark = pytest.mark.anyio

TEXTS = {
    "utf-8": "Où est le café ?".encode(),
    "utf-8-sig": "Où est le café ?".encode("utf-8-sig"),
    "utf-16": "Où est le café ?".encode("utf-16"),
    "latin-1": "Où est le café ?".encode("latin-1"),
}
REFUSED = {
    "a zero": b"tea\0milk",
    "half a character": b"tea " + "€".encode()[:2],
    "a program": b"\x7fELF\x02\x01\x01\0\0",
}


@pytest.fixture
def commands(upstream: Simulator, tmp_path: Path) -> ShellCommand:
    return shell_command(upstream, tmp_path)


def sent_texts(api: Simulator) -> str:
    return json.dumps([request.body for request in message_requests(api)], ensure_ascii=False)


@pytest.mark.parametrize("data", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("words", [("ask", "-q"), ("ask", "-q", "Translate"), ("map", "-q", "Translate {item}")])
async def test_text_is_decoded_like_a_file(commands: ShellCommand, words: tuple[str, ...], data: bytes) -> None:
    done = await commands(*words, stdin=data)
    assert done.returncode == 0, done.stderr
    assert "Où est le café ?" in sent_texts(commands.api)
    assert "\ufeff" not in sent_texts(commands.api)


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize(
    "words", [("ask", "-q"), ("ask", "-q", "Translate"), ("map", "-q", "Translate {item}"), ("chat",)]
)
async def test_what_is_no_text_on_stdin_is_refused(commands: ShellCommand, words: tuple[str, ...], data: bytes) -> None:
    done = await commands(*words, stdin=data)
    assert done.returncode == (0 if words == ("chat",) else 2)
    assert b"stdin" in done.stderr or b"The prompt is not UTF-8 text. Nothing was sent." in done.stderr
    assert message_requests(commands.api) == []


async def test_an_image_on_stdin_is_sent_without_a_prompt(commands: ShellCommand) -> None:
    gif = b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff!\xf9\x04\0\0\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;"
    done = await commands("ask", "-q", stdin=gif)
    assert done.returncode == 0, done.stderr
    assert "image/gif" in sent_texts(commands.api)


async def test_blank_lines_on_stdin_are_no_file(commands: ShellCommand) -> None:
    done = await commands("ask", "-q", f"Hello {directive(text='Hi.')}", stdin=b"\n\n")
    assert (done.returncode, done.stdout) == (0, b"Hi.\n")


async def test_a_line_separator_does_not_end_an_item(commands: ShellCommand) -> None:
    done = await commands("map", "-q", "Translate {item}", stdin="one\u2028item\nanother\x0cone\r\n".encode())
    assert [json.loads(line)["input"] for line in done.stdout.splitlines()] == ["one\u2028item", "another\x0cone"]


async def test_a_line_of_a_conversation_that_is_no_text_is_refused_and_the_next_is_sent(commands: ShellCommand) -> None:
    done = await commands("chat", stdin="caf\xe9\n".encode("latin-1") + f"Hello {directive(text='Hi.')}\n".encode())
    assert b"The prompt is not UTF-8 text. Nothing was sent.\n" in done.stderr
    assert done.stdout.startswith(b"Hi.")
    assert len(message_requests(commands.api)) == 1


async def test_the_mark_at_the_beginning_of_piped_lines_is_not_sent(commands: ShellCommand) -> None:
    done = await commands("chat", stdin="/model\n".encode("utf-8-sig"))
    assert done.stdout == b"model: sonnet\n"


@pytest.mark.skipif(sys.platform == "win32", reason="arguments are UTF-16 there")
@pytest.mark.parametrize("words", [("ask", "PROMPT"), ("ask", "Hi", "-s", "PROMPT"), ("map", "PROMPT")])
async def test_an_argument_that_is_no_text_is_refused(commands: ShellCommand, words: tuple[str, ...]) -> None:
    arguments = [os.fsdecode(b"caf\xe9") if word == "PROMPT" else word for word in words]
    done = await commands(*arguments, stdin=b"tea\n" if words[0] == "map" else b"")
    assert done.returncode == 2
    assert b" is not UTF-8 text. Nothing was sent.\n" in done.stderr
    assert message_requests(commands.api) == []
