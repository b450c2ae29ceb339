"""Measurements of jobs: what an item costs beyond its call, whether memory stays flat, and what an idle server does."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from measurements import BenchmarkContext, FigureRow
from stdio_client import StdioServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAP_ITEMS, QUICK_MAP_ITEMS = 10_000, 2_000
CALLS_AT_ONCE = 200
PLAIN_CALLS = 600
IDLE_S = 5.0
SAMPLE_INTERVAL_S = 0.25
MAX_OVERHEAD_MS = 3.0
MAP_TIMEOUT_S = 900.0
DIRECTIVE = "[[sim: tokens=20 pace=0 ttft=0.2 search=off]]"


def measure_map(bench: BenchmarkContext) -> Iterator[FigureRow]:
    """The CPU of an item of `claude_map`, 200 at once, against the same calls of `claude_ask`; memory; and idling."""
    count = QUICK_MAP_ITEMS if bench.quick else MAP_ITEMS
    project = Path(bench.environment["HOME"]) / "project"
    project.mkdir(exist_ok=True)
    jobs = {"MCP_CLAUDE_MAX_CONCURRENT_ITEMS": str(CALLS_AT_ONCE), "MCP_CLAUDE_PROJECT_DIR": str(project)}
    with StdioServer("ours", {**bench.environment, **jobs}) as server:
        server.wait_until_idle()
        idle_before = _idle_cpu(server)
        server.ask(f"Warm up. {DIRECTIVE}")
        server.wait_until_idle()
        memory_before = server.memory()[0]
        call_ms = _plain_calls(server, PLAIN_CALLS) * 1e3
        began = time.monotonic()
        spent = -server.cpu()
        call = server.request(
            "tools/call",
            {
                "name": "claude_map",
                "arguments": {"prompt": f"Name {{item}}. {DIRECTIVE}", "items": [f"thing {n}" for n in range(count)]},
            },
        )
        samples: list[float] = []
        while not server.has_answer(call) and time.monotonic() - began < MAP_TIMEOUT_S:
            samples.append(server.memory()[0])
            time.sleep(SAMPLE_INTERVAL_S)
        answer = server.wait_for_answer(call)
        spent += server.cpu()
        took = time.monotonic() - began
        if f"{count} of {count} answered" not in answer.text:
            raise AssertionError(answer.text[:500])
        server.clear_notifications()
        server.wait_until_idle()
        idle_after = _idle_cpu(server)
        memory_after = server.memory()[0]
    item_ms = spent / count * 1e3
    yield FigureRow(
        figure=f"CPU of an item of {count:,}, {CALLS_AT_ONCE} at once",
        ours=f"{item_ms:.2f} ms",
        other=f"{call_ms:.2f} ms (the same call by claude_ask)",
        ratio=item_ms / call_ms,
        target=f"≤ {MAX_OVERHEAD_MS:.0f} ms more",
        met=item_ms - call_ms <= MAX_OVERHEAD_MS,
    )
    early, peak = samples[len(samples) // 5], max(samples)
    yield FigureRow(
        figure="memory during this, after a fifth and at most",
        ours=f"{early:.0f} → {peak:.0f} MB ({memory_before:.0f} before it, {memory_after:.0f} after it), {took:.0f} s",
        ratio=peak / early,
        target="flat (≤ 1.10)",
        met=peak / early <= 1.1,
    )
    yield FigureRow(
        figure=f"CPU of an idle server in {IDLE_S:.0f} s, before and after its first job",
        ours=f"{idle_before:.1f} → {idle_after:.1f} ms",
        target="no more than 5 ms more",
        met=idle_after - idle_before <= 5,
    )


def _idle_cpu(server: StdioServer) -> float:
    """Milliseconds of CPU in `IDLE_S` seconds without a request."""
    before = server.cpu()
    time.sleep(IDLE_S)
    return (server.cpu() - before) * 1e3


def _plain_calls(server: StdioServer, count: int) -> float:
    """Seconds of CPU for each of so many calls of `claude_ask`, as many at once as the items."""
    before = server.cpu()
    waiting = [f"Name thing {n}. {DIRECTIVE}" for n in range(count)]
    running = [server.start_ask(waiting.pop()) for _ in range(CALLS_AT_ONCE)]
    while running:
        server.wait_for_answer(running.pop(0))
        if waiting:
            running.append(server.start_ask(waiting.pop()))
    spent = server.cpu() - before
    server.clear_notifications()
    return spent / count


JOBS: dict[str, Callable[[BenchmarkContext], Iterator[FigureRow]]] = {"map": measure_map}
