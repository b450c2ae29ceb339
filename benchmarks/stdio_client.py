"""The least client that can measure: JSON-RPC lines over pipes, each with the moment in which it was read.

It is no SDK, so that what it costs itself is small and the same for every server.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

HERE = Path(__file__).parent
OLD_VERSION, NEW_VERSION = "2025-11-25", "2026-07-28"
READ_SIZE = 1 << 16
QUIET_INTERVAL_S = 0.4

ServerName: TypeAlias = Literal["ours", "naive", "plain"]
Handshake: TypeAlias = Literal["initialize", "server/discover"]

COMMANDS: dict[ServerName, list[str]] = {
    "ours": [sys.executable, "-m", "mcp_server_claude"],
    "naive": [sys.executable, str(HERE / "naive_server.py")],
    "plain": [sys.executable, str(HERE / "sdk_loop.py")],
}
TOOL_NAMES: dict[ServerName, str] = {"ours": "claude_ask", "naive": "ask"}


@dataclass(frozen=True, slots=True)
class TimedAnswer:
    """An answer: when it came, what it was, and the request's progress messages with the moments they came."""

    asked_at: float
    at: float
    result: Mapping[str, Any]
    progress: Sequence[tuple[float, str]] = ()

    @property
    def text(self) -> str:
        return str(self.result["content"][0]["text"])

    @property
    def first_text_at(self) -> float:
        """When the first progress with text came; an answer without any came at its end."""
        return next((at for at, message in self.progress if message), self.at)

    @property
    def lossless(self) -> bool:
        return "".join(message for _, message in self.progress) == self.text


@dataclass(slots=True)
class _ReceivedMessages:
    changed: threading.Condition = field(default_factory=threading.Condition)
    answers: dict[int, tuple[float, bytes]] = field(default_factory=dict[int, tuple[float, bytes]])
    notifications: list[tuple[float, bytes]] = field(default_factory=list[tuple[float, bytes]])
    ended: bool = False


class MeasuredProcess:
    """A child whose CPU and memory are read from outside; it is killed when its block ends."""

    def __init__(self, name: ServerName, environment: Mapping[str, str]) -> None:
        self.name: ServerName = name
        self.spawned_at = time.monotonic()
        self._process = subprocess.Popen(
            COMMANDS[name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        )
        assert self._process.stdin is not None  # noqa: S101
        assert self._process.stdout is not None  # noqa: S101
        self._in, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    def cpu(self) -> float:
        """Seconds of CPU so far, all threads, in nanosecond resolution (Linux: a clock for each process)."""
        return time.clock_gettime((~self._process.pid << 3) | 2)

    def memory(self) -> tuple[float, float]:
        """RSS and PSS in MB."""
        rollup = Path(f"/proc/{self._process.pid}/smaps_rollup").read_text()
        sizes = {line.split(":")[0]: int(line.split()[1]) for line in rollup.splitlines()[1:]}
        return sizes["Rss"] / 1024, sizes["Pss"] / 1024

    def rss(self) -> float:
        """Resident size in MB. Cheaper than `memory`."""
        return self._status_mb("VmRSS")

    def reset_peak_rss(self) -> None:
        """Begin to record the largest resident size (Linux: proc(5), `clear_refs`)."""
        Path(f"/proc/{self._process.pid}/clear_refs").write_text("5")

    def peak_rss(self) -> float:
        """The largest resident size in MB since `reset_peak_rss`, of which nothing is missed."""
        return self._status_mb("VmHWM")

    def _status_mb(self, name: str) -> float:
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        (line,) = (each for each in status.splitlines() if each.startswith(f"{name}:"))
        return int(line.split()[1]) / 1024

    def descriptors(self) -> int:
        """The number of open file descriptors."""
        return len(list(Path(f"/proc/{self._process.pid}/fd").iterdir()))

    def wait_until_idle(self, timeout_s: float = 20.0) -> None:
        """Wait until it has done what it does by itself, such as importing on a thread."""
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            before = self.cpu()
            time.sleep(QUIET_INTERVAL_S)
            if self.cpu() - before < QUIET_INTERVAL_S / 50:
                return

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def write_line(self, content: object) -> float:
        """Send a line; when it was sent."""
        line = json.dumps(content).encode() + b"\n"
        at = time.monotonic()
        os.write(self._in, line)
        return at


class SdkLoopProcess(MeasuredProcess):
    """The plain SDK loop: a prompt in, the length of its answer out."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__("plain", environment)
        self._lines = os.fdopen(os.dup(self._out), "rb")
        self._lines.readline()

    def ask(self, prompt: str) -> TimedAnswer:
        asked_at = self.write_line(prompt)
        chars, first_at = json.loads(self._lines.readline())
        return TimedAnswer(asked_at, time.monotonic(), {"content": [{"text": "x" * chars}]}, [(first_at, "x" * chars)])


class StdioServer(MeasuredProcess):
    """An MCP server over stdio, after its handshake."""

    def __init__(self, name: ServerName, environment: Mapping[str, str], handshake: Handshake = "initialize") -> None:
        super().__init__(name, environment)
        self._inbox = _ReceivedMessages()
        self._progress_by_token: dict[int, list[tuple[float, str]]] = {}
        self._notifications_read = 0
        self._last_id = 0
        self.reading = threading.Event()
        """Clear it, and the client stops reading (a read under way still takes what comes first)."""
        self.reading.set()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._new = handshake == "server/discover"
        client = {
            "protocolVersion": OLD_VERSION,
            "capabilities": {},
            "clientInfo": {"name": "benchmark", "version": "1"},
        }
        self.answered_s = (
            self.wait_for_answer(self.request(handshake, {} if self._new else client)).at - self.spawned_at
        )
        if not self._new:
            self.write_line({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.reading.set()
        self._process.kill()
        self._reader.join()  # before the descriptor is closed, and perhaps another's
        super().__exit__(kind, problem, trace)

    def request(self, method: str, params: Mapping[str, object]) -> tuple[int, float]:
        """Send a request; its id and when it was sent."""
        self._last_id += 1
        meta: dict[str, object] = {"progressToken": self._last_id} if method == "tools/call" else {}
        if self._new:
            meta |= {
                "io.modelcontextprotocol/protocolVersion": NEW_VERSION,
                "io.modelcontextprotocol/clientInfo": {"name": "benchmark", "version": "1"},
                "io.modelcontextprotocol/clientCapabilities": {},
            }
        known = {**params, "_meta": meta} if meta else params
        return self._last_id, self.write_line(
            {"jsonrpc": "2.0", "id": self._last_id, "method": method, "params": known}
        )

    def start_ask(self, prompt: str) -> tuple[int, float]:
        """Ask, without waiting."""
        return self.request("tools/call", {"name": TOOL_NAMES[self.name], "arguments": {"prompt": prompt}})

    def ask(self, prompt: str) -> TimedAnswer:
        """Ask, and wait for the answer."""
        return self.wait_for_answer(self.start_ask(prompt))

    def cancel(self, request: tuple[int, float]) -> float:
        """Cancel a request; when that was sent."""
        return self.write_line(
            {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": request[0]}}
        )

    def wait_for_answer(self, request: tuple[int, float], timeout_s: float = 120.0) -> TimedAnswer:
        """The answer to a request."""
        inbox, (identity, asked_at) = self._inbox, request
        with inbox.changed:
            if not inbox.changed.wait_for(lambda: identity in inbox.answers or inbox.ended, timeout_s):
                raise TimeoutError(f"{self.name} has not answered after {timeout_s} s")
            if identity not in inbox.answers:
                raise RuntimeError(f"{self.name} has ended without an answer")
            at, line = inbox.answers.pop(identity)
        answer = json.loads(line)
        if "result" not in answer or answer["result"].get("isError"):
            raise RuntimeError(f"{self.name}: {line.decode()[:500]}")
        return TimedAnswer(asked_at, at, answer["result"], self._progress(identity))

    def has_answer(self, request: tuple[int, float]) -> bool:
        """Whether the answer to a request has come."""
        return request[0] in self._inbox.answers

    def wait_for_notifications(self, size: int, timeout_s: float = 30.0) -> None:
        """Wait until notifications of so many bytes have come since `forget`."""
        until = time.monotonic() + timeout_s
        while sum(len(line) for _, line in self._inbox.notifications) < size:
            if time.monotonic() > until:
                raise TimeoutError(f"{self.name} has said nothing for {timeout_s} s")
            time.sleep(0.005)

    def clear_notifications(self) -> None:
        """Drop the notifications so far."""
        self._inbox.notifications.clear()
        self._progress_by_token.clear()
        self._notifications_read = 0

    def _progress(self, token: int) -> list[tuple[float, str]]:
        notes, begin = self._inbox.notifications, self._notifications_read
        self._notifications_read = len(notes)
        for at, line in notes[begin : self._notifications_read]:
            note = json.loads(line)
            if note["method"] == "notifications/progress":
                params = note["params"]
                self._progress_by_token.setdefault(params["progressToken"], []).append(
                    (at, params.get("message") or "")
                )
        return self._progress_by_token.get(token, [])

    def _read(self) -> None:
        rest, inbox = b"", self._inbox
        while True:
            self.reading.wait()
            chunk = os.read(self._out, READ_SIZE)
            at = time.monotonic()
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if b'"method"' in line[:40]:
                    inbox.notifications.append((at, line))
                    continue
                with inbox.changed:
                    inbox.answers[json.loads(line).get("id", 0)] = (at, line)
                    inbox.changed.notify_all()
            if not chunk:
                with inbox.changed:
                    inbox.ended = True
                    inbox.changed.notify_all()
                return
