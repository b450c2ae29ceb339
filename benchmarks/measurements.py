"""The measurements: each a function that makes rows of the table. What is compared is measured in turns, A B A B."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from simulator_process import CHARS_PER_TOKEN, DELTA_CHARS, ONE_EVENT_PER_WRITE, SimulatorProcess, delta_prompt
from stdio_client import SdkLoopProcess, StdioServer, TimedAnswer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from stdio_client import Handshake, MeasuredProcess

DELTA_PACE, THINKING_TOKENS = 1_000, 30
"""Tokens a second, and tokens of thinking before the text, where the first text is waited for."""
BASELINE_DELTAS = 10
TAIL_DELAY_S = 0.03
"""What a server still does after its answer (the ledger) belongs to the answer's CPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureRow:
    """A line of the table. `ratio` and `ours` are compared with what `target` says; `met` is None without a target.

    `key` names the column of `history.tsv` that keeps the ratio, or `number` where there is none.
    """

    figure: str
    ours: str
    other: str = "–"
    ratio: float | None = None
    target: str = "–"
    met: bool | None = None
    key: str = ""
    number: float | None = None


@dataclass(frozen=True, slots=True)
class BenchmarkContext:
    """What measurements share: the upstream, the environment of its clients, and how long to take."""

    upstream: SimulatorProcess
    environment: Mapping[str, str]
    quick: bool

    def times(self, full: int, quick: int) -> range:
        return range(quick if self.quick else full)


@dataclass(slots=True)
class Samples:
    """Samples by name, each name's in order."""

    by_name: dict[str, list[float]] = field(default_factory=dict[str, list[float]])

    def add(self, name: str, value: float) -> None:
        self.by_name.setdefault(name, []).append(value)

    def __getitem__(self, name: str) -> float:
        return statistics.median(self.by_name[name])

    def worst(self, name: str) -> float:
        return max(self.by_name[name])


def measure_start(bench: BenchmarkContext) -> Iterator[FigureRow]:
    """From the spawn to the answer to a handshake."""
    samples = Samples()
    for turn in (-1, *bench.times(15, 4)):
        for handshake in _HANDSHAKES:
            for name in ("ours", "naive"):
                with StdioServer(name, bench.environment, handshake) as server:
                    if turn >= 0:  # the first of each only warms the disk
                        samples.add(name + handshake, server.answered_s * 1e3)
    for handshake in _HANDSHAKES:
        ours, naive = samples["ours" + handshake], samples["naive" + handshake]
        key = "start" if handshake == "initialize" else ""
        yield _ratio(f"spawn → answer to `{handshake}`", ours, naive, "naive", limit=0.38, unit="ms", key=key)


_HANDSHAKES: tuple[Handshake, ...] = ("initialize", "server/discover")


def measure_deltas(bench: BenchmarkContext) -> Iterator[FigureRow]:
    """CPU and wall time for each delta at full speed, and whether that stays flat as answers grow."""
    with _WarmProcesses(bench) as (ours, naive, plain):
        cpu: dict[int, Samples] = {}
        for count in (5_000, 10_000, 20_000):
            processes = (ours, naive, plain) if count == 5_000 else (ours, plain)
            cpu[count], wall = _cost(bench, processes, count, pace=0)
            title = f"CPU per delta, {count:,} deltas"
            key = "delta_64" if count == 5_000 else ""
            yield _ratio(
                title, cpu[count]["ours"], cpu[count]["plain"], "plain", limit=0.07, unit="µs", key=key, digits=2
            )
            if count == 5_000:
                yield _ratio("the same, the naive server", cpu[count]["naive"], cpu[count]["plain"], "plain", unit="µs")
                yield _ratio("wall time, 5,000 deltas", wall["ours"], wall["plain"], "plain", unit="ms")
                yield _ratio("the same, the naive server", wall["naive"], wall["plain"], "plain", unit="ms")
        yield _ratio(
            "CPU per delta, 4 × the length against 1 ×",
            cpu[20_000]["ours"],
            cpu[5_000]["ours"],
            "1 ×",
            limit=1.15,
            unit="µs",
        )
        single, _ = _cost(bench, (ours, naive, plain), 5_000, pace=ONE_EVENT_PER_WRITE)
        yield _ratio(
            "CPU per delta, every event a write",
            single["ours"],
            single["plain"],
            "plain",
            limit=0.12,
            unit="µs",
            key="delta_1",
        )
        yield _ratio("the same, the naive server", single["naive"], single["plain"], "plain", unit="µs")


def _cost(
    bench: BenchmarkContext, processes: Sequence[StdioServer | SdkLoopProcess], count: int, *, pace: float
) -> tuple[Samples, Samples]:
    """Microseconds of CPU a delta beyond a call with few, and milliseconds of wall time for a call."""
    cpu, wall, baseline = Samples(), Samples(), Samples()
    rounds = bench.times(9, 3)
    for _ in rounds:
        for process in processes:
            baseline.add(process.name, _ask(process, delta_prompt(BASELINE_DELTAS, pace=pace))[0])
    for _ in rounds:
        for process in processes:
            spent, answer = _ask(process, delta_prompt(count, pace=pace))
            sent = len(answer.text) / DELTA_CHARS
            cpu.add(process.name, (spent - baseline[process.name]) / (sent - BASELINE_DELTAS) * 1e6)
            wall.add(process.name, (answer.at - answer.asked_at) * 1e3)
            if not answer.lossless:
                raise AssertionError(f"{process.name}: progress joined is not the answer")
    return cpu, wall


def _ask(process: StdioServer | SdkLoopProcess, question: str) -> tuple[float, TimedAnswer]:
    if isinstance(process, StdioServer):
        process.clear_notifications()
    before = process.cpu()
    answer = process.ask(question)
    time.sleep(TAIL_DELAY_S)
    return process.cpu() - before, answer


def measure_first_progress(bench: BenchmarkContext) -> Iterator[FigureRow]:
    """From the upstream's first delta to the client's first text."""
    with _WarmProcesses(bench) as (ours, naive, plain):
        for title, think, limit, key in (
            ("upstream's first delta → first text at the client", 0, 0.55, "first_text"),
            (
                f"the same, after {THINKING_TOKENS / DELTA_PACE * 1e3:.0f} ms of thinking",
                THINKING_TOKENS,
                0.9,
                "first_text_after_thinking",
            ),
        ):
            question = delta_prompt(60, pace=DELTA_PACE, ttft=0.05, think=think)
            samples = Samples()
            for _ in bench.times(40, 8):
                for process in (ours, naive, plain):
                    bench.upstream.forget_requests()
                    answer = _ask(process, question)[1]
                    (record,) = bench.upstream.wait_for_finished()
                    samples.add(
                        process.name, (answer.first_text_at - record["first_byte_at"] - think / DELTA_PACE) * 1e3
                    )
            ours_ms, naive_ms = samples["ours"], samples["naive"]
            yield _ratio(title, ours_ms, naive_ms, "naive", limit=limit, unit="ms", digits=2, key=key)
            yield _ratio(
                "the same, of which the plain SDK", samples["plain"], samples["naive"], "naive", unit="ms", digits=2
            )


def measure_cancel(bench: BenchmarkContext) -> Iterator[FigureRow]:
    """From the client's `notifications/cancelled` to the end of the upstream's socket."""
    samples = Samples()
    with _WarmProcesses(bench) as (ours, naive, _):
        for _ in bench.times(25, 5):
            for server in (ours, naive):
                bench.upstream.forget_requests()
                server.clear_notifications()
                call = server.start_ask(delta_prompt(5_000, pace=100))
                server.wait_for_notifications(800)
                cancelled_at = server.cancel(call)
                (record,) = bench.upstream.wait_for_finished()
                samples.add(server.name, (record["ended_at"] - cancelled_at) * 1e3)
    yield FigureRow(
        figure="cancel → upstream socket closed (stdio)",
        ours=f"{samples['ours']:.2f} ms, worst {samples.worst('ours'):.1f}",
        other=f"{samples['naive']:.2f} ms, worst {samples.worst('naive'):.1f} (naive)",
        ratio=samples["ours"] / samples["naive"],
        target="≤ 50 ms",
        met=samples.worst("ours") <= 50,
    )


def measure_another_tool(bench: BenchmarkContext) -> Iterator[FigureRow]:
    """How long `claude_info` takes: alone, while an answer streams, and while ten do at full speed."""
    question = ("tools/call", {"name": "claude_info", "arguments": {"about": "config"}})
    with StdioServer("ours", bench.environment) as server:
        server.wait_until_idle()
        for title, calls, pace, target in (
            ("another tool's answer, nothing else running", 0, 0.0, 0.0),
            ("the same, while a paced answer streams", 1, 60.0, 50.0),
            ("the same, while one streams at full speed", 1, 0.0, 50.0),
            ("the same, while ten stream at full speed (≤ 10 ms in the middle)", 10, 0.0, 50.0),
        ):
            took = Samples()
            for _ in bench.times(3, 1):
                server.clear_notifications()
                running = [server.start_ask(delta_prompt(250 if pace else 20_000, pace=pace)) for _ in range(calls)]
                time.sleep(0.05)
                requests = 0
                while requests < (1_000 if calls and not pace else 100) and not (
                    running and any(server.has_answer(each) for each in running)
                ):
                    answer = server.wait_for_answer(server.request(*question))
                    took.add("info", (answer.at - answer.asked_at) * 1e3)
                    requests += 1
                    time.sleep(0.02 if pace else 0.002)
                for each in running:
                    server.wait_for_answer(each)
            yield FigureRow(
                figure=title,
                ours=f"{took['info']:.1f} ms, worst {took.worst('info'):.1f} of {len(took.by_name['info'])}",
                target=f"≤ {target:.0f} ms" if target else "–",
                met=took.worst("info") <= target if target else None,
            )


def measure_silent_client(bench: BenchmarkContext) -> Iterator[FigureRow]:
    """A client that stops reading: what becomes of the upstream, and what is added at the end.

    The stream is longer (8 MB in 8 s) than what pipes and socket buffers hold: a server that waited would show.
    """
    samples = Samples()
    naive_patience_s = 12.0
    question = delta_prompt(24_000 if bench.quick else 64_000, chars=CHARS_PER_TOKEN, pace=8_000)
    with _WarmProcesses(bench) as (ours, naive, _):
        for _ in bench.times(3, 1):
            for name, wait_s in (("reading", 0.0), ("silent", 0.2), ("long silent", 2.0)):
                bench.upstream.forget_requests()
                ours.clear_notifications()
                ours.reading.clear() if wait_s else ours.reading.set()
                call = ours.start_ask(question)
                (record,) = bench.upstream.wait_for_finished()
                time.sleep(wait_s)
                resumed_at = time.monotonic()
                ours.reading.set()
                answer = ours.wait_for_answer(call)
                samples.add(name, (record["ended_at"] - record["first_byte_at"]) * 1e3)
                samples.add(f"{name}, after", (answer.at - max(resumed_at, record["ended_at"])) * 1e3)
        bench.upstream.forget_requests()
        naive.clear_notifications()
        naive.reading.clear()
        call = naive.start_ask(question)
        time.sleep(naive_patience_s)
        frozen = bench.upstream.records()[0]["ended_at"] is None
        naive.reading.set()
        naive.wait_for_answer(call)
    yield _ratio(
        "a client that stops reading: the upstream's duration",
        samples["silent"],
        samples["reading"],
        "reading",
        limit=1.05,
        unit="ms",
    )
    yield FigureRow(
        figure="the same, the naive server",
        ours="–",
        other=f"{'upstream still held up' if frozen else 'done'} after {naive_patience_s:.0f} s (naive)",
    )
    for name, title in (
        ("reading", "upstream's end → the answer, reading"),
        ("silent", "the same, not reading until 0.2 s after the upstream's end"),
        ("long silent", "the same, not reading until 2 s after the upstream's end"),
    ):
        took, worst = samples[f"{name}, after"], samples.worst(f"{name}, after")
        yield FigureRow(figure=title, ours=f"{took:.0f} ms, worst {worst:.0f}", target="≤ 1,000 ms", met=worst <= 1000)


def plain_delta_s(bench: BenchmarkContext) -> float:
    """Seconds of CPU of the plain SDK loop for a delta that comes as a write of its own."""
    with SdkLoopProcess(bench.environment) as plain:
        for _ in range(2):
            plain.ask(delta_prompt(500))
        cpu, _ = _cost(bench, (plain,), 5_000, pace=ONE_EVENT_PER_WRITE)
    return cpu["plain"] / 1e6


def measure_memory(bench: BenchmarkContext) -> Iterator[FigureRow]:
    """What an idle server takes: warmed up after its handshake, and after a first answer."""
    samples = Samples()
    for _ in bench.times(3, 1):
        for name in ("ours", "naive"):
            with StdioServer(name, bench.environment) as server:
                server.wait_until_idle()
                _note_memory(samples, f"{name} idle", server)
                server.ask(delta_prompt(1_000))
                server.wait_until_idle()
                _note_memory(samples, f"{name} used", server)
    for state, title, limit in (
        ("idle", "idle memory after `initialize`", 0.75),
        ("used", "the same, after an answer", 1.05),
    ):
        rss, pss = samples[f"ours {state}"], samples[f"ours {state} PSS"]
        other, other_pss = samples[f"naive {state}"], samples[f"naive {state} PSS"]
        yield FigureRow(
            figure=f"{title}: RSS (PSS)",
            ours=f"{rss:.0f} ({pss:.0f}) MB",
            other=f"{other:.0f} ({other_pss:.0f}) MB (naive)",
            ratio=rss / other,
            target=f"≤ {limit:.2f} × naive",
            met=rss <= limit * other,
            key=f"memory_{state}",
        )


def _note_memory(samples: Samples, name: str, process: MeasuredProcess) -> None:
    rss, pss = process.memory()
    samples.add(name, rss)
    samples.add(f"{name} PSS", pss)


class _WarmProcesses:
    """Ours, naive and plain, each warm."""

    def __init__(self, bench: BenchmarkContext) -> None:
        self._members = (
            StdioServer("ours", bench.environment),
            StdioServer("naive", bench.environment),
            SdkLoopProcess(bench.environment),
        )

    def __enter__(self) -> tuple[StdioServer, StdioServer, SdkLoopProcess]:
        for member in self._members:
            member.wait_until_idle()
            for _ in range(2):
                member.ask(delta_prompt(500))
        return self._members

    def __exit__(self, *_: object) -> None:
        for member in self._members:
            member.__exit__(None, None, None)


def _ratio(
    figure: str,
    ours: float,
    other: float,
    whose: str,
    *,
    unit: str,
    limit: float | None = None,
    digits: int = 0,
    key: str = "",
) -> FigureRow:
    digits = digits or (1 if unit == "µs" else 0)
    return FigureRow(
        figure=figure,
        ours=f"{ours:,.{digits}f} {unit}",
        other=f"{other:,.{digits}f} {unit} ({whose})",
        ratio=ours / other,
        target=f"≤ {limit:.2f} × {whose}" if limit else "–",
        met=ours / other <= limit if limit else None,
        key=key,
    )


MEASUREMENTS: dict[str, Callable[[BenchmarkContext], Iterator[FigureRow]]] = {
    "start": measure_start,
    "deltas": measure_deltas,
    "first_progress": measure_first_progress,
    "cancel": measure_cancel,
    "another_tool": measure_another_tool,
    "silent_client": measure_silent_client,
    "memory": measure_memory,
}
