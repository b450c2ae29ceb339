"""Large results: they are encoded as they are sent, and their memory is released soon afterwards."""

from __future__ import annotations

import gc
import json
import os
from typing import TYPE_CHECKING, Any, cast

import anyio
import anyio.to_thread
import pytest
from mcp.shared.message import SessionMessage
from mcp.types import JSONRPCNotification, JSONRPCResponse

from mcp_server_claude.lone_surrogates import replace_lone_surrogates
from mcp_server_claude.server.large_messages import (
    MIN_LARGE_MESSAGE_BYTES,
    MIN_LARGE_TEXT_CHARS,
    PIECE_CHARS,
    encode_in_pieces,
)
from mcp_server_claude.server.stdout_writer import StdoutWriter
from mcp_server_claude.server.unanswered_requests import UnansweredRequests

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.anyio


class Cycle:
    """An object that only the garbage collector can free."""

    alive = 0

    def __init__(self) -> None:
        self.itself = self
        Cycle.alive += 1

    def __del__(self) -> None:
        Cycle.alive -= 1


@pytest.fixture(autouse=True)
def _without_automatic_collections() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


async def test_the_memory_of_a_large_result_is_collected_soon_after_it_was_written() -> None:
    reading, writing = os.pipe()
    writer = StdoutWriter(writing, UnansweredRequests())
    message = JSONRPCResponse(jsonrpc="2.0", id=1, result={"text": "x" * MIN_LARGE_MESSAGE_BYTES})
    collected = anyio.Event()

    def note_end(phase: str, _: dict[str, int]) -> None:
        if phase == "stop":
            collected.set()

    Cycle()
    assert Cycle.alive == 1
    gc.callbacks.append(note_end)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.to_thread.run_sync, read_all, reading, bytearray())
            await writer.send(SessionMessage(message))
            os.close(writing)
        assert not list(cast("Any", writer)._queue)
        with anyio.fail_after(60):
            await collected.wait()
        assert Cycle.alive == 0
    finally:
        gc.callbacks.remove(note_end)
        os.close(reading)


LARGE_TEXTS = {
    "ascii": "tea time\n" * 40_000,
    "quoted": '"\\\t\x00\x1f\x7f' * 60_000,
    "wide": "a" + "\N{BEER MUG}é\u2028" * 100_000,
    "half pairs at the ends of pieces": ("x" * (PIECE_CHARS - 1) + "\ud83c\udf7a" + "y" * (PIECE_CHARS - 1) + "\ud83c")
    * 3,
}


@pytest.mark.parametrize("text", LARGE_TEXTS.values(), ids=LARGE_TEXTS.keys())
def test_a_large_response_in_pieces_is_the_json_of_the_whole(text: str) -> None:
    def response(text: str) -> JSONRPCResponse:
        content = [{"type": "text", "text": text}, {"type": "text", "text": "short"}, {"text": text[1:], "n": 1.5}]
        return JSONRPCResponse(jsonrpc="2.0", id="é", result={"content": content, "_meta": {"none": None, "yes": True}})

    pieces = encode_in_pieces(response(text))
    assert pieces is not None
    in_pieces = list(pieces)
    assert max(map(len, in_pieces)) <= 6 * PIECE_CHARS + 4
    complete = response(replace_lone_surrogates(text)).model_dump_json(by_alias=True, exclude_unset=True)
    assert json.loads(b"".join(in_pieces)) == json.loads(complete)


def test_a_response_without_a_large_text_is_encoded_in_one_piece() -> None:
    small = {"content": [{"type": "text", "text": "x" * (MIN_LARGE_TEXT_CHARS - 1)}]}
    assert encode_in_pieces(JSONRPCResponse(jsonrpc="2.0", id=1, result=small)) is None
    assert encode_in_pieces(JSONRPCNotification(jsonrpc="2.0", method="x", params=small)) is None


async def test_a_frame_that_was_cancelled_half_way_is_finished_before_the_next_one() -> None:
    reading, writing = os.pipe()
    writer = StdoutWriter(writing, UnansweredRequests())
    text = "tea time\n" * (MIN_LARGE_TEXT_CHARS // 4)
    sent = [JSONRPCResponse(jsonrpc="2.0", id=number, result={"text": text}) for number in range(3)]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(writer.send, SessionMessage(sent[0]))
        await anyio.wait_all_tasks_blocked()  # the pipe is full
        assert writer.bytes_taken
        tasks.start_soon(writer.send, SessionMessage(sent[1]))  # waits for the first, and has no byte written
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    received = bytearray()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.to_thread.run_sync, read_all, reading, received)
        await writer.send(SessionMessage(sent[2]))
        os.close(writing)
    os.close(reading)
    assert [json.loads(line) for line in received.splitlines()] == [
        json.loads(message.model_dump_json()) for message in (sent[0], sent[2])
    ]


def read_all(fd: int, received: bytearray) -> None:
    while chunk := os.read(fd, 1 << 16):
        received += chunk
