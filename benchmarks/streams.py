"""Hundreds of answers at once, over stdio, at `/chat` and at `/mcp`: nothing is lost, and how late each delta is."""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from http_client import HttpServerProcess, ask_all
from measurements import BenchmarkContext, FigureRow, plain_delta_s
from simulator_process import CHARS_PER_TOKEN, DELTA_CHARS, delta_prompt
from stdio_client import StdioServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from http_client import Route, TimedStream
    from stdio_client import ServerName

STREAMS, MOST_STREAMS, DELTAS_PER_S, STREAM_S = 200, 600, 20, 7
STREAMS_TTFT_S = 5.0
"""The streams' time to their first byte: by then all have begun, and what beginning costs is a figure of its own."""
MAX_LAG_MS: dict[Route, int] = {"chat": 60, "mcp": 120}
MAX_LAG_OF_MOST_MS = 250
GOAL_PLAIN_DELTA_S = 57.6e-6
"""CPU of the plain loop for a delta, each a write, on the machine for which the shares of a core were set as goals."""
MAX_STREAMS_SHARE = 0.3
"""The goal for 200 streams, in cores of that machine."""
END_S = 1.0
"""Seconds before the last delta of all, in which the answers end."""


def measure_many_streams(bench: BenchmarkContext) -> Iterator[FigureRow]:
    """Two hundred answers at once over stdio, beside the naive server."""
    yield from _measure_stdio_streams(bench, STREAMS, ("ours", "naive"), max_lag_ms=120, max_share=MAX_STREAMS_SHARE)


def measure_600_streams(bench: BenchmarkContext) -> Iterator[FigureRow]:
    """Six hundred answers at once on one core: over stdio, to programs at `/chat`, to MCP clients at `/mcp`."""
    yield from _measure_stdio_streams(bench, MOST_STREAMS, ("ours",), max_lag_ms=MAX_LAG_OF_MOST_MS, max_share=1.0)
    plain_s = plain_delta_s(bench)
    for route in _ROUTES:
        yield _http_streams_row(bench, route, MOST_STREAMS, plain_s, max_lag_ms=MAX_LAG_OF_MOST_MS, max_share=1.0)


def measure_http_streams(bench: BenchmarkContext) -> Iterator[FigureRow]:
    """Two hundred answers at once over HTTP."""
    plain_s = plain_delta_s(bench)
    for route in _ROUTES:
        yield _http_streams_row(
            bench, route, STREAMS, plain_s, max_lag_ms=MAX_LAG_MS[route], max_share=MAX_STREAMS_SHARE
        )


_ROUTES: tuple[Route, ...] = ("chat", "mcp")


def _measure_stdio_streams(
    bench: BenchmarkContext, streams: int, names: Sequence[ServerName], *, max_lag_ms: float, max_share: float
) -> Iterator[FigureRow]:
    begin_s = _begin_s(streams)
    questions = _questions(streams)
    plain_s = plain_delta_s(bench)
    for name in names:
        with StdioServer(name, bench.environment) as server:
            server.wait_until_idle()
            server.ask(delta_prompt(10))
            bench.upstream.forget_requests()
            server.clear_notifications()
            calls = [server.start_ask(question) for question in questions]
            time.sleep(begin_s + 4)
            busy = -server.cpu()
            time.sleep(2)
            busy += server.cpu()
            answers = [server.wait_for_answer(call) for call in calls]
            records = {_prompt_of(record): record for record in bench.upstream.wait_for_finished(streams)}
        ramp = max(record["arrived_at"] for record in records.values()) - min(each.asked_at for each in answers)
        lags = _Lags()
        whole = 0
        for question, each in zip(questions, answers, strict=True):
            lags.add(each.progress, records[question]["paced_text_at"])
            whole += each.lossless and each.text == records[question]["text"]
        cost = _StreamsCost(streams, busy / 2, plain_s, max_share)
        result = f"{whole} of {streams} lossless, {lags.text}, {cost.text}"
        began = f"{ramp:.1f} s"
        if name == "ours":
            yield FigureRow(
                figure=f"{streams} streams × {DELTAS_PER_S} deltas/s in one process",
                ours=result,
                other=cost.plain_text,
                ratio=cost.ratio,
                target=f"lossless, p99 ≤ {max_lag_ms:.0f} ms, ≤ {cost.max_ratio:.2f} × plain",
                met=whole == streams and lags.p99_ms <= max_lag_ms and cost.ratio <= cost.max_ratio,
                key="share_stdio" if streams == STREAMS else "",
                number=busy / 2,
            )
            if streams == STREAMS:
                yield FigureRow(
                    figure=f"{streams} calls at once: all are upstream after",
                    ours=began,
                    target="≤ 0.4 s",
                    met=ramp <= 0.4,
                    key="begin_s",
                    number=ramp,
                )
        else:
            yield FigureRow(figure="both, the naive server", ours="–", other=f"{result}; {began} (naive)")


def _http_streams_row(
    bench: BenchmarkContext, route: Route, streams: int, plain_s: float, *, max_lag_ms: float, max_share: float
) -> FigureRow:
    with HttpServerProcess(bench.environment) as server:
        asyncio.run(ask_all(server.port, route, [delta_prompt(10)]))
        bench.upstream.forget_requests()
        idle = server.rss()
        questions = _questions(streams)
        answers, busy, peak = asyncio.run(_sample_streams(server, route, questions))
        records = {_prompt_of(record): record for record in bench.upstream.wait_for_finished(streams)}
    lags = _Lags()
    whole = 0
    for question, stream in zip(questions, answers, strict=True):
        texts = stream.texts()
        whole += "".join(text for _, text in texts) == records[question]["text"]
        lags.add(texts, records[question]["paced_text_at"])
    cost = _StreamsCost(streams, busy, plain_s, max_share)
    return FigureRow(
        figure=f"{streams} streams × {DELTAS_PER_S} deltas/s at `/{route}`",
        ours=f"{whole} of {streams} lossless, {lags.text}, {cost.text}, {(peak - idle) / streams:.2f} MB a stream",
        other=cost.plain_text,
        ratio=cost.ratio,
        target=f"lossless, p99 ≤ {max_lag_ms:.0f} ms, ≤ {cost.max_ratio:.2f} × plain",
        met=whole == streams and lags.p99_ms <= max_lag_ms and cost.ratio <= cost.max_ratio,
        key=f"share_{route}" if streams == STREAMS else "",
        number=busy,
    )


async def _sample_streams(
    server: HttpServerProcess, route: Route, questions: Sequence[str]
) -> tuple[list[TimedStream], float, float]:
    """The answers, the share of a core that the server took in the middle of them, and its memory there in MB."""
    asking = asyncio.create_task(ask_all(server.port, route, questions))
    await asyncio.sleep(_begin_s(len(questions)) + 4)
    busy = -server.cpu()
    await asyncio.sleep(2)
    busy += server.cpu()
    peak = server.rss()
    return await asking, busy / 2, peak


def _begin_s(streams: int) -> float:
    return STREAMS_TTFT_S * streams / STREAMS


def _questions(streams: int) -> list[str]:
    pace = DELTAS_PER_S * DELTA_CHARS / CHARS_PER_TOKEN
    count = DELTAS_PER_S * STREAM_S
    return [delta_prompt(count, name=f"Number {n}.", pace=pace, ttft=_begin_s(streams)) for n in range(streams)]


@dataclass(slots=True)
class _Lags:
    """The seconds from when the simulator sent each delta to when the client read its first character.

    The last character of a piece waits for the next at `/chat`, see `web.routes.server_sent_events`.
    """

    sent_and_lag_s: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])

    def add(self, progress: Iterable[tuple[float, str]], sent_at: Sequence[float]) -> None:
        """Add the deltas of one answer, sent at these times, with its pieces as the client read them."""
        seen = deltas = 0
        for at, message in progress:
            seen += len(message)
            while deltas < len(sent_at) and deltas * DELTA_CHARS < seen:
                self.sent_and_lag_s.append((sent_at[deltas], at - sent_at[deltas]))
                deltas += 1

    @property
    def p99_ms(self) -> float:
        return _percentiles_ms(lag for _, lag in self.sent_and_lag_s)[1]

    @property
    def text(self) -> str:
        p50, p99 = _percentiles_ms(lag for _, lag in self.sent_and_lag_s)
        end = max(sent for sent, _ in self.sent_and_lag_s) - END_S
        before = _percentiles_ms(lag for sent, lag in self.sent_and_lag_s if sent < end)[1]
        return f"lag p50 {p50:,.0f} ms, p99 {p99:,.0f} ms ({before:,.0f} before the last second)"


def _percentiles_ms(lags: Iterable[float]) -> tuple[float, float]:
    """The median and the 99th percentile."""
    hundredths = statistics.quantiles(lags, n=100)
    return hundredths[49] * 1e3, hundredths[98] * 1e3


@dataclass(frozen=True, slots=True)
class _StreamsCost:
    """What a delta costs a server with many streams, in deltas of the plain loop.

    The goal is a share of a core of another machine. There a delta of the plain loop took `GOAL_PLAIN_DELTA_S`.
    """

    streams: int
    share: float
    plain_s: float
    max_share: float

    @property
    def ratio(self) -> float:
        return self.share / (self.streams * DELTAS_PER_S) / self.plain_s

    @property
    def max_ratio(self) -> float:
        return self.max_share / (self.streams * DELTAS_PER_S) / GOAL_PLAIN_DELTA_S

    @property
    def text(self) -> str:
        return f"{self.share:.0%} of a core, {self.share / (self.streams * DELTAS_PER_S) * 1e6:.0f} µs a delta"

    @property
    def plain_text(self) -> str:
        return f"{self.plain_s * 1e6:.0f} µs (plain, one stream at full speed)"


def _prompt_of(record: Mapping[str, dict[str, list[dict[str, str]]]]) -> str:
    return record["body"]["messages"][-1]["content"]


STREAM_MEASUREMENTS: dict[str, Callable[[BenchmarkContext], Iterator[FigureRow]]] = {
    "many_streams": measure_many_streams,
    "600_streams": measure_600_streams,
    "doors": measure_http_streams,
}
