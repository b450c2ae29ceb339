"""The bundles: they name this version, the tools that there are, and settings that exist."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from zipfile import ZipFile

import pytest

from mcp_server_claude import __version__
from mcp_server_claude.server.tools import build_tools
from mcp_server_claude.settings import Settings
from mcp_server_claude.settings_sources import variable_name

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[1]
BUNDLES = ROOT / "bundles"
MAX_REGISTRY_DESCRIPTION_CHARS = 100
"""The limit of the schema that `server.json` names."""
JSON_FILES = sorted(path for path in BUNDLES.rglob("*.json"))


def loaded(path: Path) -> dict[str, Any]:
    return cast("dict[str, Any]", json.loads(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", JSON_FILES, ids=lambda path: path.relative_to(BUNDLES).as_posix())
def test_versions_and_settings_exist(path: Path) -> None:
    assert loaded(path).get("version", __version__) == __version__
    settings = {variable_name(name) for name in Settings.model_fields}
    assert set(re.findall(r"MCP_CLAUDE_\w+", path.read_text(encoding="utf-8"))) <= settings


def test_the_desktop_bundle_lists_every_tool_and_asks_for_the_key() -> None:
    manifest = loaded(BUNDLES / "claude-desktop" / "manifest.json")
    assert [tool["name"] for tool in manifest["tools"]] == [tool.name for tool in build_tools()]
    assert manifest["user_config"]["api_key"]["sensitive"] is True
    assert (ROOT / manifest["server"]["entry_point"]).exists()
    used = set(re.findall(r"user_config\.(\w+)", json.dumps(manifest["server"])))
    assert used == set(manifest["user_config"])


def test_the_desktop_bundle_installs_no_tools_of_developers() -> None:
    command = loaded(BUNDLES / "claude-desktop" / "manifest.json")["server"]["mcp_config"]
    options = command["args"][: command["args"].index("mcp-server-claude")]
    assert (command["command"], options[0]) == ("uv", "run")
    assert "--no-dev" in options  # `uv run` installs the group "dev" of pyproject.toml otherwise


def test_the_desktop_bundle_is_packed_with_the_package(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("pack_bundle", ROOT / "scripts" / "pack_bundle.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    pack: Callable[[Path], None] = module.pack_bundle
    for name in ("a", "b"):
        pack(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    names = ZipFile(tmp_path / "a").namelist()
    assert {"manifest.json", "pyproject.toml", "src/mcp_server_claude/__main__.py"} <= set(names)
    assert not any("__pycache__" in name for name in names)


def test_the_registry_entry_describes_the_package_on_pypi() -> None:
    entry = loaded(BUNDLES / "mcp-registry" / "server.json")
    assert len(entry["description"]) <= MAX_REGISTRY_DESCRIPTION_CHARS
    assert f"mcp-name: {entry['name']} " in (ROOT / "README.md").read_text(encoding="utf-8")
    (package,) = entry["packages"]
    assert (package["registryType"], package["identifier"]) == ("pypi", "mcp-server-claude")
    assert package["version"] == __version__
    key, *others = package["environmentVariables"]
    assert (key["name"], key["isSecret"]) == ("MCP_CLAUDE_API_KEY", True)
    assert not any(other.get("isRequired") for other in others)


def test_calls_of_the_codex_plugin_have_an_hour() -> None:
    assert loaded(BUNDLES / "codex" / ".mcp.json")["mcpServers"]["claude"]["tool_timeout_sec"] == 3600


@pytest.mark.parametrize("manifest", ["claude-code/.claude-plugin/plugin.json", "codex/.codex-plugin/plugin.json"])
def test_plugin_names_do_not_pass_as_those_of_anthropic(manifest: str) -> None:
    # Claude Code 2.1.332 (`claude plugin validate`) refuses names that begin with these.
    assert not loaded(BUNDLES / manifest)["name"].startswith(("claude", "anthropic", "cc-plugin-"))


def test_both_plugins_have_the_same_skill() -> None:
    skills = [BUNDLES / name / "skills" / "delegate-to-claude" / "SKILL.md" for name in ("claude-code", "codex")]
    first, second = [skill.read_text(encoding="utf-8") for skill in skills]
    assert first == second
    assert first.startswith("---\nname: delegate-to-claude\n")
