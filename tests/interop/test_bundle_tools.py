"""The bundles and the wheel in the hands of the programs that install them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import ZipFile

import pytest

from mcp_server_claude import __version__
from support.interop.agent_api import agent_api
from support.interop.run_program import run_program

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

ROOT = Path(__file__).parents[2]
BUNDLES = ROOT / "bundles"
TOOL_TIMEOUT_S = 300


def run_tool(command: Sequence[str | Path], environment: Mapping[str, str], folder: Path) -> str:
    """What a program prints; it has to end well."""
    return run_program(command, environment, TOOL_TIMEOUT_S, folder)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An environment with a home of its own."""
    home = tmp_path / "home"
    home.mkdir()
    return dict(os.environ) | {"HOME": str(home), "TMPDIR": str(tmp_path)}


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
    run_tool([*pip, "--wheel-dir", folder, ROOT], os.environ, folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture
def uv_environment(environment: dict[str, str], wheel: Path, install: Callable[..., Path]) -> dict[str, str]:
    """An environment in which `uvx mcp-server-claude` installs the wheel of this checkout."""
    folder = install("uv", "python").parent
    settings = environment | {
        "PATH": f"{folder}{os.pathsep}{environment['PATH']}",
        "UV_FIND_LINKS": str(wheel.parent),
        "UV_CONSTRAINT": str(ROOT / "constraints.txt"),
        "UV_PYTHON": sys.executable,
        "UV_SYSTEM_CERTS": "1",
    }
    uvx = [str(folder / "uvx"), "mcp-server-claude", "--version"]
    done = subprocess.run(uvx, env=settings, capture_output=True, text=True, timeout=TOOL_TIMEOUT_S, check=False)
    if "Failed to fetch" in done.stderr:
        pytest.skip("uv cannot reach a package index")
    return settings


def test_mcpb_validates_and_packs_the_desktop_bundle(
    install: Callable[..., Path], node: str, environment: dict[str, str], tmp_path: Path
) -> None:
    mcpb = install("mcpb") / "node_modules" / ".bin" / "mcpb"
    assert "passes" in run_tool(
        [node, mcpb, "validate", BUNDLES / "claude-desktop" / "manifest.json"], environment, ROOT
    )
    ours = tmp_path / "ours"
    run_tool([sys.executable, ROOT / "scripts" / "pack_bundle.py", tmp_path], os.environ, ROOT)
    packed = tmp_path / "mcp-server-claude.mcpb"
    run_tool([node, mcpb, "unpack", packed, ours], environment, tmp_path)
    theirs = tmp_path / "theirs.mcpb"
    run_tool([node, mcpb, "pack", ours, theirs], environment, tmp_path)
    assert set(ZipFile(theirs).namelist()) == set(ZipFile(packed).namelist())


def test_uvx_runs_the_wheel(uv_environment: dict[str, str], tmp_path: Path) -> None:
    assert run_tool(["uvx", "mcp-server-claude", "--version"], uv_environment, tmp_path).split()[-1] == __version__


def test_pipx_runs_the_wheel(
    install: Callable[..., Path], environment: dict[str, str], wheel: Path, tmp_path: Path
) -> None:
    pipx = install("pipx", "python").with_name("pipx")
    printed = run_tool([pipx, "run", "--spec", wheel, "mcp-server-claude", "--version"], environment, tmp_path)
    assert printed.split()[-1] == __version__


def test_claude_code_loads_the_plugin(
    install: Callable[..., Path], uv_environment: dict[str, str], tmp_path: Path
) -> None:
    claude = install("claude-code") / "node_modules" / ".bin" / "claude"
    plugin = BUNDLES / "claude-code"
    run_tool([claude, "plugin", "validate", "--profile", "directory", plugin], uv_environment, tmp_path)
    key = {"MCP_CLAUDE_API_KEY": "sk-ant-test-0000-not-a-key"}
    listed = run_tool([claude, "--plugin-dir", plugin, "mcp", "list"], uv_environment | key, tmp_path)
    assert "plugin:second-opinion:claude: uvx mcp-server-claude - ✔ Connected" in listed
    with agent_api() as api:
        more = key | {
            "ANTHROPIC_BASE_URL": api.url,
            "ANTHROPIC_API_KEY": "sk-ant-test-0000-not-a-key",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        }
        command = [claude, "--plugin-dir", plugin, "-p", "Hello", "--output-format", "stream-json", "--verbose"]
        printed = run_tool(command, uv_environment | more, tmp_path)
    events = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    init = next(event for event in events if event.get("subtype") == "init")
    assert "second-opinion" in {each["name"] for each in init["plugins"]}
    assert {"second-opinion:second-opinion", "second-opinion:review-diff"} <= set(init["slash_commands"])


def test_codex_installs_the_plugin(install: Callable[..., Path], environment: dict[str, str], tmp_path: Path) -> None:
    codex = install("codex") / "node_modules" / ".bin" / "codex"
    market = tmp_path / "market"
    shutil.copytree(BUNDLES / "codex", market / "plugins" / "second-opinion")
    entry = {
        "name": "second-opinion",
        "source": {"source": "local", "path": "./plugins/second-opinion"},
        "policy": {"installation": "AVAILABLE", "authentication": "ON_INSTALL"},
        "category": "Productivity",
    }
    listing = market / ".agents" / "plugins" / "marketplace.json"
    listing.parent.mkdir(parents=True)
    listing.write_text(json.dumps({"name": "local", "plugins": [entry]}), encoding="utf-8")
    run_tool([codex, "plugin", "marketplace", "add", market], environment, tmp_path)
    run_tool([codex, "plugin", "add", "second-opinion@local"], environment, tmp_path)
    servers = run_tool([codex, "mcp", "list"], environment, tmp_path)
    assert "uvx" in servers
    assert "mcp-server-claude" in servers
    assert "3600" in run_tool([codex, "mcp", "get", "claude", "--json"], environment, tmp_path)
