"""Claude Code without a terminal (`claude -p`), with this server over stdio and HTTP and as the plugin."""

from __future__ import annotations

import json
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any

import pytest

from mcp_server_claude.server.prompts import TEMPLATES
from mcp_server_claude.server.tools import build_tools
from support.interop.agent_api import AgentApi, agent_api, prompt_with_calls, result_texts
from support.interop.run_program import run_program
from support.server_command import REAL_COMMAND

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.interop.servers import SimulatorProcess

ROOT = Path(__file__).parents[2]
CLAUDE_TIMEOUT_S = 300
ASK = "mcp__claude__claude_ask"
PARALLEL_CALLS = 12
LONG_TEXT_CHARS = 200_000


@dataclass(frozen=True)
class ClaudeCode:
    """The program, with a home of its own and a scripted model."""

    executable: Path
    api: AgentApi
    folder: Path
    environment: dict[str, str]

    def command(self, prompt: str, *options: str) -> list[str]:
        form = ("--output-format", "stream-json", "--verbose", "--model", "claude-sonnet-5-5")
        return [str(self.executable), "-p", prompt, *form, *options]

    def run(self, prompt: str, *options: str) -> list[dict[str, Any]]:
        """The events of a run that ends by itself."""
        printed = run_program(self.command(prompt, *options), self.environment, CLAUDE_TIMEOUT_S, self.folder)
        return [json.loads(line) for line in printed.splitlines() if line.startswith("{")]


@pytest.fixture
def claude_code(
    install: Callable[..., Path], stdio_environment: dict[str, str], tmp_path: Path
) -> Iterator[ClaudeCode]:
    executable = install("claude-code") / "node_modules" / ".bin" / "claude"
    folder = tmp_path / "project"
    folder.mkdir()
    with agent_api() as api:
        environment = {
            "PATH": stdio_environment["PATH"],
            "HOME": str(tmp_path),
            "ANTHROPIC_BASE_URL": api.url,
            "ANTHROPIC_API_KEY": "sk-ant-test-0000-not-a-key",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
            "MCP_TIMEOUT": "240000",  # ms until the server has started, 30,000 by default
        }
        yield ClaudeCode(executable, api, folder, environment)


@pytest.fixture(params=["stdio", "http"])
def options(
    request: pytest.FixtureRequest, http_url: str, stdio_environment: dict[str, str], tmp_path: Path
) -> list[str]:
    """The options that connect Claude Code with this server."""
    settings = {key: value for key, value in stdio_environment.items() if key.startswith("MCP_")}
    command, *arguments = REAL_COMMAND
    server: dict[str, Any] = {"command": command, "args": arguments, "env": settings}
    if request.param == "http":
        server = {"type": "http", "url": f"{http_url}/mcp"}
    server["alwaysLoad"] = True  # the first turn waits for the server, however slowly it starts
    config = tmp_path / "mcp.json"
    config.write_text(json.dumps({"mcpServers": {"claude": server}}), encoding="utf-8")
    return ["--mcp-config", str(config), "--strict-mcp-config", "--allowedTools", "mcp__claude"]


def init_event(events: list[dict[str, Any]]) -> dict[str, Any]:
    return next(event for event in events if event.get("subtype") == "init")


def test_claude_code_gives_its_model_the_complete_answers_of_parallel_calls(
    claude_code: ClaudeCode, options: list[str], simulator: SimulatorProcess
) -> None:
    mark = token_hex(8)
    short = [(ASK, {"prompt": f"{mark} [[sim: ttft=3 tokens=50]]"})] * PARALLEL_CALLS
    long = (ASK, {"prompt": f"[[sim: tokens={LONG_TEXT_CHARS // 3}]]", "max_tokens": 100_000})
    wrong = (ASK, {"prompt": "[[sim: fault=status status=400]]"})

    events = claude_code.run(prompt_with_calls(*short, long, wrong), *options)

    init = init_event(events)
    assert [(server["name"], server["status"]) for server in init["mcp_servers"]] == [("claude", "connected")]
    assert {f"mcp__claude__{tool.name}" for tool in build_tools()} <= set(init["tools"])
    assert {f"mcp__claude__{template.name}" for template in TEMPLATES} <= set(init["slash_commands"])
    results = claude_code.api.tool_results()
    for number in range(PARALLEL_CALLS):
        text, *_, footer = result_texts(results[f"call_{number}"])
        assert mark in text
        assert footer.startswith("[claude-")
        assert " · $" in footer
    upstream = [each for each in simulator.requests() if mark in json.dumps(each["body"])]
    assert len(upstream) == PARALLEL_CALLS
    arrivals = sorted(each["arrived_at"] for each in upstream)
    assert arrivals[1] < min(each["ended_at"] for each in upstream), "one call after the other"
    assert len(result_texts(results[f"call_{PARALLEL_CALLS}"])[0]) >= LONG_TEXT_CHARS
    error = results[f"call_{PARALLEL_CALLS + 1}"]
    assert error["is_error"]
    assert "The Messages API refused the request" in result_texts(error)[0]


def test_claude_code_stops_the_request_when_it_is_interrupted(
    claude_code: ClaudeCode, options: list[str], simulator: SimulatorProcess
) -> None:
    mark = token_hex(8)
    prompt = prompt_with_calls((ASK, {"prompt": f"{mark} [[sim: tokens=9000 pace=50]]"}))
    process = subprocess.Popen(
        claude_code.command(prompt, *options),
        cwd=claude_code.folder,
        env=claude_code.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        simulator.wait_for_request(mark)
        process.send_signal(signal.SIGINT)
        process.wait(CLAUDE_TIMEOUT_S)
        simulator.wait_until_disconnected(mark)
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("options", ["stdio"], indirect=True)
def test_claude_code_offers_the_prompts_as_slash_commands(claude_code: ClaudeCode, options: list[str]) -> None:
    claude_code.run("/mcp__claude__explain src/engine", *options)
    assert any("Have another Claude read and explain `src/engine`" in text for text in claude_code.api.texts())
