"""The text of an answer in memory: what holds it, and that nothing does once it was returned."""

from __future__ import annotations

import gc
import json
import weakref
from contextvars import copy_context
from typing import TYPE_CHECKING

import anyio
import pytest

from mcp_server_claude.call_types import Call, TextDelta
from mcp_server_claude.services.lazy_services import Services
from mcp_server_claude.settings import Settings
from mcp_server_claude.simulator import Simulator, directive
from support.mcp_session import FAKE_KEY
from support.scripted_upstream import scripted_upstream

if TYPE_CHECKING:
    from contextvars import Context
    from pathlib import Path

    from mcp_server_claude.call_types import CallEvent

pytestmark = pytest.mark.anyio
TEXT_CHARS = 3_000_000
DELTA_CHARS = 1_000


async def test_an_answer_that_was_returned_is_held_once_and_then_no_longer(tmp_path: Path) -> None:
    others = large_texts()  # of other tests
    async with scripted_upstream(long_answer()) as upstream:
        values = {"api_key": FAKE_KEY, "base_url": upstream.url, "data_dir": tmp_path, "models_wait_s": 0}
        async with Services.lifespan(Settings.model_validate(values)) as services:
            running = (await services.open()).calls
            call = Call(prompt="Write a long answer.", model="claude-sonnet-5-5", source="mcp", tool="claude_ask")
            reply = await running.run_call(call, lambda _: None)
            assert len(reply.text) == TEXT_CHARS
            assert reply.text.endswith(f"{TEXT_CHARS // DELTA_CHARS - 1:0{DELTA_CHARS}}")
            await flush(services)
            assert {id(text) for text in large_texts()} == {id(text) for text in (*others, reply.text)}
            del reply
            assert {id(text) for text in large_texts()} == {id(text) for text in others}


async def test_a_context_that_outlives_its_call_does_not_hold_the_answer(api: Simulator, tmp_path: Path) -> None:
    """`asyncio` keeps the context of a timer that was cancelled until its time has come."""
    contexts: list[Context] = []

    def keep_context(event: CallEvent) -> None:
        if isinstance(event, TextDelta):
            contexts.append(copy_context())

    values = {"api_key": FAKE_KEY, "base_url": api.url, "data_dir": tmp_path, "models_wait_s": 30}
    async with Services.lifespan(Settings.model_validate(values)) as services:
        calls = (await services.open()).calls
        running = calls.start_call(Call(prompt=directive(tokens=30), source="http", tool="chat"), keep_context)
        await running.done.wait()
        is_alive = weakref.ref(running)
        del running
        await flush(services)
        gc.collect()
        assert contexts
        assert is_alive() is None


def long_answer() -> bytes:
    """A stream of `TEXT_CHARS` characters, no two deltas of it alike."""
    start: dict[str, object] = {"type": "message", "role": "assistant", "model": "claude-sonnet-5-5", "content": []}
    events: list[dict[str, object]] = [
        {"type": "message_start", "message": {**start, "stop_reason": None, "usage": {"input_tokens": 7}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": f"{n:0{DELTA_CHARS}}"}}
            for n in range(TEXT_CHARS // DELTA_CHARS)
        ),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}},
        {"type": "message_stop"},
    ]
    return b"".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events)


async def flush(services: Services) -> None:
    """Wait until the tasks of the call have ended and the store has written what it was given."""
    await anyio.wait_all_tasks_blocked()
    await (await services.open()).store.write(lambda _: None)
    await anyio.wait_all_tasks_blocked()


def large_texts() -> list[str]:
    """The strings with as many characters as the answer that any object refers to, each once for every reference."""
    gc.collect()
    return [
        text
        for each in gc.get_objects()
        for text in gc.get_referents(each)
        if isinstance(text, str) and TEXT_CHARS // 2 < len(text) < 2 * TEXT_CHARS
    ]
