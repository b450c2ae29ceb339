"""Large results: their memory is released soon after they were sent."""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING, Any, cast

import anyio
import anyio.to_thread
import pytest
from mcp.shared.message import SessionMessage
from mcp.types import JSONRPCResponse

from mcp_server_claude.server.large_messages import MIN_LARGE_MESSAGE_BYTES
from mcp_server_claude.server.stdio_transport import StdoutWriter
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
            tasks.start_soon(anyio.to_thread.run_sync, read_all, reading)
            await writer.send(SessionMessage(message))
            os.close(writing)
        unwritten = cast("Any", writer)._unwritten
        assert len(unwritten) == 0
        assert not unwritten.obj  # no empty slice of the frame, which would hold it
        with anyio.fail_after(60):
            await collected.wait()
        assert Cycle.alive == 0
    finally:
        gc.callbacks.remove(note_end)
        os.close(reading)


def read_all(fd: int) -> None:
    while os.read(fd, 1 << 16):
        pass
