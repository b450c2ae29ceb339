"""The MCP Inspector's command line, over stdio and HTTP, in both protocol versions."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any, cast

import pytest

from mcp_server_claude.server.prompts import TEMPLATES
from mcp_server_claude.server.tools import build_tools
from support.server_command import REAL_COMMAND

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

INSPECTOR_TIMEOUT_S = 300
CONNECT_TIMEOUT_MS = 240_000
"""Its default of 15 s is too short on a busy machine."""
OPTIONS = ["--connect-timeout", str(CONNECT_TIMEOUT_MS), "--format", "json", "--quiet"]
TOOL_ERROR = 5
"""The exit code where a tool's result is an error."""
LOAD_CALLS = 100


class Inspector:
    """The command line, connected to one server."""

    def __init__(self, command: list[str], target: list[str], environment: dict[str, str]) -> None:
        self._command = command
        self._target = target
        self._environment = environment

    def run(self, *arguments: str, exit_code: int = 0) -> dict[str, Any]:
        """The result of a method, or of the whole run where it has no `result`."""
        done = subprocess.run(
            [*self._command, *self._target, *arguments, *OPTIONS],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=INSPECTOR_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == exit_code, f"{done.stdout}\n{done.stderr}"
        report: dict[str, Any] = json.loads(done.stdout)
        return cast("dict[str, Any]", report.get("result", report))


@pytest.fixture(params=["legacy", "modern"])
def era(request: pytest.FixtureRequest) -> str:
    return cast("str", request.param)


@pytest.fixture(params=["stdio", "http"])
def inspector(
    request: pytest.FixtureRequest,
    era: str,
    install: Callable[..., Path],
    node: str,
    http_url: str,
    stdio_environment: dict[str, str],
    tmp_path: Path,
) -> Inspector:
    command = [node, str(install("inspector") / "node_modules" / ".bin" / "inspector"), "--cli"]
    environment = stdio_environment | {"HOME": str(tmp_path)}
    if request.param == "http":
        target = [f"{http_url}/mcp", "--transport", "http"]
    else:
        settings = [f"{key}={value}" for key, value in stdio_environment.items() if key.startswith("MCP_")]
        target = [*REAL_COMMAND, *(word for setting in settings for word in ("-e", setting))]
    return Inspector(command, [*target, "--protocol-era", era], environment)


def test_the_inspector_finds_every_tool_with_a_portable_schema(inspector: Inspector) -> None:
    listed = inspector.run("--method", "tools/list", "--strict")
    assert [tool["name"] for tool in listed["tools"]] == [tool.name for tool in build_tools()]


def test_the_inspector_shows_an_answer(inspector: Inspector) -> None:
    result = inspector.run("--method", "tools/call", "--tool-name", "claude_ask", "--tool-arg", "prompt=Hello")
    assert "Hello" in result["content"][0]["text"]
    assert result["_meta"]["mcp-server-claude/usage"]


def test_the_inspector_shows_an_error(inspector: Inspector) -> None:
    result = inspector.run(
        "--method",
        "tools/call",
        "--tool-name",
        "claude_ask",
        "--tool-arg",
        "prompt=[[sim: fault=status status=400]]",
        exit_code=TOOL_ERROR,
    )
    assert "The Messages API refused the request" in result["content"][0]["text"]


def test_the_inspector_shows_prompts_and_resources(inspector: Inspector) -> None:
    listed = inspector.run("--method", "prompts/list")
    assert [prompt["name"] for prompt in listed["prompts"]] == [template.name for template in TEMPLATES]
    prompt = inspector.run("--method", "prompts/get", "--prompt-name", "explain", "--prompt-args", "path=src")
    assert "src" in prompt["messages"][0]["content"]["text"]
    resource = inspector.run("--method", "resources/read", "--uri", "claude://models")
    assert "claude-" in resource["contents"][0]["text"]


@pytest.mark.parametrize("inspector", ["http"], indirect=True)
def test_the_inspector_puts_load_on_a_tool(inspector: Inspector) -> None:
    calls = ("--load", "--load-requests", str(LOAD_CALLS), "--load-concurrency", "10")
    report = inspector.run("--method", "tools/call", "--tool-name", "claude_info", "--tool-arg", "about=usage", *calls)
    assert (report["ok"], report["errorRate"]) == (LOAD_CALLS, 0)
