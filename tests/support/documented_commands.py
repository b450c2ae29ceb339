"""The commands of a page of the documentation, run as a reader would paste them.

A fenced block of `sh` runs in the page's first terminal, a bash in which variables live on from block to block. A
comment on the line before it says what is different:

* `<!-- test: serve TEXT -->`: the block runs in a terminal of its own, and keeps running; it is ready when it printed
TEXT
* `<!-- test: expect TEXT -->`: the output contains TEXT
* `<!-- test: exit N -->`: the last command ends with this status instead of 0
* `<!-- test: save NAME -->`: a block of another language is saved as this file
* `<!-- test: skip REASON -->`: the block does not run, for this reason
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from support.process_deadline import killed_after

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FENCE = re.compile(
    r"(?:^ *<!-- test: (?P<test>.*?) -->\n)?^(?P<indent> *)```(?P<language>\w+)\n(?P<text>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)
BLOCK_END = "__end_of_block__"
PASTE_LOOP = """\
trap 'printf "\\n__status__ %s\\n" $?' ERR
while IFS= read -r -d '' -u {commands} block; do eval "$block"; done
"""
"""Runs each block that arrives, and prints the status of each command that fails."""
PORTS = ("8000", "8765")
"""The ports that the documentation names; a free one takes the place of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandBlock:
    """A fenced block: its text, its language, and what the comment before it asks for (`action` and `argument`)."""

    page: str
    line: int
    language: str
    text: str
    action: str = ""
    argument: str = ""

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"


def read_blocks(page: Path) -> list[CommandBlock]:
    """Every fenced block of a page that has a language, in order."""
    text = page.read_text(encoding="utf-8")
    blocks: list[CommandBlock] = []
    for found in FENCE.finditer(text):
        action, _, argument = (found["test"] or "").partition(" ")
        indent = found["indent"]
        blocks.append(
            CommandBlock(
                page=page.name,
                line=text.count("\n", 0, found.start("language")) + 1,
                language=found["language"],
                text="\n".join(line.removeprefix(indent) for line in found["text"].splitlines()),
                action=action,
                argument=argument,
            )
        )
    return blocks


class PageTerminals:
    """The terminals of a reader who follows a page. Leaving ends every process that was started in them."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        self._directory = directory
        self._environment = dict(environment)
        self._ports = {port: _free_port() for port in PORTS}
        self._servers: list[_Terminal] = []
        self._shell = _Terminal(self._directory, self._environment)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for terminal in (*self._servers, self._shell):
            terminal.close()

    def run(self, block: CommandBlock) -> str:
        """Run a block and return what it printed. AssertionError: it did not do what the page says."""
        if block.action == "save":
            (self._directory / block.argument).write_text(block.text + "\n", encoding="utf-8")
            return ""
        if block.action == "serve":
            return self._serve(block)
        printed, statuses = self._paste(block)
        wanted = [int(block.argument)] if block.action == "exit" else []
        assert statuses == wanted, (block.where, statuses, printed)
        if block.action == "expect":
            assert block.argument in printed, (block.where, printed)
        return printed

    def _paste(self, block: CommandBlock) -> tuple[str, list[int]]:
        """The output of a block and the status of each command in it that failed."""
        self._shell.paste(f"{self._with_free_ports(block.text)}\necho; echo {BLOCK_END}")
        lines: list[str] = []
        statuses: list[int] = []
        with killed_after(self._shell.process):
            for line in self._shell.output:
                if line.strip() == BLOCK_END:
                    return "".join(lines), statuses
                if failed := re.fullmatch(r"__status__ (\d+)\n", line):
                    statuses.append(int(failed[1]))
                else:
                    lines.append(line)
        raise AssertionError((block.where, "the shell ended", lines))

    def _serve(self, block: CommandBlock) -> str:
        """Start a server in a terminal of its own and wait until it printed what makes it ready."""
        terminal = _Terminal(self._directory, self._environment)
        self._servers.append(terminal)
        terminal.paste(self._with_free_ports(block.text) + "\nexit")
        lines: list[str] = []
        with killed_after(terminal.process):
            for line in terminal.output:
                lines.append(line)
                if block.argument in line:
                    return "".join(lines)
        raise AssertionError((block.where, "the server ended", lines))

    def _with_free_ports(self, text: str) -> str:
        text = text.replace("serve --http", f"serve --http --port {self._ports['8000']}")
        for port, free in self._ports.items():
            text = re.sub(rf"(?<=[: ]){port}\b", free, text)
        return text


class _Terminal:
    """A bash with an empty standard input, since `ask` reads one that is no terminal."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        commands, self._commands = os.pipe()
        self.process = subprocess.Popen(
            ["/usr/bin/env", "bash", "--noprofile", "--norc", "-c", PASTE_LOOP.format(commands=commands)],
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(commands,),
            encoding="utf-8",
            start_new_session=True,
        )
        os.close(commands)
        assert self.process.stdout is not None
        self.output = self.process.stdout

    def paste(self, text: str) -> None:
        os.write(self._commands, text.encode() + b"\0")

    def close(self) -> None:
        os.close(self._commands)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        with killed_after(self.process):
            self.process.communicate()


def _free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return str(free.getsockname()[1])
