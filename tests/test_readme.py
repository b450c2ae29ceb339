"""The commands of the README, pasted in its order into a shell with an empty home in a fresh clone.

Claude Code and the Inspector are stood in for by a script that starts or calls what the README names, through a real
MCP
client: whether the line works is a matter of the command, the paths and the key in it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import anyio.to_thread
import pytest

from mcp_server_claude.simulator import Pace, Simulator
from support.process_deadline import IMPATIENT_PIP, killed_after

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHELL_BLOCK = re.compile(r"^ *```sh\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
SERVE = ".venv/bin/mcp-server-claude serve --http"
STAND_IN = """\
#!{python}
import asyncio, sys
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
import httpx2

async def main(words):
    env = dict(words[i + 1].split("=", 1) for i, word in enumerate(words) if word == "-e")
    assert all(env.values()), env
    if "--transport" in words:
        url = next(word for word in words if word.startswith("http://"))
        name, _, value = words[words.index("--header") + 1].partition(": ")
        http = httpx2.AsyncClient(headers={{name: value}}, timeout=30)
        transport = streamable_http_client(url, http_client=http)
    else:
        command = next(word for word in words if word.endswith("/mcp-server-claude"))
        transport = stdio_client(StdioServerParameters(command=command, env={{**__import__("os").environ, **env}}))
    async with Client(transport) as client:
        print("tools:", *[tool.name for tool in (await client.list_tools()).tools])
        if "tools/call" in words:
            name, _, value = words[words.index("--tool-arg") + 1].partition("=")
            result = await client.call_tool(words[words.index("--tool-name") + 1], {{name: value}})
            assert not result.is_error, result
            print("answer:", result.content[0].text)

asyncio.run(main(sys.argv[1:]))
"""


def shell_blocks() -> list[str]:
    return [block.replace("\n  ", "\n").lstrip() for block in SHELL_BLOCK.findall(README)]


def test_no_pasted_line_has_a_comment_or_an_angle_bracket() -> None:
    """An interactive zsh, macOS's shell, takes `#` for an argument; every shell takes `<…>` for a redirection."""
    for block in shell_blocks():
        assert not re.search(r"(^|\s)#|<[^<]*>", block), block


def test_the_configuration_for_a_project_is_what_config_prints() -> None:
    from mcp_server_claude.cli.client_config import client_configuration

    (block,) = re.findall(r"```json\n(.*?)```", README, re.DOTALL)
    assert json.loads(block) == client_configuration("claude-code", ["/absolute/path/to/.venv/bin/mcp-server-claude"])


def test_every_name_in_the_readme_exists() -> None:
    for path in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / path).exists(), path


class PastedShell:
    """A session in which variables live on from block to block. The server runs on a free port instead of 8000."""

    def __init__(self, clone: Path, environment: dict[str, str]) -> None:
        self.environment = environment
        self._clone = clone
        self._variables: list[str] = []
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = str(free.getsockname()[1])
        self.server: subprocess.Popen[str] | None = None

    def paste(self, block: str) -> str:
        """Run a block. Returns what it printed; it must succeed, but for a doctor that finds no key yet."""
        lines, is_server = block.replace(":8000", f":{self._port}").strip(), SERVE in block
        if is_server:
            lines = lines.replace(SERVE, f'echo "TOKEN=$TOKEN"\nexec {SERVE} --port {self._port}')
        process = subprocess.Popen(
            ["/bin/sh", "-c", "\n".join(["set -e", *self._variables, lines])],
            cwd=self._clone,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            start_new_session=True,
        )
        self._variables += [line for line in lines.splitlines() if line.startswith("export ")]
        if is_server:
            self.server = process
            with killed_after(process):
                return self._read_until_listening(process)
        with killed_after(process):
            printed, _ = process.communicate()
        assert process.returncode == ("doctor" in block), (block, printed)
        return printed

    def _read_until_listening(self, process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        printed = ""
        for line in process.stdout:
            printed += line
            if line.startswith("TOKEN="):
                self._variables.append(line.strip())
            if line.startswith("Claude Code: "):
                return printed
        raise AssertionError(printed)


@pytest.fixture
def pasted(tmp_path: Path) -> Iterator[PastedShell]:
    clone, home, tools = tmp_path / "mcp-server-claude", tmp_path / "home", tmp_path / "tools"
    shutil.copytree(
        ROOT, clone, ignore=shutil.ignore_patterns(".venv", ".git", "__pycache__", "node_modules", ".*_cache")
    )
    home.mkdir()
    tools.mkdir()
    for name in ("claude", "npx"):
        (tools / name).write_text(STAND_IN.format(python=sys.executable), encoding="utf-8")
        (tools / name).chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "UV_", "LANG"))}
    shell = PastedShell(clone, {**kept, **IMPATIENT_PIP, "PATH": f"{tools}:{os.environ['PATH']}", "HOME": str(home)})
    try:
        yield shell
    finally:
        if shell.server is not None:
            shell.server.send_signal(signal.SIGINT)
            with killed_after(shell.server):
                shell.server.communicate()


@pytest.mark.slow
@pytest.mark.anyio
@pytest.mark.skipif(sys.platform == "win32", reason="the lines are for a POSIX shell")
async def test_each_command_works_as_pasted_in_order(pasted: PastedShell) -> None:
    async with Simulator(pace=Pace(ttft_s=0, tokens_per_s=0)) as api:
        pasted.environment["MCP_CLAUDE_BASE_URL"] = api.url  # what the reader does not have: an API that costs nothing
        printed = [await anyio.to_thread.run_sync(pasted.paste, block) for block in shell_blocks()]

    everything = "\n".join(printed)
    assert "read back with claude_jobs" in printed[0]
    assert "Set MCP_CLAUDE_API_KEY" in everything
    assert everything.count("tools: claude_ask") == 4
    assert "answer: " in everything
    assert "event: done" in printed[-1] or "data:" in printed[-1]
