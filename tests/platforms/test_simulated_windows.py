r"""The command as a whole on a simulated Windows: paths of `C:\`, code page 1252, no signals and no POSIX."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, cast

import anyio
import anyio.to_thread
import httpx2
import pytest

from support import simulated_windows
from support.http_server import NO_TLS
from support.mcp_session import FAKE_KEY
from support.simulated_windows import SIGBREAK, windows_path
from support.simulator_requests import message_requests
from support.stdio_process import EXCHANGE_TIMEOUT_S, stdio_process, tool_call

if TYPE_CHECKING:
    from pathlib import Path

    from mcp_server_claude.simulator import Simulator

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.sqlite_only,
    pytest.mark.skipif(sys.platform != "linux", reason="The simulation reads /proc."),
]

IMPORT_EVERYTHING = """
import importlib, pkgutil, sys
import mcp_server_claude
names = [module.name for module in pkgutil.walk_packages(mcp_server_claude.__path__, "mcp_server_claude.")]
for name in names:
    importlib.import_module(name)
print(len(names), sys.platform)
"""
STALLED = "Count. [[sim: tokens=50 fault=stall at=20]]"


@dataclass(frozen=True)
class WindowsCommand:
    """Runs `mcp-server-claude` in the directory `here` of a user whose profile is `home`."""

    api: Simulator
    home: Path

    @property
    def here(self) -> Path:
        return self.home / "Documents"

    def environment(self, **fields: object) -> dict[str, str]:
        return simulated_windows.environment(self.home, **{"api_key": FAKE_KEY, "base_url": self.api.url} | fields)

    async def __call__(self, *arguments: str, stdin: str = "", **fields: object) -> tuple[int, str, str]:
        """The exit code, and what the command wrote to its two outputs."""
        done = await anyio.run_process(
            simulated_windows.command(*arguments),
            input=stdin.encode(simulated_windows.CODE_PAGE),
            check=False,
            cwd=self.here,
            env=self.environment(**fields),
        )
        stdout, stderr = (each.decode(simulated_windows.CODE_PAGE) for each in (done.stdout, done.stderr))
        assert "Traceback" not in stderr, stderr
        return done.returncode, stdout, stderr


@pytest.fixture
def windows(upstream: Simulator, tmp_path: Path) -> WindowsCommand:
    command = WindowsCommand(upstream, tmp_path / "ada")
    command.here.mkdir(parents=True)
    return command


async def test_every_module_of_the_package_can_be_imported(windows: WindowsCommand) -> None:
    code, stdout, stderr = await windows("-c", IMPORT_EVERYTHING)
    assert code == 0, stderr
    count, platform = stdout.split()
    assert int(count) > 300
    assert platform == "win32"


@pytest.mark.slow
async def test_the_help_and_the_doctor_are_printed_in_the_code_page(windows: WindowsCommand) -> None:
    code, stdout, _ = await windows("--help")
    assert code == 0
    assert "\r\n  ask " in stdout
    code, stdout, stderr = await windows("doctor")
    assert code == 0, stdout + stderr
    assert rf"{windows_path(windows.home)}\AppData\Local\mcp-server-claude\mcp-server-claude" in stdout
    assert "answers over stdio" in stdout


@pytest.mark.slow
async def test_a_question_with_a_file_is_answered_and_its_thread_and_cost_are_listed(windows: WindowsCommand) -> None:
    (windows.here / "Notes.md").write_text("the text of the notes", encoding="utf-8")
    code, stdout, stderr = await windows("ask", "Summarize… 🙂", "-f", r".\notes.MD")
    assert code == 0, stderr
    assert stdout.strip()
    (request,) = message_requests(windows.api)
    assert "the text of the notes" in json.dumps(request.body)

    code, stdout, stderr = await windows("threads", "list")
    assert code == 0, stderr
    assert "Summarize… ?" in stdout  # what the code page lacks
    thread = next(word for word in stdout.split() if word.startswith("t_"))
    code, _, stderr = await windows("threads", "export", thread, r"..\thread.md")
    assert code == 0, stderr
    assert "Summarize… 🙂" in (windows.home / "thread.md").read_text(encoding="utf-8")

    code, stdout, stderr = await windows("usage", "--csv", "--time-zone", "Europe/Berlin")
    assert code == 0, stderr
    assert "claude-" in stdout


@pytest.mark.parametrize("ending", ["jsonl", pytest.param("csv", marks=pytest.mark.slow)])
async def test_a_mapped_file_holds_what_was_written_and_is_replaced_by_the_next_run(
    ending: str, windows: WindowsCommand
) -> None:
    (windows.here / "rows.csv").write_bytes(b"name\r\nOne\r\nTwo\r\n")
    for _ in range(2):
        code, _, stderr = await windows(
            "map", "Say {name}", r"ROWS.csv", "-o", rf"{windows_path(windows.here)}\out.{ending}"
        )
        assert code == 0, stderr
    output = (windows.here / f"out.{ending}").read_bytes()
    if ending == "jsonl":
        assert b"\r" not in output
        assert [json.loads(line)["input"] for line in output.splitlines()] == [{"name": "One"}, {"name": "Two"}]
    else:
        assert output.startswith(b"item,input,state,")
        assert b"\r\r" not in output
    assert sorted(each.name for each in windows.here.iterdir()) == [f"out.{ending}", "rows.csv"]


async def test_a_session_over_stdio_answers_and_cancels_calls_and_ends_with_stdin(
    windows: WindowsCommand, tmp_path: Path
) -> None:
    async with stdio_process(
        tmp_path / "unused", command=simulated_windows.command()[1:], environment=windows.environment()
    ) as stdio:
        await stdio.initialize()
        await stdio.send(tool_call(1, "Say hello."))
        answer = await stdio.read_response(1)
        assert "result" in answer
        assert not cast("dict[str, object]", answer["result"]).get("isError")

        await stdio.send(tool_call(2, STALLED))
        while len(message_requests(windows.api)) < 2:
            await stdio.read_message()
        await stdio.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 2}})
        await windows.api.wait_until_idle()
        assert [record.end for record in message_requests(windows.api)][1:] == ["disconnected"]

        await stdio.send(tool_call(3, STALLED))
        while len(message_requests(windows.api)) < 3:
            await stdio.read_message()
        stdio.close_stdin()
        assert await stdio.wait_for_exit() == 0
        await windows.api.wait_until_idle()
    assert "Traceback" not in stdio.stderr.read_text()


async def test_the_http_server_answers_and_finishes_a_call_after_ctrl_break(windows: WindowsCommand) -> None:
    process = subprocess.Popen(  # noqa: ASYNC220 - it takes a millisecond
        simulated_windows.command("serve", "--http", "--port", "0"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=windows.environment(reader_grace_s=60),
    )
    try:
        with anyio.fail_after(EXCHANGE_TIMEOUT_S):
            line = await anyio.to_thread.run_sync(cast("IO[bytes]", process.stdout).readline)
            url = line.split()[3].decode()
            async with (
                httpx2.AsyncClient(base_url=url, timeout=None, trust_env=False, verify=NO_TLS) as client,
                client.stream("POST", "/chat", json={"message": "Say hello. [[sim: tokens=200 pace=400]]"}) as response,
            ):
                assert response.status_code == 200
                chunks = response.aiter_bytes()
                received = await anext(chunks)
                os.kill(process.pid, SIGBREAK)
                received += b"".join([chunk async for chunk in chunks])
            assert b"event: done" in received
            assert await anyio.to_thread.run_sync(process.wait) == 0
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
async def test_a_port_in_use_is_the_reason_for_not_listening(windows: WindowsCommand) -> None:
    code, _, stderr = await windows("serve", "--http", "--port", windows.api.url.rpartition(":")[2])
    assert code == 78
    assert "Address already in use. Choose another one with --port." in " ".join(stderr.split())


@pytest.mark.slow
async def test_ctrl_c_ends_a_question_with_its_exit_code_and_the_text_so_far_is_in_the_journal(
    windows: WindowsCommand,
) -> None:
    process = subprocess.Popen(  # noqa: ASYNC220 - it takes a millisecond
        simulated_windows.command("ask", STALLED),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=windows.here,
        env=windows.environment(),
    )
    try:
        with anyio.fail_after(EXCHANGE_TIMEOUT_S):
            await anyio.to_thread.run_sync(cast("IO[bytes]", process.stdout).read, 1)
            process.send_signal(signal.SIGINT)
            assert await anyio.to_thread.run_sync(process.wait) == 130
    finally:
        process.kill()
        _, stderr = process.communicate()
    assert b"Traceback" not in stderr, stderr
    await windows.api.wait_until_idle()


@pytest.mark.slow
async def test_the_file_of_a_client_is_written_below_appdata(windows: WindowsCommand) -> None:
    code, _, stderr = await windows("config", "claude-desktop", "--write")
    assert code == 0, stderr
    path = windows.home / "AppData" / "Roaming" / "Claude" / "claude_desktop_config.json"
    written = json.loads(path.read_text(encoding="utf-8"))
    assert written["mcpServers"]["claude"]["command"].startswith("C:\\")
