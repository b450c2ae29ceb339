"""`/chat`, read by other people's readers of server-sent events."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mcp_server_claude.simulator import directive

if TYPE_CHECKING:
    from collections.abc import Callable

PROGRAMS = Path(__file__).with_name("programs")
READER_TIMEOUT_S = 300
TEXT = "A line\n\nand another: ¿ça va? 😀\n  indented\n" * 40 + "data: no field\n:no comment\r\nthe end"
BODY = json.dumps({"message": f"Go. {directive(text=TEXT, chars=7)}"})


def run_reader(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=READER_TIMEOUT_S, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def check_report(printed: str) -> None:
    report: dict[str, Any] = json.loads(printed)
    assert report["text"] == TEXT.replace("\r\n", "\n")
    assert report["names"][0] == "start"
    assert report["names"][-1] == "done"


@pytest.mark.parametrize("library", ["eventsource-parser", "eventsource", "fetch-event-source"])
def test_a_javascript_reader_gets_the_complete_answer(
    library: str, install: Callable[..., Path], node: str, http_url: str
) -> None:
    folder = install(library)
    program = shutil.copy(PROGRAMS / "chat_reader.mjs", folder)  # modules are looked up beside the program
    check_report(run_reader(node, str(program), library, f"{http_url}/chat", BODY))


def test_httpx_sse_gets_the_complete_answer(install: Callable[..., Path], http_url: str) -> None:
    python = install("httpx-sse", "python")
    check_report(run_reader(str(python), str(PROGRAMS / "chat_reader.py"), f"{http_url}/chat", BODY))


@pytest.mark.parametrize("accept", ["text/plain", "text/event-stream"])
def test_curl_gets_the_complete_answer(
    accept: str, http_url: str, record_property: Callable[[str, object], None]
) -> None:
    record_property("party", "curl")
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not installed")
    headers = ("-H", "Content-Type: application/json", "-H", f"Accept: {accept}")
    printed = run_reader(curl, "-sSN", f"{http_url}/chat", *headers, "-d", BODY)
    if accept == "text/plain":
        assert printed == TEXT.replace("\r\n", "\n")  # as Python reads lines
    else:
        assert printed.startswith("id: c_")
        assert "\nevent: done\n" in printed
