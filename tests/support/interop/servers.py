"""The simulator and our server as processes, for programs that only know a command or a URL."""

from __future__ import annotations

import json
import re
import subprocess
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from support.mcp_session import FAKE_KEY, server_environment
from support.server_command import REAL_COMMAND

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

WAIT_TIMEOUT_S = 120


@dataclass(frozen=True)
class SimulatorProcess:
    """A simulated Messages API of its own process."""

    url: str

    def requests(self) -> list[dict[str, Any]]:
        """What was asked, as `GET /_simulator/requests` lists it."""
        with urllib.request.urlopen(f"{self.url}/_simulator/requests") as response:  # noqa: S310 - a loopback URL
            return cast("list[dict[str, Any]]", json.load(response))

    def wait_for_request(self, mark: str) -> None:
        """Wait until a request whose body holds `mark` has come.

        Raises:
            TimeoutError: None has come.
        """
        self._wait(mark, {"open", "complete", "disconnected"})

    def wait_until_disconnected(self, mark: str) -> None:
        """Wait until the client of the request whose body holds `mark` has disconnected.

        Raises:
            TimeoutError: The answer is still being read, or was read whole.
        """
        self._wait(mark, {"disconnected"})

    def _wait(self, mark: str, ends: set[str]) -> None:
        deadline = time.monotonic() + WAIT_TIMEOUT_S
        found: set[str] = set()
        while time.monotonic() < deadline:
            found = {each["end"] for each in self.requests() if mark in json.dumps(each["body"])}
            if found & ends:
                return
            time.sleep(0.1)
        raise TimeoutError(f"the requests with {mark!r} are {found or 'missing'}")


@contextmanager
def process_with_url(
    command: Sequence[str], environment: dict[str, str], log: Path, pattern: str = r"listens on (\S+)"
) -> Generator[str]:
    """A process that prints its URL; terminated at the end."""
    with log.open("wb") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=environment, text=True)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if found := re.search(pattern, line):
                yield found[1]
                break
        else:
            raise AssertionError(f"{command} ends without a URL: {log.read_text()}")
    finally:
        process.terminate()
        try:
            process.wait(WAIT_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


@contextmanager
def simulator_process(log: Path) -> Generator[SimulatorProcess]:
    """The simulator at full speed; a prompt that wants to be slow says so (`pace`)."""
    command = [*REAL_COMMAND, "simulate", "--port", "0", "--ttft", "0", "--tokens-per-s", "0"]
    with process_with_url(command, server_environment(), log) as url:
        yield SimulatorProcess(url)


def server_settings(data_dir: Path, upstream: str) -> dict[str, str]:
    """The environment of a server that asks this upstream."""
    return server_environment(api_key=FAKE_KEY, base_url=upstream, data_dir=data_dir)


@contextmanager
def http_server(data_dir: Path, upstream: str, log: Path, *arguments: str, **fields: object) -> Generator[str]:
    """Our server over HTTP, open to everybody on this machine; its URL, without `/mcp`."""
    settings = {"api_key": FAKE_KEY, "base_url": upstream, "data_dir": data_dir, "drain_s": 1} | fields
    command = [*REAL_COMMAND, "serve", "--http", "--port", "0", *arguments]
    with process_with_url(command, server_environment(**settings), log) as url:
        yield url
