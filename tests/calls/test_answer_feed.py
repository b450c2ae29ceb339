"""Answers that are read while they are written: places in the text, readers that come and go, other processes."""

from __future__ import annotations

import math
import time
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mcp_server_claude.call_types import Call, Limits, TextDelta
from mcp_server_claude.calls import answer_feed
from mcp_server_claude.calls import answer_feed as room
from mcp_server_claude.calls.answer_feed import (
    BATCH_INTERVAL_S,
    DoneEvent,
    ErrorEvent,
    KeepAliveEvent,
    StartEvent,
    StatusEvent,
    TextEvent,
    UsageEvent,
)
from mcp_server_claude.errors import CallError, RequestError, TemporaryError
from mcp_server_claude.services.lazy_services import Services
from mcp_server_claude.settings import Settings
from mcp_server_claude.simulator import Simulator, directive
from mcp_server_claude.store import call_journal, process_locks
from support.mcp_session import FAKE_KEY
from support.quick_run import examples
from support.simulator_requests import message_requests

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from pathlib import Path

    from mcp_server_claude.call_types import CallEvent
    from mcp_server_claude.calls.answer_feed import AnswerFeed, FeedEvent

pytestmark = pytest.mark.anyio
STALLED = directive(tokens=400, fault="stall", at=90)
"""An answer that stops after 90 characters, and never ends by itself."""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
async def running(api: Simulator, shared: Path) -> AsyncIterator[Services]:
    """What several tests share: a server process, as seen by this module."""
    async with open_server(api, shared) as services:
        yield services


@pytest.fixture(scope="module")
async def elsewhere(api: Simulator, shared: Path) -> AsyncIterator[AnswerFeed]:
    """The same room in another process: it has the journal, and nothing in memory."""
    async with open_server(api, shared) as services:
        yield (await services.open()).answer_feed


@pytest.fixture(autouse=True)
def _afresh(api: Simulator) -> None:
    api.reset()


@asynccontextmanager
async def open_server(api: Simulator, data_dir: Path, **fields: object) -> AsyncGenerator[Services]:
    """What one server process holds."""
    values = {"api_key": FAKE_KEY, "base_url": api.url, "data_dir": data_dir, "models_wait_s": 30} | fields
    with anyio.fail_after(600):
        async with Services.lifespan(Settings.model_validate(values), http=True) as services:
            yield services


def asking(prompt: str, user: str = "ada", **fields: object) -> Call:
    return Call(prompt=prompt, user=user, source="http", tool="chat", **fields)  # pyright: ignore[reportArgumentType]


async def read_events(streams: AnswerFeed, call_id: str, offset: int = 0, user: str = "ada") -> list[FeedEvent]:
    async with aclosing(await streams.follow_answer(call_id, user, offset)) as reader:
        return [each async for each in reader]


async def until_text(streams: AnswerFeed, call_id: str, chars: int) -> int:
    """Read until so many characters have come, then go; how many it were."""
    async with aclosing(await streams.follow_answer(call_id, "ada")) as reader:
        async for each in reader:
            if each.offset >= chars:
                return each.offset
    raise AssertionError("it ended first")


def text_of(events: list[FeedEvent]) -> str:
    return "".join(each.event.text for each in events if isinstance(each.event, TextEvent))


def states(events: list[FeedEvent]) -> list[str]:
    return [each.event.state for each in events if isinstance(each.event, StatusEvent)]


def failure_of(events: list[FeedEvent]) -> CallError | None:
    return next((each.event.failure for each in events if isinstance(each.event, ErrorEvent)), None)


def end_of(events: list[FeedEvent]) -> DoneEvent:
    assert isinstance(events[-1].event, DoneEvent)
    assert sum(isinstance(each.event, DoneEvent) for each in events) == 1
    return events[-1].event


# --------------------------------------------------------------------- places


PIECES = st.lists(st.sampled_from(["\r", "\n", "\r\n", "a", "é", "😀", "word ", "\n\n", "\u2028"]), max_size=40)


@settings(max_examples=examples(25), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=PIECES, chars=st.integers(1, 7), share=st.floats(0, 1))
@example(pieces=["\r", "\n", "😀", "\r"], chars=1, share=0.5)
async def test_from_any_offset_the_rest_is_delivered_exactly_once(
    running: Services, elsewhere: AnswerFeed, pieces: list[str], chars: int, share: float
) -> None:
    """From memory and from the journal: a place in an answer means the same in both."""
    text = "." + "".join(pieces) + "!"
    streams = (await running.open()).answer_feed
    call = await streams.start_answer(asking(directive(text=text, chars=chars, split="surrogates")))
    complete = await read_events(streams, call.id)
    assert text_of(complete) == text
    assert [each.offset for each in complete] == sorted(each.offset for each in complete)
    assert complete[-1].offset == len(text)
    offset = round(share * len(text))
    for room_ in (streams, elsewhere):
        events = await read_events(room_, call.id, offset)
        assert isinstance(events[0].event, StartEvent)
        assert events[0].offset == offset
        assert text_of(events) == text[offset:]
        assert events[-1].offset == len(text)
        assert end_of(events) == DoneEvent(complete=True, stop_reason="end_turn")


async def test_an_answer_can_be_resumed_from_every_offset_while_it_is_written(
    running: Services, api: Simulator
) -> None:
    streams = (await running.open()).answer_feed
    call = await streams.start_answer(asking(STALLED))
    await until_text(streams, call.id, 90)
    text = message_requests(api)[0].text
    for offset in range(len(text) + 1):
        async with aclosing(await streams.follow_answer(call.id, "ada", offset)) as reader:
            first = await anext(reader)
            assert isinstance(first.event, StartEvent)
            seen = ""
            while offset + len(seen) < len(text):
                each = await anext(reader)
                if isinstance(each.event, TextEvent):
                    seen += each.event.text
                    assert each.offset == offset + len(seen)
            assert seen == text[offset:]
    assert await streams.stop_answer(call.id, "ada")


async def test_an_offset_beyond_the_end_is_rejected(running: Services, elsewhere: AnswerFeed, api: Simulator) -> None:
    streams = (await running.open()).answer_feed
    call = await streams.start_answer(asking(STALLED))
    await until_text(streams, call.id, 90)
    with pytest.raises(RequestError, match="Only 90 characters") as beyond:
        await streams.follow_answer(call.id, "ada", 91)
    assert beyond.value.kind == "truncated"
    await streams.stop_answer(call.id, "ada")
    await api.wait_until_idle()
    await read_events(streams, call.id)
    for each in (streams, elsewhere):
        with pytest.raises(RequestError, match="Only 90 characters"):
            await each.follow_answer(call.id, "ada", 91)
        assert text_of(await read_events(each, call.id, 90)) == ""


async def test_an_unknown_call_and_that_of_another_user_are_not_found(running: Services, elsewhere: AnswerFeed) -> None:
    streams = (await running.open()).answer_feed
    call = await streams.start_answer(asking("What is tea?"))
    await read_events(streams, call.id)
    for each in (streams, elsewhere):
        for call_id, user in ((call.id, "bob"), ("c_0000000000000000", "ada"), ("", "ada")):
            with pytest.raises(RequestError) as unknown:
                await each.follow_answer(call_id, user)
            assert unknown.value.kind == "not_found"
            with pytest.raises(RequestError) as unknown:
                await each.stop_answer(call_id, user)
            assert unknown.value.kind == "not_found"


# --------------------------------------------------------------------- the events


async def test_the_events_are_a_start_statuses_text_usage_and_an_end(running: Services, api: Simulator) -> None:
    streams = (await running.open()).answer_feed
    call = await streams.start_answer(asking("Tell me. [[sim: think=40 tokens=30]]", model="opus"))
    events = await read_events(streams, call.id)
    start, account = events[0].event, events[-2].event
    assert isinstance(start, StartEvent)
    assert (start.call, start.thread, start.model) == (call.id, call.thread, "claude-opus-5-5")
    assert start.thread.startswith("t_")
    assert states(events) == ["reading", "thinking", "writing"]
    assert text_of(events) == message_requests(api)[0].text
    assert isinstance(account, UsageEvent)
    assert account.usage["thread"] == call.thread
    assert account.usage["call_id"] == call.id
    assert account.usage["complete"] is True
    assert end_of(events).complete


async def test_a_wait_is_reported_with_its_duration_and_then_its_outcome(running: Services) -> None:
    streams = (await running.open()).answer_feed
    before = time.time()
    call = await streams.start_answer(asking(directive(status=529, retry_after=0.2, times=1)))
    events = await read_events(streams, call.id)
    waiting = next(each.event for each in events if isinstance(each.event, StatusEvent))
    assert waiting.state == "waiting"
    assert "overloaded, trying again in" in waiting.text
    assert waiting.until is not None
    assert before < waiting.until < time.time() + 60
    assert states(events) == ["waiting", "reading", "thinking", "writing"]
    assert end_of(events).complete


async def test_a_broken_stream_is_retried_and_continued(running: Services) -> None:
    streams = (await running.open()).answer_feed
    call = await streams.start_answer(asking(directive(tokens=100, fault="drop", at=80, times=1)))
    events = await read_events(streams, call.id)
    assert states(events) == ["reading", "thinking", "writing", "waiting", "going", "thinking", "writing"]
    assert end_of(events).complete


async def test_a_late_reader_gets_only_the_current_status(running: Services) -> None:
    streams = (await running.open()).answer_feed
    call = await streams.start_answer(asking("Tell me. [[sim: think=40 tokens=30]]"))
    assert states(await read_events(streams, call.id)) == ["reading", "thinking", "writing"]
    assert states(await read_events(streams, call.id)) == ["writing"]


async def test_an_answer_with_a_schema_arrives_in_one_piece_at_its_end(running: Services) -> None:
    streams = (await running.open()).answer_feed
    schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    call = await streams.start_answer(asking("Name a tea.", schema=schema))
    events = await read_events(streams, call.id)
    assert sum(isinstance(each.event, TextEvent) for each in events) == 1
    assert text_of(events).startswith("{")
    assert states(events)[-1] == "writing"
    assert end_of(events).complete


async def test_an_error_before_the_first_event_is_raised(running: Services) -> None:
    streams = (await running.open()).answer_feed
    for prompt, kind in ((directive(status=400), "invalid_request"), (directive(status=413), "too_large")):
        with pytest.raises(CallError) as failed:
            await streams.start_answer(asking(prompt))
        assert failed.value.kind == kind
    with pytest.raises(RequestError, match="no thread with that id"):
        await streams.start_answer(asking("x", thread="t_0000000000000000"))


async def test_a_failure_is_reported_alike_from_memory_and_from_the_journal(
    running: Services, elsewhere: AnswerFeed
) -> None:
    streams = (await running.open()).answer_feed
    call = await streams.start_answer(asking("Tell me. [[sim: stop=refusal]]"))
    live = await read_events(streams, call.id)
    journaled = await read_events(elsewhere, call.id)
    for events in (live, journaled):
        failure = failure_of(events)
        assert isinstance(failure, RequestError)
        assert (failure.kind, failure.retryable) == ("refusal", False)
        assert str(failure).startswith("Claude declined")
        assert end_of(events) == DoneEvent(complete=False, stop_reason="refusal")
        assert isinstance(events[-3].event, UsageEvent)
    assert text_of(live) == text_of(journaled)
    assert live[-3].event == journaled[-3].event


async def test_an_answer_that_was_cut_has_its_reason_in_memory_and_in_the_journal(
    running: Services, elsewhere: AnswerFeed
) -> None:
    streams = (await running.open()).answer_feed
    call = await streams.start_answer(asking("Tell me. [[sim: stop=max_tokens]]"))
    for events in (await read_events(streams, call.id), await read_events(elsewhere, call.id)):
        assert failure_of(events) is None
        assert end_of(events).incomplete.startswith("it reached max_tokens")
        assert end_of(events).stop_reason == "max_tokens"


# --------------------------------------------------------------------- readers


async def test_simultaneous_readers_get_everything_and_a_stalled_one_delays_no_other(
    running: Services, api: Simulator
) -> None:
    streams = (await running.open()).answer_feed
    call = await streams.start_answer(asking(directive(tokens=3000)))
    async with aclosing(await streams.follow_answer(call.id, "ada")) as stuck:
        await anext(stuck)
        received: list[list[FeedEvent]] = []

        async def read(offset: int) -> None:
            received.append(await read_events(streams, call.id, offset))

        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(read, 0)
        text = message_requests(api)[0].text
        assert [text_of(events) for events in received] == [text] * 5
        assert message_requests(api)[0].end == "complete"
        late = [each async for each in stuck]
        assert text_of(late) == text


async def test_fast_text_is_batched(running: Services) -> None:
    """A hundred pieces a second are not a hundred events a second."""
    streams = (await running.open()).answer_feed
    call = await streams.start_answer(asking(directive(tokens=200, think=0, pace=200, chars=4)))
    events = await read_events(streams, call.id)
    pieces = sum(isinstance(each.event, TextEvent) for each in events)
    took = next(each.event for each in events if isinstance(each.event, UsageEvent)).usage["duration_s"]
    assert isinstance(took, float)
    assert 1 < pieces <= took / BATCH_INTERVAL_S + 2


async def test_no_event_exceeds_the_size_that_clients_accept(running: Services, elsewhere: AnswerFeed) -> None:
    streams = (await running.open()).answer_feed
    call = await streams.start_answer(asking(directive(text="line\n" * 60_000)))
    await read_events(streams, call.id)
    for events in (
        await read_events(streams, call.id),
        await read_events(streams, call.id, 7),
        await read_events(elsewhere, call.id),
    ):
        assert max(len(each.event.text) for each in events if isinstance(each.event, TextEvent)) == 64 * 1024


async def test_without_a_grace_period_a_call_ends_when_its_last_reader_leaves(api: Simulator, tmp_path: Path) -> None:
    async with open_server(api, tmp_path, reader_grace_s=0) as services:
        streams = (await services.open()).answer_feed
        call = await streams.start_answer(asking(STALLED))
        async with aclosing(await streams.follow_answer(call.id, "ada")) as one:
            await anext(one)
            assert await until_text(streams, call.id, 90) == 90
            assert message_requests(api)[0].end == "open"
        await api.wait_until_idle()
        assert message_requests(api)[0].end == "disconnected"
        events = await read_events(streams, call.id)
        assert text_of(events) == message_requests(api)[0].text
        assert end_of(events).incomplete == "it no longer had readers. Ask again for the rest."


async def test_within_the_grace_period_a_reader_returns_and_misses_nothing(api: Simulator, tmp_path: Path) -> None:
    async with open_server(api, tmp_path, reader_grace_s=30) as services:
        streams = (await services.open()).answer_feed
        call = await streams.start_answer(asking(directive(tokens=150, think=0, pace=300, chars=4)))
        offset = await until_text(streams, call.id, 20)
        events = await read_events(streams, call.id, offset)
        assert text_of(events) == message_requests(api)[0].text[offset:]
        assert end_of(events).complete


async def test_after_the_grace_period_the_call_is_stopped(api: Simulator, tmp_path: Path) -> None:
    async with open_server(api, tmp_path, reader_grace_s=0.1) as services:
        streams = (await services.open()).answer_feed
        call = await streams.start_answer(asking(STALLED))
        await until_text(streams, call.id, 90)
        await api.wait_until_idle()
        assert message_requests(api)[0].end == "disconnected"


async def test_with_an_endless_grace_period_a_call_finishes_without_readers(api: Simulator, tmp_path: Path) -> None:
    async with open_server(api, tmp_path, reader_grace_s=math.inf) as services:
        streams = (await services.open()).answer_feed
        call = await streams.start_answer(asking(directive(tokens=100, think=0, pace=300)))
        await until_text(streams, call.id, 20)
        await api.wait_until_idle()
        assert message_requests(api)[0].end == "complete"
        assert end_of(await read_events(streams, call.id)).complete


async def test_a_call_whose_reader_never_came_is_stopped(
    api: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "FIRST_READER_TIMEOUT_S", 0.2)
    async with open_server(api, tmp_path, reader_grace_s=0) as services:
        await (await services.open()).answer_feed.start_answer(asking(STALLED))
        await api.wait_until_idle()
        assert message_requests(api)[0].end == "disconnected"


async def test_a_reader_of_a_call_of_an_mcp_client_gets_it_live_and_does_not_control_it(
    running: Services, api: Simulator
) -> None:
    jobs, streams = (await running.open()).calls, (await running.open()).answer_feed
    call = Call(prompt=directive(tokens=120, think=0, pace=200, chars=4), user="ada")
    texts: list[str] = []
    spoken = anyio.Event()

    def on_event(event: CallEvent) -> None:
        if type(event) is TextDelta:
            texts.append(event.text)
            spoken.set()

    events: list[FeedEvent] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(jobs.run_call, call, on_event)
        await spoken.wait()
        assert await until_text(streams, call.id, 8) >= 8
        events += await read_events(streams, call.id)
    assert text_of(events) == "".join(texts) == message_requests(api)[0].text
    assert end_of(events).complete


# --------------------------------------------------------------------- stopping


async def test_a_stop_closes_the_upstream_and_is_reported_to_every_reader(running: Services, api: Simulator) -> None:
    streams = (await running.open()).answer_feed
    call = await streams.start_answer(asking(STALLED))
    async with aclosing(await streams.follow_answer(call.id, "ada")) as reader:
        events = [await anext(reader)]
        while events[-1].offset < 90:
            events.append(await anext(reader))
        assert await streams.stop_answer(call.id, "ada")
        events += [each async for each in reader]
    await api.wait_until_idle()
    assert message_requests(api)[0].end == "disconnected"
    assert text_of(events) == message_requests(api)[0].text
    assert end_of(events) == DoneEvent(complete=False, incomplete="it was stopped. Ask again for the rest.")
    assert not await streams.stop_answer(call.id, "ada")


async def test_a_stop_before_the_first_text_is_an_error(
    running: Services, elsewhere: AnswerFeed, api: Simulator
) -> None:
    streams = (await running.open()).answer_feed
    call = await streams.start_answer(asking(directive(fault="stall", at=0)))
    assert await streams.stop_answer(call.id, "ada")
    events = await read_events(streams, call.id)
    await api.wait_until_idle()
    for each in (events, await read_events(elsewhere, call.id)):
        failure = failure_of(each)
        assert failure is not None
        assert failure.kind == "cancelled"
        assert not end_of(each).complete


async def test_another_process_stops_a_call_through_the_journal(api: Simulator, tmp_path: Path) -> None:
    async with open_server(api, tmp_path) as one, open_server(api, tmp_path) as two:
        here, there = (await one.open()).answer_feed, (await two.open()).answer_feed
        call = await here.start_answer(asking(STALLED))
        async with aclosing(await here.follow_answer(call.id, "ada")) as reader:
            while (await anext(reader)).offset < 90:
                pass
            with pytest.raises(RequestError):
                await there.stop_answer(call.id, "bob")
            assert await there.stop_answer(call.id, "ada")
            events = [each async for each in reader]
        await api.wait_until_idle()
        assert message_requests(api)[0].end == "disconnected"
        assert end_of(events).incomplete == "it was stopped. Ask again for the rest."
        assert not await there.stop_answer(call.id, "ada")


# --------------------------------------------------------------------- other processes


async def test_another_process_reads_a_running_call_from_any_offset(api: Simulator, tmp_path: Path) -> None:
    async with open_server(api, tmp_path) as one, open_server(api, tmp_path) as two:
        here, there = (await one.open()).answer_feed, (await two.open()).answer_feed
        call = await here.start_answer(asking(directive(tokens=300, think=0, pace=250, chars=4)))
        received: dict[int, list[FeedEvent]] = {}

        async def read(streams: AnswerFeed, offset: int) -> None:
            received[offset] = await read_events(streams, call.id, offset)

        await until_text(here, call.id, 50)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read, here, 0)
            tasks.start_soon(read, there, 1)
            tasks.start_soon(read, there, 50)  # perhaps more than is in the journal, but not more than was delivered
        text = message_requests(api)[0].text
        assert [text_of(received[offset]) for offset in (0, 1, 50)] == [text, text[1:], text[50:]]
        assert sum(isinstance(each.event, TextEvent) for each in received[1]) > 1
        for events in received.values():
            assert end_of(events) == DoneEvent(complete=True, stop_reason="end_turn")
        assert received[0][-2].event == received[1][-2].event
        start = received[1][0].event
        assert isinstance(start, StartEvent)
        assert (start.thread, start.model) == (call.thread, "claude-sonnet-5-5")


async def test_the_running_call_of_a_thread_is_found_from_every_process(api: Simulator, tmp_path: Path) -> None:
    async with open_server(api, tmp_path) as one, open_server(api, tmp_path) as two:
        call = await (await one.open()).answer_feed.start_answer(asking(f"Tell me. {STALLED}"))
        for services in (one, two):
            jobs, threads = (await services.open()).calls, (await services.open()).threads
            assert await jobs.running_call_in_thread(call.thread, "ada") == call.id
            assert await jobs.running_call_in_thread(call.thread, "bob") is None
            assert await jobs.running_call_in_thread("t_0000000000000000", "ada") is None
            (turn,) = (await threads.read_transcript(call.thread, "ada")).turns
            assert turn.role == "user"
        await (await one.open()).calls.stop_and_wait(call.id, "ada")
        for services in (one, two):
            assert await (await services.open()).calls.running_call_in_thread(call.thread, "ada") is None


@pytest.mark.parametrize("offset", [0, 5, 14, 99])
async def test_a_call_whose_process_died_ends_with_its_saved_text_and_how_to_continue(
    api: Simulator, tmp_path: Path, offset: int
) -> None:
    call_id = "c_00000000000000d1"
    async with open_server(api, tmp_path) as services:
        streams, store = (await services.open()).answer_feed, (await services.open()).store
        record = call_journal.JournaledCall(
            id=call_id, worker="w_dead", started_at=time.time(), user="ada", thread="t_1"
        )
        await store.write(call_journal.open_call, record)
        await store.write(call_journal.append_text, [(call_id, 0, "half an answer")])
        events = await read_events(streams, call_id, offset)
    failure = failure_of(events)
    assert text_of(events) == "half an answer"[offset:]
    assert end_of(events) == DoneEvent(complete=False)
    if offset > 14:
        assert isinstance(failure, RequestError)
        assert failure.kind == "truncated"
    else:
        assert isinstance(failure, TemporaryError)
        assert failure.kind == "interrupted"
        assert "ask for the rest in the same thread" in str(failure)


async def test_text_before_an_unsaved_part_is_delivered_and_followed_by_an_error(running: Services) -> None:
    streams, store = (await running.open()).answer_feed, (await running.open()).store
    call_id = "c_00000000000000e1"
    record = call_journal.JournaledCall(
        id=call_id, worker=store.locks.worker, started_at=time.time(), user="ada", model="m"
    )
    await store.write(process_locks.register_process, store.locks.worker)
    await store.write(call_journal.open_call, record)
    await store.write(call_journal.append_text, [(call_id, 0, "one "), (call_id, 8, "three")])
    events = await read_events(streams, call_id)
    assert text_of(events) == "one "
    failure = failure_of(events)
    assert failure is not None
    assert failure.kind == "truncated"
    assert end_of(events) == DoneEvent(complete=False)
    await store.write(call_journal.close_call, call_id, end="complete", ended_at=time.time())
    assert text_of(await read_events(streams, call_id, 8)) == "three"


# --------------------------------------------------------------------- what is kept


async def test_with_no_retention_a_reader_can_resume_at_once_and_nobody_can_later(
    api: Simulator, tmp_path: Path
) -> None:
    async with open_server(api, tmp_path, retention_days=0) as services, open_server(api, tmp_path) as other:
        streams, store = (await services.open()).answer_feed, (await services.open()).store
        call = await streams.start_answer(asking("What is tea?"))
        assert call.thread == ""
        text = text_of(await read_events(streams, call.id))
        assert text == message_requests(api)[0].text
        assert await store.write(call_journal.answer_text, call.id) == ""
        assert text_of(await read_events(streams, call.id, 7)) == text[7:]
        later = (await other.open()).answer_feed
        with pytest.raises(RequestError, match="was deleted") as raised:
            await later.follow_answer(call.id, "ada")
        assert raised.value.kind == "not_found"
        assert end_of(await read_events(later, call.id, len(text))).complete


async def test_with_no_retention_a_delivered_failure_leaves_no_text_of_the_question(
    api: Simulator, tmp_path: Path
) -> None:
    async with open_server(api, tmp_path, retention_days=0) as services:
        streams, store = (await services.open()).answer_feed, (await services.open()).store
        with pytest.raises(RequestError, match="no directive 'tea'"):
            await streams.start_answer(asking("[[sim: tea=1]] What is tea?"))
        (record,) = await store.write(call_journal.recent_calls, "ada")
    assert (record.prompt_head, record.incomplete) == ("", call_journal.TEXT_DELETED)


async def test_with_no_retention_an_answer_that_was_not_read_to_its_end_is_kept(api: Simulator, tmp_path: Path) -> None:
    fields: dict[str, object] = {"retention_days": 0, "reader_grace_s": math.inf}
    async with open_server(api, tmp_path, **fields) as services, open_server(api, tmp_path, **fields) as other:
        streams = (await services.open()).answer_feed
        call = await streams.start_answer(asking(directive(tokens=100, think=0, pace=300)))
        await until_text(streams, call.id, 20)
        assert text_of(await read_events((await other.open()).answer_feed, call.id)) == message_requests(api)[0].text


async def test_an_answer_leaves_memory_after_its_last_reader(
    api: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "FIRST_READER_TIMEOUT_S", 0.05)
    async with open_server(api, tmp_path, reader_grace_s=0.05) as services:
        streams = (await services.open()).answer_feed
        call = await streams.start_answer(asking("What is tea?"))
        text = text_of(await read_events(streams, call.id))
        assert streams.answers_in_memory == 1
        while streams.answers_in_memory:
            await anyio.lowlevel.checkpoint()
        assert text_of(await read_events(streams, call.id)) == text
        assert streams.answers_in_memory == 0


# --------------------------------------------------------------------- the end of the server, limits


async def test_a_shutdown_tells_every_reader_how_to_continue(api: Simulator, tmp_path: Path) -> None:
    leaving = anyio.Event()
    async with open_server(api, tmp_path) as one, open_server(api, tmp_path) as two:
        here, there = (await one.open()).answer_feed, (await two.open()).answer_feed
        for streams in (here, there):
            streams.drain_readers_when(leaving)
            streams.drain_readers_when(leaving)
        call = await here.start_answer(asking(STALLED))
        await until_text(here, call.id, 90)
        received: list[list[FeedEvent]] = []

        async def read(streams: AnswerFeed) -> None:
            received.append(await read_events(streams, call.id))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read, here)
            tasks.start_soon(read, there)
            await anyio.lowlevel.checkpoint()
            leaving.set()
        for events in received:
            failure = failure_of(events)
            assert isinstance(failure, TemporaryError)
            assert failure.kind == "shutdown"
            assert end_of(events) == DoneEvent(complete=False)
        with pytest.raises(TemporaryError):
            await here.start_answer(asking("x"))
    async with open_server(api, tmp_path) as services:
        events = await read_events((await services.open()).answer_feed, call.id)
    assert text_of(events) == message_requests(api)[0].text
    assert getattr(failure_of(events), "kind", "") == "interrupted"


async def test_readers_are_notified_when_the_services_close(api: Simulator, tmp_path: Path) -> None:
    received: list[list[FeedEvent]] = []

    async def read(streams: AnswerFeed, call_id: str) -> None:
        received.append(await read_events(streams, call_id))

    async with anyio.create_task_group() as tasks, open_server(api, tmp_path) as services:
        streams = (await services.open()).answer_feed
        call = await streams.start_answer(asking(STALLED))
        tasks.start_soon(read, streams, call.id)
        await until_text(streams, call.id, 90)
    (events,) = received
    assert text_of(events) == message_requests(api)[0].text
    failure = failure_of(events)
    assert failure is not None
    assert failure.kind == "shutdown"


async def test_the_concurrency_limit_of_a_user_holds_for_mcp_and_http_together(
    running: Services, api: Simulator
) -> None:
    streams, jobs = (await running.open()).answer_feed, (await running.open()).calls
    limits = Limits(concurrent=1)
    call = await streams.start_answer(asking(STALLED, user="cleo", limits=limits))
    for _ in range(2):
        with pytest.raises(TemporaryError) as busy:
            await streams.start_answer(asking("x", user="cleo", limits=limits))
        assert busy.value.kind == "user_concurrency"
        with pytest.raises(TemporaryError) as busy:
            await jobs.run_call(Call(prompt="x", user="cleo", limits=limits), lambda _: None)
        assert busy.value.kind == "user_concurrency"
    assert len(message_requests(api)) == 1
    await streams.stop_answer(call.id, "cleo")
    assert not end_of(await read_events(streams, call.id, user="cleo")).complete
    again = await streams.start_answer(asking("x", user="cleo", limits=limits))
    assert end_of(await read_events(streams, again.id, user="cleo")).complete


async def test_text_that_a_reader_has_got_already_makes_no_keep_alive_event(api: Simulator, tmp_path: Path) -> None:
    """It came while the reader sent what was before it, and was sent with that: `set` is left, and nothing is new."""
    async with open_server(api, tmp_path) as services:
        streams = (await services.open()).answer_feed
        call = await streams.start_answer(asking(STALLED))
        running = streams._calls.find_running(call.id, "ada")  # pyright: ignore[reportPrivateUsage]
        assert running is not None
        async with aclosing(await streams.follow_answer(call.id, "ada")) as reader:
            while (await anext(reader)).offset < 90:
                pass
            running.publish_event(TextDelta(""))
            with anyio.move_on_after(0.5):  # less than the interval of keep-alive events, on any machine
                raise AssertionError(f"nothing was new, but there was {await anext(reader)}")
        assert await streams.stop_answer(call.id, "ada")


async def test_a_silent_call_keeps_the_connections_of_its_readers_open_here_and_in_another_process(
    api: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_feed, "KEEP_ALIVE_INTERVAL_S", 0.05)
    async with open_server(api, tmp_path) as one, open_server(api, tmp_path) as two:
        here, there = (await one.open()).answer_feed, (await two.open()).answer_feed
        call = await here.start_answer(asking(STALLED))
        for each in (here, there):
            async with aclosing(await each.follow_answer(call.id, "ada")) as reader:
                with anyio.fail_after(60):
                    while not isinstance((await anext(reader)).event, KeepAliveEvent):
                        pass
        assert await here.stop_answer(call.id, "ada")
