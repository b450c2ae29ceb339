"""Long measurements: the memory of an answer of 8 MB, the cost of 160,000 deltas, and minutes of continuous work."""

from __future__ import annotations

import json
import statistics
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from measurements import BenchmarkContext, FigureRow
from simulator_process import delta_prompt
from stdio_client import StdioServer

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

LONG_ANSWER_MB = 8
SOAK_CALLS = 10
SHORT_DELTAS, LONG_DELTAS, SMALL_DELTA_CHARS = 5_000, 160_000, 3
"""Short deltas, since no model may write more than 128,000 tokens."""
DELTAS_PER_WRITE = 256
LONG_PROMPT, SHORT_PROMPT = "Write a long answer.", "Write a short answer."
MB = 1024 * 1024


class LongAnswerHandler(BaseHTTPRequestHandler):
    """Answers with 8 MB of text in four seconds, which is more than a model may write, or briefly if it is told to."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_error(404)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        writes = 1 if SHORT_PROMPT.encode() in body else LONG_ANSWER_MB * MB // 128 // DELTAS_PER_WRITE
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        message: dict[str, object] = {
            "id": "m",
            "type": "message",
            "role": "assistant",
            "model": "claude-sonnet-5-5",
            "content": [],
        }
        usage = {"input_tokens": 7, "output_tokens": 1}
        self._send({"type": "message_start", "message": {**message, "stop_reason": None, "usage": usage}})
        self._send({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})
        for number in range(writes):
            self.wfile.write(b"".join(_delta_bytes(number * DELTAS_PER_WRITE + n) for n in range(DELTAS_PER_WRITE)))
            time.sleep(4 / (LONG_ANSWER_MB * MB / 128 / DELTAS_PER_WRITE))
        self._send({"type": "content_block_stop", "index": 0})
        self._send({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}})
        self._send({"type": "message_stop"})
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its own name
        """Say nothing."""

    def _send(self, event: dict[str, object]) -> None:
        self.wfile.write(_event_bytes(event))


def _delta_bytes(number: int) -> bytes:
    """A delta of 128 characters, each of which differs from all others."""
    text = f"{number:08d}" + "tea time " * 13 + "..\n"
    return _event_bytes({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}})


def _event_bytes(event: dict[str, object]) -> bytes:
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


@contextmanager
def long_answer_upstream() -> Generator[str]:
    """The URL of an upstream whose answers have 8 MB."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), LongAnswerHandler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


def measure_answer_memory(bench: BenchmarkContext) -> Iterator[FigureRow]:
    """The memory of an answer of 8 MB while it is streamed, and what is left of it when it was delivered.

    The most of the first two of a process.
    """
    growth, rest = list[float](), list[float]()
    for _ in bench.times(3, 1):
        with (
            long_answer_upstream() as url,
            StdioServer("ours", {**bench.environment, "MCP_CLAUDE_BASE_URL": url}) as server,
        ):
            server.ask(SHORT_PROMPT)  # the SDK is imported, its client open and the store used
            for _ in range(2):  # the C library may keep what the first one has freed
                server.clear_notifications()
                server.wait_until_idle()
                before = server.rss()
                growth.append(_peak_memory(server) - before)
                server.clear_notifications()
                server.wait_until_idle()
                rest.append(server.rss() - before)
    peak, left = max(growth), max(rest)
    yield FigureRow(
        figure=f"memory of an answer of {LONG_ANSWER_MB} MB, at most while it streams and is returned",
        ours=f"{peak:.1f} MB",
        other=f"{LONG_ANSWER_MB} MB (its text)",
        ratio=peak / LONG_ANSWER_MB,
        target="≤ 2.00 × its text",
        met=peak <= 2 * LONG_ANSWER_MB,
        key="answer_memory",
    )
    yield FigureRow(figure="the same, after it was delivered", ours=f"{left:.1f} MB", target="≤ 2 MB", met=left <= 2)


def _peak_memory(server: StdioServer) -> float:
    """The largest resident size in MB between the question and its answer."""
    server.reset_peak_rss()
    answer = server.ask(LONG_PROMPT)
    peak = server.peak_rss()
    if len(answer.text) < LONG_ANSWER_MB * MB * 0.99:
        raise AssertionError(f"the answer has {len(answer.text)} characters")
    return peak


def measure_growth(bench: BenchmarkContext) -> Iterator[FigureRow]:
    """The CPU of a delta in an answer of 160,000 deltas, against one of 5,000."""
    cost: dict[int, list[float]] = {SHORT_DELTAS: [], LONG_DELTAS: []}
    with StdioServer("ours", bench.environment) as server:
        server.wait_until_idle()
        server.ask(delta_prompt(500))
        for _ in bench.times(5, 2):
            for count, samples in cost.items():
                server.clear_notifications()
                before = server.cpu()
                answer = server.ask(delta_prompt(count, chars=SMALL_DELTA_CHARS))
                samples.append((server.cpu() - before) / (len(answer.text) / SMALL_DELTA_CHARS) * 1e6)
                if not answer.lossless:
                    raise AssertionError("progress joined is not the answer")
    short, long = (statistics.median(samples) for samples in cost.values())
    yield FigureRow(
        figure=f"CPU per delta, {LONG_DELTAS:,} deltas",
        ours=f"{long:.1f} µs",
        other=f"{short:.1f} µs ({SHORT_DELTAS:,})",
        ratio=long / short,
        target=f"≤ 1.15 × {SHORT_DELTAS:,}",
        met=long / short <= 1.15,
        key="growth",
    )


def measure_soak(bench: BenchmarkContext) -> Iterator[FigureRow]:
    """Ten calls at a time for five minutes: memory, file descriptors and the write-ahead log stay what they were."""
    seconds = 30.0 if bench.quick else 300.0
    wal = Path(bench.environment["MCP_CLAUDE_DATA_DIR"]) / "store.db-wal"
    with StdioServer("ours", bench.environment) as server:
        server.wait_until_idle()
        answered, samples = 0, list[tuple[float, int, float]]()
        until = time.monotonic() + seconds
        next_sample = time.monotonic() + seconds / 10  # what is built once is there by then
        while time.monotonic() < until:
            calls = [
                server.start_ask(delta_prompt(100, name=f"Number {answered + n}.", pace=2_000))
                for n in range(SOAK_CALLS)
            ]
            for call in calls:
                server.wait_for_answer(call)
            answered += len(calls)
            server.clear_notifications()
            if time.monotonic() >= next_sample:
                next_sample += seconds / 10
                samples.append((server.memory()[0], server.descriptors(), wal.stat().st_size / MB))
    first, last = samples[0], samples[-1]
    flat = last[0] - first[0] <= 5 and last[1] <= first[1] + 2 and last[2] <= first[2] + 5
    yield FigureRow(
        figure=f"{seconds / 60:.1f} minutes of {SOAK_CALLS} calls at a time ({answered:,} calls)",
        ours=f"memory {first[0]:.0f} → {last[0]:.0f} MB, descriptors {first[1]} → {last[1]}, "
        f"write-ahead log {first[2]:.1f} → {last[2]:.1f} MB",
        target="flat",
        met=flat,
    )


ENDURANCE: dict[str, Callable[[BenchmarkContext], Iterator[FigureRow]]] = {
    "answer_memory": measure_answer_memory,
    "growth": measure_growth,
    "soak": measure_soak,
}
