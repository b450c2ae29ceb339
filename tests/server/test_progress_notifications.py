from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

import anyio
import anyio.lowlevel
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mcp_server_claude.call_types import MessageStart, TextDelta, ThinkingProgress, ToolUse, Usage, Waiting
from mcp_server_claude.server import progress_notifications
from mcp_server_claude.server.progress_notifications import (
    MAX_MESSAGE_CHARS,
    MAX_STATUS_LINE_CHARS,
    ProgressReporter,
    ProgressStyle,
    StatusLine,
    progress_reporter,
    progress_style,
)
from mcp_server_claude.settings import Settings
from support.quick_run import examples

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mcp_server_claude.call_types import CallEvent

pytestmark = pytest.mark.anyio

FAMILY, FLAG, ARABIC, LINES = "👩‍👩‍👧", "🇺🇦", "مرحبا بالعالم", "one\ntwo\r\nthree\u2028four\x85"
TEXTS = st.lists(
    st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from([FAMILY, FLAG, ARABIC, LINES])
).map("".join)
"""Any text without lone surrogates, of which the answer buffer publishes none."""


class Client:
    """Receives notifications. `reads` is closed while the client does not read."""

    def __init__(self) -> None:
        self.progress: list[float] = []
        self.messages: list[str | None] = []
        self.reads = anyio.Event()
        self.reads.set()
        self.count = 0
        self._notified = anyio.Event()

    async def report(self, progress: float, message: str | None, total: float | None = None) -> None:
        del total
        self.count += 1
        self._notified.set()
        await self.reads.wait()
        self.progress.append(progress)
        self.messages.append(message)

    async def wait_for_reports(self, count: int) -> None:
        with anyio.fail_after(30):
            while self.count < count:
                self._notified = anyio.Event()
                await self._notified.wait()

    @property
    def texts(self) -> list[str]:
        return [message for message in self.messages if message is not None]


def split_text(text: str, sizes: Sequence[int]) -> Iterator[str]:
    begin = turn = 0
    while begin < len(text):
        size = sizes[turn % len(sizes)] if sizes else len(text)
        yield text[begin : begin + size]
        begin, turn = begin + size, turn + 1


async def pumped(events: Sequence[CallEvent], style: ProgressStyle, *, rests: Sequence[int] = (0,)) -> Client:
    """The messages that a client gets for these events; the reporter runs between them as often as `rests` says."""
    client = Client()
    running = ProgressReporter(client.report, style, interval=0, heartbeat=60)
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(running.send_until_finished)
            for n, event in enumerate(events):
                running.queue_event(event)
                for _ in range(rests[n % len(rests)]):
                    await anyio.lowlevel.checkpoint()
            running.finish_reporting()
    assert all(before < after for before, after in zip(client.progress, client.progress[1:], strict=False))
    return client


@settings(deadline=None, max_examples=examples(200))
@given(TEXTS, st.lists(st.integers(1, 9), max_size=5), st.lists(st.integers(0, 6), min_size=1, max_size=5))
@example(FAMILY * 3, [1], [4])
async def test_the_messages_joined_are_the_text_however_it_arrived(
    text: str, sizes: list[int], rests: list[int]
) -> None:
    client = await pumped([TextDelta(piece) for piece in split_text(text, sizes)], "text", rests=rests)
    assert "".join(client.texts) == text
    assert all(message and len(message) <= MAX_MESSAGE_CHARS for message in client.texts)


@pytest.mark.parametrize("size", [7, 4096, 2_000_000])
async def test_two_megabytes_arrive_complete_in_messages_of_64_kilobytes(size: int) -> None:
    text = f"{FAMILY}{ARABIC}\n{FLAG}" * 60_000
    client = await pumped([TextDelta(piece) for piece in split_text(text, [size])], "text")
    assert "".join(client.texts) == text
    assert max(map(len, client.texts)) <= MAX_MESSAGE_CHARS


async def test_in_style_text_only_the_answer_has_messages() -> None:
    events = [
        MessageStart(usage=Usage(model="claude-opus-5-5")),
        ThinkingProgress(9),
        ToolUse("web_search", "q"),
        Waiting("busy", 3),
    ]
    client = await pumped([*events, TextDelta("a"), ThinkingProgress(20), TextDelta("b")], "text", rests=[5])
    assert client.texts == ["a", "b"]
    assert len(client.messages) >= 1 + len(events) + 2


EVENTS = st.one_of(
    TEXTS.map(TextDelta),
    st.integers(0, 10**7).map(ThinkingProgress),
    st.builds(ToolUse, st.text() | st.just("web_search"), TEXTS),
    st.builds(Waiting, st.text(), st.none() | st.floats(0, 10**6)),
    st.builds(Usage, model=st.text(), input_tokens=st.integers(0, 10**9)).map(lambda usage: MessageStart(usage=usage)),
)


@settings(deadline=None, max_examples=examples(200))
@given(st.lists(EVENTS), st.lists(st.integers(0, 6), min_size=1, max_size=3))
@example([ToolUse("web_search", "two\nlines\x1b[31m")], [5])
@example([TextDelta("\x1b[31mred\x07\x00\u202e\x9b"), TextDelta("🎉" * 400)], [5])
@example([MessageStart(usage=Usage(model="claude-\r\n")), Waiting("why\n" * 90, 1)], [5])
async def test_a_status_is_one_line_a_person_can_read(events: list[CallEvent], rests: list[int]) -> None:
    client = await pumped(events, "status", rests=rests)
    assert client.messages[0] is not None
    for line in client.texts:
        assert 0 < len(line) <= MAX_STATUS_LINE_CHARS
        assert len(line.splitlines()) == 1
        assert not any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 or 0xD800 <= ord(c) < 0xE000 for c in line), ascii(line)


def test_a_status_has_model_stage_tokens_cost_time_and_the_last_words() -> None:
    line = StatusLine()
    line.update_stage(MessageStart(usage=Usage(model="claude-opus-5-5", input_tokens=1_000_000)))
    line.update_stage(ThinkingProgress(100))
    assert line.render().startswith("opus-5-5 · thinking 0.0 s · 100 tokens · $4.00 · ")
    line.add_text("word " * 70 + "the end")
    model, stage, tokens, cost, _, words = line.render().split(" · ")
    assert (model, stage, tokens, cost) == ("opus-5-5", "writing", "202 tokens", "$4.00")
    assert words.startswith("…")
    assert words.endswith("word the end")


@pytest.mark.parametrize("rests", [0, 1, 5])
async def test_a_tool_that_ended_between_two_lines_is_named_before_the_next_line(rests: int) -> None:
    tools = [ToolUse("web_fetch"), ToolUse("web_fetch", "https://example.com/tea"), ToolUse("code_execution")]
    client = await pumped(
        [ThinkingProgress(9), *tools, ThinkingProgress(20), TextDelta("Tea.")], "status", rests=[rests]
    )
    stages = [line.split(" · ")[0] for line in client.texts]
    assert "reading https://example.com/tea" in stages
    assert "running code" in stages
    if rests == 5:
        assert stages[-1] == "writing"
        assert stages.count("running code") == 1


async def test_silence_is_broken_by_heartbeats_without_text() -> None:
    client = Client()
    async with progress_reporter(client.report, "text", Settings(heartbeat_s=0.05, progress_interval_s=0.01)):
        await client.wait_for_reports(4)
    assert client.texts == []
    assert client.progress == sorted(set(client.progress))


async def test_the_seconds_of_thinking_advance_without_an_event(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_notifications, "THINKING_UPDATE_INTERVAL_S", 0.05)
    client = Client()
    async with progress_reporter(client.report, "status", Settings(heartbeat_s=240)) as running:
        running.queue_event(ThinkingProgress())
        await client.wait_for_reports(4)
    assert all("thinking" in line for line in client.texts[2:])


async def test_the_first_notification_does_not_wait_for_the_upstream() -> None:
    client = Client()
    async with progress_reporter(client.report, "status", Settings()):
        await client.wait_for_reports(1)
    assert client.texts[0].startswith("starting")


async def test_the_first_text_is_sent_at_once_and_the_next_after_the_interval() -> None:
    """A stage without words begins no interval, so the first words after thinking do not wait for it."""
    client = Client()
    running = ProgressReporter(client.report, "text", interval=3600, heartbeat=3600)
    events = [MessageStart(usage=Usage()), ThinkingProgress(9), ToolUse("web_search"), *map(TextDelta, "abc")]
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(running.send_until_finished)
            for event in events:
                await anyio.wait_all_tasks_blocked()
                running.queue_event(event)
            await anyio.wait_all_tasks_blocked()
            assert client.messages == [None, None, None, None, "a"]
            running.finish_reporting()
    assert client.texts == ["a", "bc"]


@pytest.mark.parametrize("style", ["text", "status"])
async def test_a_client_that_never_reads_delays_neither_the_upstream_nor_the_end(style: ProgressStyle) -> None:
    client = Client()
    client.reads = anyio.Event()
    with anyio.fail_after(30):
        async with progress_reporter(client.report, style, Settings()) as progress:
            await client.wait_for_reports(1)
            for _ in range(10_000):
                progress.queue_event(TextDelta("more"))
    assert client.messages == []


async def test_a_suspended_process_does_not_count_against_its_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_notifications, "DRAIN_TIMEOUT_S", 0.1)
    client = Client()

    async def report(progress: float, message: str | None, total: float | None = None) -> None:
        del total
        time.sleep(0.15)  # noqa: ASYNC251 - all of this process waits, as for a processor
        await anyio.lowlevel.checkpoint()
        await client.report(progress, message)

    async with progress_reporter(report, "text", Settings()) as running:
        running.queue_event(TextDelta("x" * 3 * MAX_MESSAGE_CHARS))
    assert "".join(client.texts) == "x" * 3 * MAX_MESSAGE_CHARS


async def test_a_client_that_reads_late_gets_everything_at_once() -> None:
    client = Client()
    client.reads = anyio.Event()
    async with progress_reporter(client.report, "text", Settings()) as progress:
        await client.wait_for_reports(1)
        for n in range(1000):
            progress.queue_event(TextDelta(f"{n} "))
        client.reads.set()
    assert "".join(client.texts) == "".join(f"{n} " for n in range(1000))
    assert len(client.texts) == 1


@pytest.mark.parametrize("gone", [anyio.BrokenResourceError, anyio.ClosedResourceError])
async def test_a_client_that_disconnected_does_not_end_the_call(gone: type[Exception]) -> None:
    calls: list[tuple[float, str | None]] = []

    async def report(progress: float, message: str | None, total: float | None = None) -> None:
        del total
        calls.append((progress, message))
        raise gone

    async with progress_reporter(report, "text", Settings(progress_interval_s=0.01)) as progress:
        progress.queue_event(TextDelta("nobody "))
        await anyio.lowlevel.checkpoint()
        progress.queue_event(TextDelta("listens"))
    assert [message for _, message in calls] == [None]


async def test_an_inner_failure_is_raised_unchanged_after_the_messages_before_it() -> None:
    client = Client()

    async def fail() -> None:
        async with progress_reporter(client.report, "text", Settings()) as progress:
            progress.queue_event(TextDelta("said"))
            raise LookupError("ours")

    with pytest.raises(LookupError, match="ours"):
        await fail()
    assert client.texts == ["said"]


async def test_a_cancelled_call_stops_its_reporter() -> None:
    client = Client()
    with anyio.CancelScope() as scope:
        async with progress_reporter(client.report, "text", Settings()):
            await client.wait_for_reports(1)
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught


@pytest.mark.parametrize(
    ("shows_latest", "configured", "requested_style", "style"),
    [
        (True, "auto", None, "status"),
        (False, "auto", None, "text"),
        (True, "text", None, "text"),
        (False, "status", None, "status"),
        (True, "auto", "text", "text"),
        (False, "text", "status", "status"),
        (False, "auto", "shout", "text"),
        (True, "auto", 7, "status"),
        (False, "status", ["text"], "status"),
    ],
)
def test_the_style_is_that_of_the_call_else_of_the_setting_else_of_the_client(
    configured: Literal["auto", "text", "status"],
    requested_style: object,
    style: ProgressStyle,
    *,
    shows_latest: bool,
) -> None:
    assert progress_style(shows_latest=shows_latest, configured=configured, requested=requested_style) == style
