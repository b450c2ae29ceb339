"""What the server says to its operator on stderr: a line for each call, without its text."""

from __future__ import annotations

import json
import logging
import sys
from typing import TYPE_CHECKING, Any, cast

import pytest

from mcp_server_claude.telemetry.stderr_logging import JsonFormatter, RedactingFormatter
from support.http_server import http_server_process
from support.mcp_session import FAKE_KEY, connect, failure_meta, usage_meta
from support.stdio_process import stdio_process, tool_call

if TYPE_CHECKING:
    from pathlib import Path

    from mcp_server_claude.simulator import Simulator

pytestmark = pytest.mark.anyio

SECRET = "the-cat-is-called-Brunhilde"


def lines(stderr: Path) -> list[dict[str, Any]]:
    """Every line of a log in JSON."""
    return [json.loads(line) for line in stderr.read_text().splitlines()]


async def test_each_call_is_logged_in_one_line(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("stdio", "auto", tmp_path / "data", base_url=upstream.url) as session:
        record = usage_meta(await session.ask("Hello."))
        await session.ask("[[sim: status=400]] Hello.")
    first, second = [line for line in session.stderr.read_text().splitlines() if "mcp_server_claude.call" in line]
    assert f"claude_ask {record['call_id']} {record['model']}: complete" in first
    assert "failed (invalid_request)" in second


async def test_in_json_the_line_is_the_usage_of_the_call(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("stdio", "auto", tmp_path / "data", base_url=upstream.url, log_format="json") as session:
        record = usage_meta(await session.ask("Hello."))
        refused = failure_meta(await session.ask("[[sim: status=400]] Hello."))
    first, second = [line for line in lines(session.stderr) if line["event"] == "call"]
    both = set(first) & set(record)
    assert both >= {"call_id", "model", "input_tokens", "output_tokens", "cost_usd", "ttft_s", "duration_s", "user"}
    assert {name: first[name] for name in both} == {name: record[name] for name in both} | {"trace_id": None}
    assert (first["end"], first["level"], first["tool"], first["client"]) == ("complete", "info", "claude_ask", "test")
    assert (second["end"], second["failure"]) == ("failed", refused["kind"])
    assert first["ts"] <= second["ts"]
    assert first["ts"].endswith("Z")


@pytest.mark.parametrize("log_format", ["text", "json"])
async def test_no_text_of_question_or_answer_is_logged(upstream: Simulator, tmp_path: Path, log_format: str) -> None:
    fields = {"base_url": upstream.url, "log_format": log_format, "log_level": "debug"}
    async with connect("stdio", "auto", tmp_path / "data", **fields) as session:
        await session.ask(f"[[sim: text={SECRET}]] {SECRET}", system=SECRET)
        await session.ask(f"[[sim: status=400]] {SECRET}")
    logged = session.stderr.read_text()
    assert "claude_ask" in logged
    assert SECRET not in logged
    assert FAKE_KEY not in logged


async def test_over_http_no_text_of_question_or_answer_is_logged(upstream: Simulator, tmp_path: Path) -> None:
    async with http_server_process(tmp_path / "data", upstream.url, log_level="debug") as here, here.client() as client:
        # An event holds back the last character, so one more follows the secret, which is then in one event whole.
        answer = await client.post("/chat", json={"message": f"[[sim: text={SECRET}.]] {SECRET}"})
        assert SECRET in answer.text
        assert await here.terminate() == 0
    logged = (tmp_path / "http.stderr").read_text()
    assert "INFO mcp_server_claude.call: chat" in logged
    assert SECRET not in logged


async def test_a_cancelled_call_is_logged(upstream: Simulator, tmp_path: Path) -> None:
    async with stdio_process(tmp_path / "data", base_url=upstream.url, log_format="json") as stdio:
        await stdio.initialize()
        await stdio.send(tool_call(1, "[[sim: tokens=500 fault=stall at=90]] Hello."))
        while "message" not in cast("dict[str, object]", (await stdio.read_message()).get("params", {})):
            pass  # until some of the answer has come
        stdio.process.terminate()
        await stdio.wait_for_exit()
    [line] = [line for line in lines(stdio.stderr) if line["event"] == "call"]
    assert line["end"] == "cancelled"


def test_a_traceback_in_json_is_one_line_without_keys() -> None:
    info = None
    try:
        int(f"The key is {FAKE_KEY}\nreally")
    except ValueError:
        info = sys.exc_info()
    record = logging.LogRecord("x", logging.ERROR, "x.py", 1, 'It said "%s"', (FAKE_KEY,), info)
    line = JsonFormatter().format(record)
    assert "\n" not in line
    assert FAKE_KEY not in line
    logged = json.loads(line)
    assert (logged["event"], logged["level"], logged["message"]) == ("log", "error", 'It said "sk-ant-…"')
    assert logged["exception"].startswith("Traceback")
    assert FAKE_KEY not in RedactingFormatter("%(message)s").format(record)


def test_a_lone_surrogate_in_a_message_can_be_logged() -> None:
    record = logging.LogRecord("x", logging.ERROR, "x.py", 1, "half \ud83d", None, None)
    assert json.loads(JsonFormatter().format(record).encode())["message"] == "half \ud83d"
