"""Count the instructions of the begin and of the end of a call, under valgrind's callgrind.

    python benchmarks/call_instructions.py [--calls N] [ours|naive|chat|mcp ...]    # two minutes each

Instructions are the same on a busy machine, within 5 %. "Begin" is from the request to the upstream request, of calls
that are sent at once, and whose first byte comes `--ttft` seconds later. "End" is the rest, with ten deltas, and with
a look of the watchdog for each second of it. "One at a time" is whole calls, one after the other.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, cast

from http_client import HttpServerProcess, ask_all
from measurements import BASELINE_DELTAS
from run import server_environment
from simulator_process import SimulatorProcess, delta_prompt
from stdio_client import COMMANDS, StdioServer

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

    from http_client import Route
    from stdio_client import ServerName

OpenServer: TypeAlias = tuple[int, Callable[[Sequence[str]], Callable[[], object]]]
Door: TypeAlias = Literal["ours", "naive", "chat", "mcp"]
DOORS: tuple[Door, ...] = ("ours", "naive", "chat", "mcp")
WARM_CALLS = 8
ANSWER_TIMEOUT_S = 300.0
QUIET_S, QUIET_SHARE = 0.5, 0.04
"""A server is quiet once it has used less than this share of a core for so long."""


class CountedProcess:
    """A server under callgrind, which counts nothing until it is told to."""

    def __init__(self, pid: int, output: Path) -> None:
        self._pid, self._output, self._dumps = pid, output, 0

    def count(self, work: Callable[[], object]) -> int:
        """The instructions of some work, until the server is quiet again."""
        self._control("--instr=on")
        work()
        self.wait_until_quiet()
        self._control("--instr=off")
        self._control("--dump")
        self._dumps += 1
        dump = self._output.with_name(f"{self._output.name}.{self._dumps}").read_text()
        return sum(int(found) for found in re.findall(r"^totals: (\d+)", dump, re.MULTILINE))

    def wait_until_quiet(self) -> None:
        """Wait until it does nothing but look at its streams once a second."""
        while True:
            before = self._cpu()
            time.sleep(QUIET_S)
            if self._cpu() - before < QUIET_S * QUIET_SHARE:
                return

    def _cpu(self) -> float:
        return time.clock_gettime((~self._pid << 3) | 2)

    def _control(self, option: str) -> None:
        command = ["callgrind_control", option, str(self._pid)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def main() -> None:
    parser = argparse.ArgumentParser(description="Count the instructions of a call.")
    parser.add_argument("--calls", type=int, default=20)
    parser.add_argument("--ttft", type=float, default=20.0, help="seconds within which all calls must be upstream")
    parser.add_argument("doors", nargs="*", choices=[[], *DOORS], help="default: all")
    options = parser.parse_args()
    for door in cast("Sequence[Door]", options.doors or DOORS):
        begin, end, single = (each / options.calls / 1e6 for each in _measure(door, options.calls, options.ttft))
        print(f"{door}: begin {begin:.2f} M, end {end:.2f} M; one at a time {single:.2f} M", flush=True)


def _measure(door: Door, calls: int, ttft: float) -> Iterator[int]:
    with tempfile.TemporaryDirectory() as home, SimulatorProcess() as upstream:
        output = Path(home) / "callgrind"
        valgrind = ["valgrind", "--tool=callgrind", "--instr-atstart=no", "-q", f"--callgrind-out-file={output}"]
        environment = server_environment(home, upstream.url) | {"PYTHONHASHSEED": "0"}
        with _open_server(door, valgrind, environment) as (pid, ask):
            counted = CountedProcess(pid, output)
            for number in range(WARM_CALLS):
                ask([_prompt(number)])()
            counted.wait_until_quiet()
            upstream.forget_requests()
            wait: list[Callable[[], object]] = []

            def begin() -> None:
                wait.append(ask([_prompt(100 + number, ttft) for number in range(calls)]))
                while len(upstream.records()) < calls:
                    time.sleep(0.2)

            yield counted.count(begin)
            if any(record["ended_at"] is not None for record in upstream.records()):
                raise TimeoutError(f"not all calls were upstream after {ttft} s: a longer --ttft is needed")
            yield counted.count(wait[0])
            yield counted.count(lambda: [ask([_prompt(200 + number)])() for number in range(calls)])


def _prompt(number: int, ttft: float = 0) -> str:
    return delta_prompt(BASELINE_DELTAS, name=f"Number {number}.", ttft=ttft)


@contextmanager
def _open_server(door: Door, valgrind: list[str], environment: Mapping[str, str]) -> Generator[OpenServer]:
    """A server under valgrind, and a function that sends prompts at once and returns one that waits for the answers."""
    if door in {"ours", "naive"}:
        name: ServerName = "naive" if door == "naive" else "ours"
        COMMANDS[name] = [*valgrind, *COMMANDS[name]]
        with StdioServer(name, environment) as server:

            def ask_over_stdio(prompts: Sequence[str]) -> Callable[[], object]:
                requests = [server.start_ask(prompt) for prompt in prompts]
                return lambda: [server.wait_for_answer(request, ANSWER_TIMEOUT_S) for request in requests]

            yield server.pid, ask_over_stdio
        return
    with HttpServerProcess(environment, valgrind) as http_server:
        route: Route = "chat" if door == "chat" else "mcp"

        def ask_over_http(prompts: Sequence[str]) -> Callable[[], object]:
            thread = threading.Thread(
                target=lambda: asyncio.run(ask_all(http_server.port, route, prompts)), daemon=True
            )
            thread.start()
            return thread.join

        yield http_server.pid, ask_over_http


if __name__ == "__main__":
    main()
