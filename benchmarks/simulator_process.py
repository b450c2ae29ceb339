"""The simulator as a process of its own, so that its CPU is nobody else's; and what it remembers, asked over HTTP."""

from __future__ import annotations

import asyncio
import http.client
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from types import TracebackType

DELTA_CHARS = 12
CHARS_PER_TOKEN = 4
"""What the simulator counts as a token (`simulator/usage.py`)."""

ONE_EVENT_PER_WRITE = 1e9
"""A pace nobody can follow: the simulator then writes each event by itself, without ever waiting."""


class SimulatorProcess:
    """A simulator that runs while the block does."""

    def __init__(self) -> None:
        self._process = subprocess.Popen([sys.executable, Path(__file__)], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None  # noqa: S101
        self.url = self._process.stdout.readline().strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait()

    def records(self) -> list[dict[str, Any]]:
        """Every request for a message since the last reset, in order of arrival; times are `time.monotonic()`."""
        listed: Any = json.loads(self._http("GET", "/_simulator/requests"))
        found: list[dict[str, Any]] = listed
        return [record for record in found if record["path"] == "/v1/messages"]

    def wait_for_finished(self, count: int = 1, timeout_s: float = 60.0) -> list[dict[str, Any]]:
        """The same, once `count` of them have ended."""
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            records = self.records()
            if len(records) >= count and all(record["ended_at"] is not None for record in records):
                return records
            time.sleep(0.02)
        raise TimeoutError(f"{count} requests have not ended after {timeout_s} s")

    def forget_requests(self) -> None:
        """Forget the requests."""
        self._http("POST", "/_simulator/reset")

    def _http(self, method: str, path: str) -> bytes:
        line = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=30)
        try:
            line.request(method, path, headers={"x-api-key": "benchmark"})
            return line.getresponse().read()
        finally:
            line.close()


def delta_prompt(
    deltas: int,
    *,
    name: str = "A benchmark.",
    chars: int = DELTA_CHARS,
    pace: float = 0,
    ttft: float = 0,
    think: int = 0,
) -> str:
    """A prompt whose answer has so many deltas, after `think` tokens of thinking, `ttft` seconds from the request.

    `pace` in tokens a second; 0 is full speed, many events a write.
    """
    tokens = deltas * chars // CHARS_PER_TOKEN
    return f"{name} [[sim: tokens={tokens} chars={chars} pace={pace:f} ttft={ttft} think={think} search=off]]"


async def main() -> None:
    from mcp_server_claude.simulator import Simulator, run_until_signal

    await run_until_signal(Simulator(), announce=lambda url: print(url, flush=True))


if __name__ == "__main__":
    asyncio.run(main())
