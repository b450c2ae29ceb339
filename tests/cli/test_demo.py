"""The demo, as someone sees it who has just cloned the repository."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from mcp_server_claude.cli.demo.terminal_screens import PanelAnswerView, PanelScreen, PlainScreen
from mcp_server_claude.simulator import Pace, Simulator
from support.server_command import server_command

POSIX = pytest.mark.skipif(os.name != "posix", reason="Ctrl-C is a signal on POSIX only")


def environment(home: Path, **more: str) -> dict[str, str]:
    """A machine on which nothing is set, and a directory of its own for temporary files."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("ANTHROPIC_", "MCP_"))}
    return clean | {"HOME": str(home), "TMPDIR": str(home)} | more


def start_demo(home: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        server_command("demo", *arguments, real=True),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env=environment(home),
    )


def read_until(process: subprocess.Popen[str], words: str) -> str:
    """What the process has written when those words are complete."""
    assert process.stdout is not None
    output = ""
    while words not in output:
        character = process.stdout.read(1)
        assert character, f"it ended before: {output}"
        output += character
    return output


def children(pid: int) -> list[int]:
    """The processes that a process has started, and theirs; on Linux."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    direct = [int(child) for child in path.read_text().split()] if path.exists() else []
    return [*direct, *(each for child in direct for each in children(child))]


@pytest.mark.slow
def test_without_a_terminal_the_text_streams_and_both_usages_are_printed(tmp_path: Path) -> None:
    with start_demo(tmp_path) as process:
        early = read_until(process, "Through four ")
        assert process.poll() is None
        servers = children(process.pid)
        late, errors = process.communicate()

    assert process.returncode == 0
    assert errors == ""
    assert "price" not in early
    assert "\x1b" not in early + late
    answer, _, rest = late.partition("cancelled half-way")
    assert "of hands, a few letters at a time.\n\n1. **Your editor** calls the tool `claude_ask`" in answer
    for fact in ("model ", "tokens ", "cost ", "first text after "):
        assert fact in answer
        assert fact in rest
    assert "… [cancelled]" in rest
    assert "with notifications/cancelled" in rest
    assert " ms after the cancel" in rest
    assert "characters, read back with claude_jobs" in rest
    assert " out\n" in rest
    assert "~$" in rest
    assert "mcp-server-claude doctor" in rest.splitlines()[-1]
    assert not any(Path(f"/proc/{pid}").exists() for pid in servers)
    assert list(tmp_path.glob("mcp-server-claude-demo-*")) == []


@pytest.mark.slow
@POSIX
def test_ctrl_c_ends_the_demo_at_once_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with start_demo(tmp_path, "--prompt", "What is a monad?") as process:
        read_until(process, "You asked: “What ")
        servers = children(process.pid)
        process.send_signal(signal.SIGINT)
        late, errors = process.communicate()

    assert process.returncode == 130
    assert errors == ""
    assert late.rstrip().endswith("… [interrupted]")
    assert servers or sys.platform != "linux"
    assert not any(Path(f"/proc/{pid}").exists() for pid in servers)
    assert list(tmp_path.glob("mcp-server-claude-demo-*")) == []


@pytest.mark.slow
@POSIX
def test_in_a_browser_the_demo_is_the_real_server_and_deletes_its_data(tmp_path: Path) -> None:
    with start_demo(tmp_path, "--http", "--port", "0") as process:
        output = read_until(process, "ends it)")
        (url,) = re.findall(r"listens on (http://127\.0\.0\.1:\d+)", output)
        question, accept = {"message": "What is tea?"}, {"Accept": "text/plain"}
        answer = httpx2.post(f"{url}/chat", json=question, headers=accept, timeout=None)
        servers = children(process.pid)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()

    assert output.startswith("No key, no network: the API is simulated")
    assert "tea" in answer.text
    assert process.returncode == 0
    assert errors == ""
    assert servers or sys.platform != "linux"
    assert not any(Path(f"/proc/{pid}").exists() for pid in servers)
    assert list(tmp_path.glob("mcp-server-claude-demo-*")) == []


def test_in_a_browser_nothing_is_sent_to_the_real_api(tmp_path: Path) -> None:
    with start_demo(tmp_path, "--http", "--live") as process:
        _, errors = process.communicate()
    assert process.returncode == 2
    assert "the pages ask the simulated API" in errors


@pytest.mark.slow
def test_a_closed_pipe_causes_no_traceback(tmp_path: Path) -> None:
    with start_demo(tmp_path) as process:
        read_until(process, "\n")
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        errors = process.stderr.read()

    assert process.returncode == 1
    assert errors == ""


def test_live_without_a_key_is_an_error_in_one_sentence(tmp_path: Path) -> None:
    done = subprocess.run(
        server_command("demo", "--live"), check=False, capture_output=True, encoding="utf-8", env=environment(tmp_path)
    )

    assert done.returncode == 78
    assert done.stdout == ""
    assert done.stderr == ("--live needs a key: set MCP_CLAUDE_API_KEY or ANTHROPIC_API_KEY, or leave --live out.\n")


@given(pieces=st.lists(st.text()))
def test_in_plain_output_the_pieces_joined_are_the_text(pieces: list[str]) -> None:
    file = io.StringIO(newline="")
    with PlainScreen(Console(file=file)).show_answer("tool", "prompt") as page:
        for piece in pieces:
            page.write(piece)

    assert file.getvalue() == f"tool\n> prompt\n\n{''.join(pieces)}\n\n"


def test_in_plain_output_a_word_waits_until_it_is_complete() -> None:
    file = io.StringIO()
    with PlainScreen(Console(file=file)).show_answer("tool", "prompt") as page:
        page.write("strea")
        assert not file.getvalue().endswith("strea")
        page.write("ming is")
        assert file.getvalue().endswith("streaming ")


def panel_lines(growing: PanelAnswerView, width: int = 60) -> list[str]:
    """The lines of the panel as it stands."""
    console = Console(width=width, file=io.StringIO())
    return ["".join(segment.text for segment in line).rstrip() for line in console.render_lines(growing)]


def test_in_a_panel_no_unclosed_marker_is_shown() -> None:
    growing = PanelAnswerView(60, 20)
    growing.write("It is **bo")
    growing.write("ld and ")
    assert "It is bold and" in "".join(panel_lines(growing))
    growing.write("brave.** `Ne")
    assert "It is bold and brave." in "".join(panel_lines(growing))
    assert not {"*", "`"} & set("".join(panel_lines(growing)))


def test_in_a_panel_code_is_rendered_before_its_fence_is_closed() -> None:
    growing = PanelAnswerView(60, 20)
    growing.write("```python\nx = 1\n\ny = 2\n\n")
    assert "y = 2" in "".join(panel_lines(growing))
    assert "```" not in "".join(panel_lines(growing))


@given(text=st.text(), height=st.integers(6, 30))
def test_a_panel_fits_the_terminal(text: str, height: int) -> None:
    growing = PanelAnswerView(60, height)
    growing.write("A paragraph of some length, so that there are many lines.\n\n" * 20)
    growing.write(text)

    assert len(panel_lines(growing)) <= height


def test_a_cut_panel_shows_the_reason() -> None:
    file = io.StringIO()
    with PanelScreen(Console(file=file, width=60)).show_answer("tool", "prompt") as page:
        page.write("Half a sent")
        page.mark_incomplete("cancelled")

    assert "Half a sent…" in file.getvalue()
    assert "─ cancelled ─" in file.getvalue()


@pytest.mark.slow
@pytest.mark.anyio
async def test_live_calls_the_api_of_the_key(tmp_path: Path) -> None:
    async with Simulator(key="sk-ant-fake", pace=Pace(tokens_per_s=200)) as api:
        variables = environment(tmp_path, MCP_CLAUDE_API_KEY="sk-ant-fake", MCP_CLAUDE_BASE_URL=api.url)
        done = await anyio.run_process(server_command("demo", "--live", "--prompt", "What is a monad?"), env=variables)

    path = done.stdout.decode()
    assert "API        the real one" in path
    assert "You asked: “What is a monad?”." in path
    assert "characters, read back with claude_jobs" in path
    assert [record.end for record in api.requests if record.path == "/v1/messages"] == ["complete", "disconnected"]


@pytest.mark.slow
@pytest.mark.anyio
async def test_live_with_a_rejected_key_shows_the_reason(tmp_path: Path) -> None:
    async with Simulator(key="sk-ant-another") as api:
        variables = environment(tmp_path, MCP_CLAUDE_API_KEY="sk-ant-fake", MCP_CLAUDE_BASE_URL=api.url)
        done = await anyio.run_process(server_command("demo", "--live"), check=False, env=variables)

    assert done.returncode == 78
    assert "does not accept the API key" in done.stdout.decode()
    assert b"Traceback" not in done.stdout + done.stderr
