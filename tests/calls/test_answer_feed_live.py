"""The place of a reader in a running call: text that is sent at once, and events for which the reader is woken."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_server_claude.call_types import Call, TextDelta, ToolUse
from mcp_server_claude.calls.answer_feed_events import StatusEvent, TextEvent
from mcp_server_claude.calls.answer_feed_live import MAX_TEXT_EVENT_CHARS, LiveCall, LiveReader
from mcp_server_claude.calls.running_call import RunningCall
from support.quick_run import examples

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from mcp_server_claude.calls.answer_feed_events import FeedEvent

pytestmark = pytest.mark.anyio


class FollowedCall:
    """A call with one reader. `woken` holds the events for which the reader was woken, `sent` those sent at once."""

    def __init__(self, accepts: Callable[[FeedEvent], bool]) -> None:
        self.live = LiveCall(RunningCall(Call(prompt="?")), "", owned=False)
        self.woken: list[FeedEvent] = []
        self.sent: list[FeedEvent] = []
        self.delivered: list[FeedEvent] = []
        self.silences = 0
        self._accepts = accepts

    def write(self, text: str) -> None:
        """Let text come."""
        self.live.running_call.text.append(text)
        self.live.record_event(TextDelta(text))

    async def follow(self, *, interval_s: float = 0, keep_alive_s: float = 3600) -> None:
        """Read until the call is closed."""
        with self.live.subscribe() as signal:
            reader = LiveReader(
                self.live, signal, 0, interval_s=interval_s, keep_alive_s=keep_alive_s, send_now=self._send_now
            )
            while True:
                while event := reader.next_event():
                    self.woken.append(event)
                    self.delivered.append(event)
                if signal.is_closed:
                    return
                self.silences += not await reader.wait_for_event()

    def _send_now(self, event: FeedEvent) -> bool:
        if is_accepted := self._accepts(event):
            self.sent.append(event)
            self.delivered.append(event)
        return is_accepted


@asynccontextmanager
async def followed(
    accepts: Callable[[FeedEvent], bool] = lambda _: True, *, keep_alive_s: float = 3600
) -> AsyncGenerator[FollowedCall]:
    """A call whose reader has its first text and waits for more."""
    call = FollowedCall(accepts)
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            call.write("a")
            tasks.start_soon(lambda: call.follow(keep_alive_s=keep_alive_s))
            await anyio.wait_all_tasks_blocked()
            assert text_of(call.woken) == "a"
            yield call
            call.live.stop_waiting()


def text_of(events: list[FeedEvent]) -> str:
    return "".join(each.event.text for each in events if isinstance(each.event, TextEvent))


async def test_text_is_sent_to_a_waiting_reader_without_waking_it() -> None:
    async with followed() as call:
        call.write("b")
        call.write("cd")
        assert [(each.offset, each.event) for each in call.sent] == [(2, TextEvent("b")), (4, TextEvent("cd"))]
        await anyio.wait_all_tasks_blocked()
    assert text_of(call.woken) == "a"
    assert call.silences == 0


async def test_a_reader_is_woken_for_text_that_could_not_be_sent() -> None:
    async with followed(lambda _: False) as call:
        call.write("b")
        call.write("c")
        await anyio.wait_all_tasks_blocked()
        assert text_of(call.woken) == "abc"


async def test_a_reader_meets_the_error_of_sending_and_the_call_does_not() -> None:
    def fail(_: FeedEvent) -> bool:
        raise ValueError

    async with followed(fail) as call:
        call.write("b")
        await anyio.wait_all_tasks_blocked()
        assert text_of(call.woken) == "ab"


async def test_a_status_and_the_text_after_it_keep_their_order() -> None:
    async with followed() as call:
        call.live.record_event(ToolUse("web_search"))
        call.write("b")
        assert not call.sent  # the reader is to be woken, and is not overtaken
        await anyio.wait_all_tasks_blocked()
        kinds = [type(each.event) for each in call.woken]
    assert kinds == [StatusEvent, TextEvent, StatusEvent, StatusEvent, TextEvent]


async def test_text_that_is_longer_than_an_event_is_divided() -> None:
    async with followed() as call:
        call.write("b" * (MAX_TEXT_EVENT_CHARS + 1))
        assert not call.sent
        await anyio.wait_all_tasks_blocked()
        assert [each.offset for each in call.woken[-2:]] == [1 + MAX_TEXT_EVENT_CHARS, 2 + MAX_TEXT_EVENT_CHARS]


async def test_text_within_the_interval_of_the_text_before_it_is_gathered() -> None:
    call = FollowedCall(lambda _: True)
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: call.follow(interval_s=3600))
            await anyio.wait_all_tasks_blocked()
            call.write("a")
            await anyio.wait_all_tasks_blocked()  # with its status, so the reader was woken
            call.write("b")
            await anyio.wait_all_tasks_blocked()
            assert text_of(call.delivered) == "a"
            call.live.stop_waiting()
    assert text_of(call.delivered) == "ab"


async def test_silence_after_text_that_was_sent_at_once_is_noticed() -> None:
    async with followed(keep_alive_s=0.05) as call:
        call.write("b")
        assert text_of(call.sent) == "b"
        before = call.silences
        while call.silences == before:  # noqa: ASYNC110 - counted by the reader
            await anyio.sleep(0.01)


@settings(max_examples=examples(60), deadline=None)
@given(
    steps=st.lists(st.sampled_from(["text", "status", "turn"]), max_size=30),
    accepted=st.lists(st.booleans(), min_size=1, max_size=5),
)
async def test_every_event_is_delivered_once_and_in_order(steps: list[str], accepted: list[bool]) -> None:
    count = 0

    def accepts(_: FeedEvent) -> bool:
        nonlocal count
        count += 1
        return accepted[count % len(accepted)]

    text = "a"
    async with followed(accepts) as call:
        for n, step in enumerate(steps):
            if step == "text":
                text += f" {n}"
                call.write(f" {n}")
            elif step == "status":
                call.live.record_event(ToolUse("web_search", str(n)))
            else:
                await anyio.lowlevel.checkpoint()
    offsets = [each.offset for each in call.delivered]
    statuses = [(each.offset, each.event) for each in call.delivered if isinstance(each.event, StatusEvent)]
    assert text_of(call.delivered) == text
    assert offsets == sorted(offsets)
    assert statuses == call.live.statuses
