"""The turns of streams at full speed: one in each iteration of the event loop, in their order."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections import Counter
from typing import TYPE_CHECKING, Self

import anyio
import anyio.lowlevel
import pytest

from mcp_server_claude.anthropic_api.client import ClaudeClient
from mcp_server_claude.anthropic_api.message_stream import MessageStream
from mcp_server_claude.anthropic_api.read_turns import THREADS_INTERVAL_S, THREADS_PAUSE_S, ReadTurns
from mcp_server_claude.anthropic_api.stream_reader import EVENTS_PER_TURN
from mcp_server_claude.settings import Settings
from support.cloud_upstream import BEDROCK_STREAM, bedrock_stream
from support.mcp_session import FAKE_KEY
from support.recorded_streams import REQUEST_BODY, ReplayTransport, message_events, sse_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.anyio


class IterationCounter:
    """Counts the iterations of the event loop while its block runs."""

    def __init__(self) -> None:
        self.iterations = 0
        self._handle: asyncio.Handle | None = None

    def __enter__(self) -> Self:
        self._count()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._handle is not None
        self._handle.cancel()

    def _count(self) -> None:
        self.iterations += 1
        self._handle = asyncio.get_running_loop().call_soon(self._count)


async def test_a_stream_alone_does_not_wait() -> None:
    turns = ReadTurns()
    with IterationCounter() as counter:
        before = counter.iterations
        await turns.wait_for_turn()
        assert counter.iterations == before


async def test_a_second_turn_in_an_iteration_waits_for_the_next_one() -> None:
    turns = ReadTurns()
    with IterationCounter() as counter:
        await turns.wait_for_turn()
        before = counter.iterations
        await turns.wait_for_turn()
        assert counter.iterations > before


async def test_each_iteration_has_one_turn_and_the_streams_take_them_by_turns() -> None:
    turns = ReadTurns()
    taken: list[tuple[int, str]] = []
    with IterationCounter() as counter:

        async def read(name: str) -> None:
            for _ in range(4):
                await turns.wait_for_turn()
                taken.append((counter.iterations, name))

        async with anyio.create_task_group() as tasks:
            for name in "abc":
                tasks.start_soon(read, name)
    assert max(Counter(iteration for iteration, _ in taken).values()) == 1
    order = "".join(name for _, name in taken)
    assert order[0] == "a"  # at once, before the others have asked
    assert all({*order[at : at + 3]} == {*"abc"} for at in range(1, 8)), order


async def test_a_cancelled_stream_does_not_keep_the_turn_of_the_others() -> None:
    turns = ReadTurns()
    taken: list[str] = []

    async def read(name: str) -> None:
        await turns.wait_for_turn()
        taken.append(name)
        if name == "a":  # the second has its turn next, the third and the fourth wait
            asyncio.get_running_loop().call_soon(readers[2].cancel)

    readers = [asyncio.create_task(read(name)) for name in "abcd"]
    await asyncio.wait(readers)
    assert readers[2].cancelled()
    assert taken == ["a", "b", "d"]
    await read("later")
    assert taken[-1] == "later"


async def test_threads_get_a_pause_at_intervals_while_streams_wait() -> None:
    now = 100.0
    pauses: list[float] = []
    turns = ReadTurns(lambda: now, pauses.append)

    async def read() -> None:
        await turns.wait_for_turn()

    await read()
    await anyio.lowlevel.checkpoint()
    assert pauses == []  # nobody waited
    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(read)
    assert pauses == [THREADS_PAUSE_S]
    now += THREADS_INTERVAL_S
    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(read)
    assert pauses == [THREADS_PAUSE_S] * 2


def test_the_turns_do_not_keep_an_event_loop_that_has_ended() -> None:
    async def use_turns() -> weakref.ref[asyncio.AbstractEventLoop]:
        await ReadTurns.of_running_loop().wait_for_turn()
        return weakref.ref(asyncio.get_running_loop())

    loop = asyncio.run(use_turns())
    gc.collect()
    assert loop() is None


LARGE_READ_TURN_BYTES = 20_000
"""The bytes of events that one iteration may parse: on a slow machine 2 ms, where 5 are promised."""


async def events_by_iteration(body: bytes, content_type: str = "text/event-stream", **fields: object) -> Counter[int]:
    """Read a response that comes with one read. How many of its events each iteration of the event loop parsed."""
    parsed: Counter[int] = Counter()
    with IterationCounter() as counter:

        def count_parsed(events: Sequence[dict[str, object]]) -> None:
            parsed[counter.iterations] += len(events)
            feed_events(events)

        message_stream = MessageStream(lambda _: None)
        feed_events = message_stream.feed_events
        message_stream.feed_events = count_parsed
        transport = ReplayTransport([body], content_type=content_type)
        claude = ClaudeClient(Settings.model_validate({"api_key": FAKE_KEY, **fields}), transport)
        await claude.stream_message(REQUEST_BODY, message_stream)
        await claude.close()
    assert message_stream.is_finished
    return parsed


@pytest.mark.parametrize("kind", ["text_delta", "thinking_delta", "input_json_delta"])
async def test_a_long_read_is_parsed_in_many_iterations_of_the_event_loop(kind: str) -> None:
    """A megabyte comes with one read. Whatever else waits for the loop has its turn between two parts of it."""
    blocks: dict[str, tuple[str, dict[str, object]]] = {
        "text_delta": ("text", {"type": "text", "text": ""}),
        "thinking_delta": ("thinking", {"type": "thinking", "thinking": "", "signature": ""}),
        "input_json_delta": ("partial_json", {"type": "tool_use", "id": "t", "name": "n", "input": {}}),
    }
    field, block = blocks[kind]
    begin, _, *_, message_delta, stop = message_events()
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": kind, field: "x" * 1000}}
    start = {"type": "content_block_start", "index": 0, "content_block": block}
    body = sse_bytes(begin, start, *([delta] * 1000), {"type": "content_block_stop", "index": 0}, message_delta, stop)
    parsed = await events_by_iteration(body)
    assert parsed.total() == 1005
    assert max(parsed.values()) * len(sse_bytes(delta)) <= LARGE_READ_TURN_BYTES


async def test_a_long_read_of_bedrock_is_parsed_in_many_iterations_of_the_event_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x" * 40)
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    body = bedrock_stream(message_events(*["x"] * 1000))
    parsed = await events_by_iteration(body, BEDROCK_STREAM, platform="bedrock")
    assert parsed.total() == 1005
    assert max(parsed.values()) <= 2 * EVENTS_PER_TURN  # some come before the first turn, which is not waited for


async def test_the_use_of_a_tool_is_reported_before_the_rest_of_its_read_is_parsed() -> None:
    """A result of a tool that comes with the same read may be large; what others do with the event comes first."""
    begin, _, *_, message_delta, stop = message_events()
    used = {"type": "server_tool_use", "id": "t", "name": "web_search", "input": {"query": "tea"}}
    body = sse_bytes(
        begin,
        {"type": "content_block_start", "index": 0, "content_block": used},
        {"type": "content_block_stop", "index": 0},
        *message_events("Tea.")[1:4],
        message_delta,
        stop,
    )
    parsed = await events_by_iteration(body)
    assert list(parsed.values()) == [3, 3, 2]
