"""The MCP conformance suite: everything that it asks of a server, in both protocol versions, with the Tasks extension.

Tools, resources and prompts are fixtures; server, transport and middleware are those of this package.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.interop.servers import process_with_url
from support.mcp_session import server_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TESTS = Path(__file__).parents[1]
BASELINE = Path(__file__).with_name("conformance_baseline.toml")
SUITE_TIMEOUT_S = 300
MIN_SCENARIOS = 30
RESULT = re.compile(r"^(✓|✗) ([\w-]+): \d+ passed, \d+ failed", re.MULTILINE)


@pytest.fixture(scope="module")
def conformance_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of `/mcp` of the server with the fixtures."""
    command = [sys.executable, "-m", "support.conformance_server"]
    environment = server_environment() | {"PYTHONPATH": str(TESTS)}
    log = tmp_path_factory.mktemp("conformance") / "stderr"
    with process_with_url(command, environment, log, r"^(http\S+)") as url:
        yield url


@pytest.mark.parametrize(
    ("party", "version", "selection"),
    [
        ("conformance-0.1", "2025-11-25", ("--suite", "all")),
        ("conformance-0.2", "2025-11-25", ("--requirements", "2025-11-25")),
        ("conformance-0.2", "2026-07-28", ("--requirements", "2026-07-28")),
    ],
)
def test_the_server_conforms_to_the_protocol(
    party: str,
    version: str,
    selection: tuple[str, ...],
    install: Callable[..., Path],
    node: str,
    conformance_url: str,
    tmp_path: Path,
) -> None:
    suite = install(party) / "node_modules" / ".bin" / "conformance"
    done = subprocess.run(
        [node, suite, "server", "--url", conformance_url, *selection],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=SUITE_TIMEOUT_S,
        check=False,
    )
    results = {name: mark for mark, name in RESULT.findall(done.stdout)}
    assert len(results) >= MIN_SCENARIOS, f"{done.stdout}\n{done.stderr}"
    expected = tomllib.loads(BASELINE.read_text(encoding="utf-8"))[version]
    assert {name for name, mark in results.items() if mark == "✗"} == set(expected), done.stdout
