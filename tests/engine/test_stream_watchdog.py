from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import pytest

from mcp_server_claude.anthropic_api.message_stream import MessageStream
from mcp_server_claude.engine.call_deadline import CallDeadline
from mcp_server_claude.engine.stream_watchdog import StreamWatchdog
from mcp_server_claude.server.progress_notifications import MAX_STATUS_LINE_CHARS
from mcp_server_claude.settings import Settings
from mcp_server_claude.simulator import Simulator, directive
from support.mcp_session import STYLE_META, McpSession, ProgressUpdate, connect, failure_meta, text_blocks, usage_meta
from support.simulator_requests import message_requests

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

pytestmark = pytest.mark.anyio

THINKS = "claude-opus-5-5"
QUICK: dict[str, object] = {"bytes_timeout_s": 0.5, "event_timeout_s": 0.8, "max_retries": 1}


@pytest.fixture(scope="module")
async def module_session(api: Simulator, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[McpSession]:
    where = tmp_path_factory.mktemp("stalls") / "data"
    async with connect("memory", "auto", where, client_name="test", base_url=api.url, **QUICK) as session:
        yield session


@pytest.fixture
def session(module_session: McpSession, api: Simulator) -> McpSession:
    api.reset()
    return module_session


async def heard_until(
    session: McpSession, prompt: str, enough: Callable[[list[ProgressUpdate]], bool], **how: str
) -> list[ProgressUpdate]:
    """The progress of a call that would never end, until it is enough."""
    updates: list[ProgressUpdate] = []
    done = anyio.Event()

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        assert total is None
        updates.append(ProgressUpdate(progress, message))
        if enough(updates):
            done.set()

    async def ask() -> None:
        arguments = {"prompt": prompt, "model": how.get("model", "")}
        await session.client.call_tool(
            "claude_ask", arguments, progress_callback=on_progress, meta={STYLE_META: how["style"]}
        )

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await done.wait()
            tasks.cancel_scope.cancel()
    return updates


# --------------------------------------------------------------------- what counts as broken


@pytest.mark.parametrize(
    ("silence", "expected"),
    [
        (directive(fault="stall", at="headers"), "Nothing came from the Messages API"),
        (directive(fault="stall", at=0), "Nothing came from the Messages API"),
        (directive(fault="stall", at=0, pings="on", ping=0.1), "The Messages API sent no event"),
        (directive(fault="noevents", ping=0.1), "The Messages API sent no event"),
    ],
    ids=["no head", "no bytes", "pings only", "no events"],
)
async def test_a_stream_without_data_is_aborted_and_reported(
    api: Simulator, tmp_path: Path, silence: str, expected: str
) -> None:
    api.reset()
    once = QUICK | {"max_retries": 0}
    async with connect("memory", "auto", tmp_path / "data", client_name="test", base_url=api.url, **once) as session:
        with anyio.fail_after(60):
            result = await session.ask(f"Tell me. {silence}", model="claude-sonnet-4-6")
            await api.wait_until_idle()
        assert expected in text_blocks(result)[0]
        assert failure_meta(result)["kind"] == "stream_timeout"
        assert failure_meta(result)["class"] == "temporary_error"
    assert [request.end for request in message_requests(api)] == ["disconnected"]


async def test_a_stream_that_repeatedly_stalls_after_text_keeps_its_text(session: McpSession, api: Simulator) -> None:
    updates: list[ProgressUpdate] = []
    stall = directive(tokens=100, fault="stall", at=201, ping=0.1, pings="on")
    with anyio.fail_after(60):
        result = await session.ask(f"Tell me. {stall}", model="claude-haiku-4-5", updates=updates)
    answer, _, last = text_blocks(result)
    first, *_ = message_requests(api)
    assert last.startswith("INCOMPLETE: ")
    assert answer.startswith(first.text)
    assert answer == "".join(each.message or "" for each in updates)
    assert usage_meta(result)["complete"] is False
    assert usage_meta(result)["estimated"] is True


async def test_a_call_that_stalls_during_thinking_is_repeated_once(api: Simulator, tmp_path: Path) -> None:
    """Thinking is paid for each time; with eight tries allowed there are two requests."""
    api.reset()
    patient = QUICK | {"max_retries": 8}
    async with connect("memory", "auto", tmp_path / "data", client_name="test", base_url=api.url, **patient) as session:
        with anyio.fail_after(60):
            result = await session.ask(f"Tell me. {directive(think=40, fault='stall', at=0)}", model=THINKS)
    first, second = message_requests(api)
    assert first.body == second.body
    assert first.thinking_chars == second.thinking_chars == 160
    assert failure_meta(result)["kind"] == "stream_timeout"
    assert usage_meta(result)["attempts"] == 2


async def test_a_call_that_stalled_once_during_thinking_is_answered(session: McpSession, api: Simulator) -> None:
    with anyio.fail_after(60):
        result = await session.ask(f"Tell me. {directive(think=40, fault='stall', at=0, times=1)}", model=THINKS)
    first, second = message_requests(api)
    assert text_blocks(result)[0] == second.text
    assert isinstance(first.body, dict)
    assert second.text == api.answer_to(first.body)
    assert usage_meta(result)["complete"] is True


async def test_a_long_silence_in_a_thinking_block_with_pings_is_no_stall(session: McpSession, api: Simulator) -> None:
    """Two seconds of thought of which nothing is shown, and the limit for events is 0.8 s, that for bytes 0.5 s."""
    with anyio.fail_after(60):
        result = await session.ask(
            f"Tell me. {directive(think=40, pace=20, ping=0.1, text='yes')}", model=THINKS, updates=None
        )
    (request,) = message_requests(api)
    assert request.end == "complete"
    assert text_blocks(result)[0] == "yes"


async def test_a_slow_but_steady_answer_is_no_stall(session: McpSession, api: Simulator) -> None:
    """Two seconds long, with never more than a tenth of one between its words."""
    with anyio.fail_after(60):
        result = await session.ask(f"Tell me. {directive(tokens=60, pace=30, chars=8)}", model="claude-sonnet-4-6")
    (request,) = message_requests(api)
    assert text_blocks(result)[0] == request.text
    assert usage_meta(result)["complete"] is True


async def test_the_time_in_which_this_process_was_suspended_is_no_silence() -> None:
    """The event loop is blocked for longer than both timeouts, as by a suspended machine, between two checks."""
    tick = anyio.Event()

    def on_tick() -> None:
        nonlocal tick
        tick.set()
        tick = anyio.Event()

    watchdog = StreamWatchdog(Settings.model_validate(QUICK), CallDeadline(), on_tick=on_tick)
    is_received = False

    async def receive() -> None:
        nonlocal is_received
        await tick.wait()
        time.sleep(1.5)  # noqa: ASYNC251 - the event loop is to stand still
        await tick.wait()
        await anyio.lowlevel.checkpoint()
        is_received = True

    with anyio.fail_after(60):
        with watchdog.running():
            await watchdog.watch_stream(MessageStream(lambda _: None), receive)
    assert is_received


async def test_a_bug_in_a_check_ends_the_stream_and_is_raised() -> None:
    def on_tick() -> None:
        raise ZeroDivisionError

    watchdog = StreamWatchdog(Settings.model_validate(QUICK), CallDeadline(), on_tick=on_tick)
    with anyio.fail_after(60), pytest.raises(ZeroDivisionError), watchdog.running():
        await watchdog.watch_stream(MessageStream(lambda _: None), anyio.sleep_forever)


async def test_no_stream_begins_after_a_bug_in_a_check_between_two_streams() -> None:
    failed = anyio.Event()

    def on_tick() -> None:
        failed.set()
        raise ZeroDivisionError

    watchdog = StreamWatchdog(Settings.model_validate(QUICK), CallDeadline(), on_tick=on_tick)
    with anyio.fail_after(60), pytest.raises(ZeroDivisionError), watchdog.running():
        await watch_after(failed, watchdog)


async def watch_after(event: anyio.Event, watchdog: StreamWatchdog) -> None:
    """Watch a silent stream that begins after an event."""
    await event.wait()
    await watchdog.watch_stream(MessageStream(lambda _: None), anyio.sleep_forever)


async def test_the_deadline_of_a_call_ends_it_with_the_text_so_far(api: Simulator, tmp_path: Path) -> None:
    api.reset()
    async with connect("memory", "auto", tmp_path / "data", base_url=api.url, deadline_s=2) as session:
        await session.info(about="models")  # the import of the SDK takes its time
        with anyio.fail_after(60):
            result = await session.ask(f"Tell me. {directive(fault='stall', at=90)}", model="claude-sonnet-4-6")
    (request,) = message_requests(api)
    answer, _, last = text_blocks(result)
    assert answer == request.text
    assert "The call took longer than 2.0 s" in last
    assert usage_meta(result)["complete"] is False


# --------------------------------------------------------------------- signs of life


@pytest.fixture
async def patient(api: Simulator, tmp_path: Path) -> AsyncIterator[McpSession]:
    """A server that waits for a silent upstream, with a heartbeat every 50 ms."""
    api.reset()
    async with connect("memory", "auto", tmp_path / "patient", base_url=api.url, heartbeat_s=0.05) as session:
        yield session


async def test_in_style_text_a_heartbeat_has_no_message(patient: McpSession) -> None:
    prompt = f"Tell me. {directive(text='so far', fault='stall', at=6)}"

    def enough(updates: list[ProgressUpdate]) -> bool:
        messages = [each.message for each in updates]
        return messages.count(None) >= 6 and "".join(each or "" for each in messages) == "so far"

    updates = await heard_until(patient, prompt, enough, style="text")
    assert [each.progress for each in updates] == sorted({each.progress for each in updates})


async def test_in_style_status_a_heartbeat_shows_the_stage_and_the_seconds(patient: McpSession) -> None:
    prompt = f"Tell me. {directive(think=40, fault='stall', at=0)}"
    lines = re.compile(r"^opus-5-5 · thinking [\d.]+ s · .*[\d.]+ s$")

    def enough(updates: list[ProgressUpdate]) -> bool:
        return len([each for each in updates if lines.match(each.message or "")]) >= 3

    updates = await heard_until(patient, prompt, enough, style="status", model=THINKS)
    updates = [each for each in updates if each.message != "loading"]  # before the services are open
    seconds = [float((each.message or "").split()[-2]) for each in updates]
    assert seconds == sorted(seconds)
    assert seconds[-1] > seconds[0]
    assert all(len(each.message or "") <= MAX_STATUS_LINE_CHARS for each in updates)


async def test_hidden_thinking_is_counted_where_the_api_counts_it(api: Simulator, tmp_path: Path) -> None:
    """The beta is asked for because the setting says so: unasked, only Anthropic's own API is."""
    api.reset()
    async with connect("memory", "auto", tmp_path / "data", base_url=api.url, thinking_count="on") as session:
        prompt = f"Tell me. {directive(think=64, fault='stall', at=0)}"
        updates = await heard_until(
            session, prompt, lambda updates: " 64 tokens " in (updates[-1].message or ""), style="status", model=THINKS
        )
    assert "thinking" in (updates[-1].message or "")
    assert message_requests(api)[0].headers["anthropic-beta"] == "thinking-token-count-2026-05-13"


async def test_a_wait_before_a_retry_is_a_status_line_and_no_message(session: McpSession, api: Simulator) -> None:
    overloaded = directive(status=529, retry_after=1, times=1)
    status: list[ProgressUpdate] = []
    text: list[ProgressUpdate] = []
    await session.ask(f"one {overloaded}", updates=status, style="status")
    result = await session.ask(f"two {overloaded}", updates=text, style="text")
    waits = [each.message or "" for each in status if "trying again" in (each.message or "")]
    assert re.match(r"^overloaded, trying again in 1\.\d s \(2 of 2\) · ", waits[0])
    assert "".join(each.message or "" for each in text) == text_blocks(result)[0]
    assert len(message_requests(api)) == 4
    assert [record.status for record in message_requests(api)] == [529, 200, 529, 200]
