"""MCP clients of other libraries: list, call with progress, cancel, error, resources, prompts, over stdio and HTTP."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any

import pytest

from mcp_server_claude.server.prompts import TEMPLATES
from mcp_server_claude.server.tools import build_tools
from support.server_command import REAL_COMMAND

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.interop.servers import SimulatorProcess

PROGRAMS = Path(__file__).with_name("programs")
PROGRAM_TIMEOUT_S = 300


@dataclass(frozen=True)
class ClientLibrary:
    """A library, the program that uses it, and what the library cannot do."""

    party: str
    program: str
    registry: str = "python"
    version: int = 0
    mode: str = "auto"
    protocol: str = ""
    lacks: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"{self.party}-{self.mode}"


NO_COMPLETIONS = frozenset({"completions"})
LIBRARIES = [
    ClientLibrary("typescript-sdk-v1", "typescript_sdk.mjs", "npm", version=1, mode="legacy"),
    ClientLibrary("typescript-sdk-v2", "typescript_sdk.mjs", "npm", version=2, mode="legacy", protocol="2025-11-25"),
    ClientLibrary("typescript-sdk-v2", "typescript_sdk.mjs", "npm", version=2, protocol="2026-07-28"),
    ClientLibrary("fastmcp", "fastmcp_client.py"),
    ClientLibrary("pydantic-ai", "pydantic_ai_client.py", lacks=NO_COMPLETIONS | {"progress"}),
    ClientLibrary("langchain-mcp-adapters", "langchain_client.py", lacks=NO_COMPLETIONS | {"prompts"}),
    ClientLibrary("openai-agents", "openai_agents_client.py", lacks=NO_COMPLETIONS | {"progress"}),
]


@pytest.mark.parametrize("transport", ["stdio", "http"])
@pytest.mark.parametrize("library", LIBRARIES, ids=str)
def test_a_client_library_can_use_every_feature(
    library: ClientLibrary,
    transport: str,
    install: Callable[..., Path],
    request: pytest.FixtureRequest,
    simulator: SimulatorProcess,
    http_url: str,
    stdio_environment: dict[str, str],
) -> None:
    place = install(library.party, library.registry)
    mark = token_hex(8)
    order: dict[str, Any] = {
        "mode": library.mode,
        "version": library.version,
        "simulator": simulator.url,
        "prompts": {
            "slow": "Say something long. [[sim: tokens=200 pace=150]]",
            "cancel": f"{mark} [[sim: tokens=9000 pace=50]]",
            "error": "[[sim: fault=status status=400]]",
        },
    }
    if transport == "http":
        order["url"] = f"{http_url}/mcp"
    else:
        order |= {"command": list(REAL_COMMAND), "environment": stdio_environment}
    program = PROGRAMS / library.program
    if library.registry == "npm":
        program = Path(shutil.copy(program, place / program.name))  # modules are looked up beside the program
        command = [request.getfixturevalue("node"), str(program)]
    else:
        command = [str(place), str(program)]

    report = run_program([*command, json.dumps(order)])

    assert report["tools"] == [tool.name for tool in build_tools()]
    assert len(report["text"]) > 300
    assert " · $" in report["text"].splitlines()[-1]
    assert report["cancelled"]
    simulator.wait_until_disconnected(mark)
    assert "The Messages API refused the request" in report["error"]
    assert "claude://models" in report["resources"]
    assert "claude-" in report["resource"]
    assert "explain" in report["prompt"]
    assert "src" in report["prompt"]
    if "progress" not in library.lacks:
        assert len(report["progress"]) > 1
    if "prompts" not in library.lacks:
        assert report["prompts"] == [template.name for template in TEMPLATES]
    if "completions" not in library.lacks:
        assert "opus" in report["completions"]
    if library.protocol:
        assert report["protocol"] == library.protocol


def run_program(command: list[str]) -> dict[str, Any]:
    """Run a program, and return the JSON of the last line that it printed."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=PROGRAM_TIMEOUT_S, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report
