"""Proof by other people's programs; `scripts/interop` runs it. A party that cannot be installed is skipped, by name."""

from __future__ import annotations

import os
from collections import defaultdict
from typing import TYPE_CHECKING

import pytest

from support.interop.installations import (
    NotInstallableError,
    node_executable,
    npm_folder,
    python_environment,
    unavailable_parties,
)
from support.interop.servers import SimulatorProcess, http_server, server_settings, simulator_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from _pytest.terminal import TerminalReporter

collect_ignore_glob = [] if os.environ.get("TEST_INTEROP") == "1" else ["test_*.py"]

_parties: defaultdict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
_reasons: dict[str, str] = {}


@pytest.fixture
def install(record_property: Callable[[str, object], None]) -> Callable[[str], Path]:
    """Install a party, or skip the test: its npm folder, or the interpreter of its Python environment."""

    def install_party(party: str, registry: str = "npm") -> Path:
        record_property("party", party)
        try:
            return npm_folder(party) if registry == "npm" else python_environment(party)
        except NotInstallableError as error:
            pytest.skip(f"{party} cannot be installed: {error}")

    return install_party


@pytest.fixture
def node() -> str:
    """Node 22."""
    try:
        return str(node_executable())
    except NotInstallableError as error:
        pytest.skip(f"Node 22 cannot be installed: {error}")


@pytest.fixture(scope="session")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatorProcess]:
    with simulator_process(tmp_path_factory.mktemp("simulator") / "stderr") as process:
        yield process


@pytest.fixture(scope="session")
def http_url(simulator: SimulatorProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Our server over HTTP, without `/mcp`."""
    folder = tmp_path_factory.mktemp("http")
    with http_server(folder / "data", simulator.url, folder / "stderr") as url:
        yield url


@pytest.fixture
def stdio_environment(simulator: SimulatorProcess, tmp_path: Path) -> dict[str, str]:
    """The environment of our server over stdio."""
    return server_settings(tmp_path / "data", simulator.url)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count what became of each party's tests."""
    party = str(dict(report.user_properties).get("party", "")) or report.nodeid.split("::")[0].rpartition("/")[2]
    if report.when == "call" or report.outcome != "passed":
        _parties[party][report.outcome] += 1
    _parties[party]["seconds"] += report.duration
    if report.skipped and isinstance(report.longrepr, tuple):
        _reasons[party] = str(report.longrepr[2]).removeprefix("Skipped: ")


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """Print a line for each party."""
    terminalreporter.section("parties")
    terminalreporter.write_line(f"{'':32} passed failed skipped seconds")
    for party, counts in _parties.items():
        figures = f"{counts['passed']:6g} {counts['failed']:6g} {counts['skipped']:7g} {counts['seconds']:7.1f}"
        terminalreporter.write_line(f"{party:32} {figures}  {_reasons.get(party, '')}".rstrip())
    for party, reason in unavailable_parties().items():
        terminalreporter.write_line(f"{party:32} {'not run':31}  {reason}")
