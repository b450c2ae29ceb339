"""Progress notifications as bytes: the same messages as the SDK's own, in order, in both protocol eras."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp.types import JSONRPCNotification, ProgressNotification, ProgressNotificationParams, jsonrpc_message_adapter

from mcp_server_claude.call_types import TextDelta
from mcp_server_claude.server import progress_notifications
from mcp_server_claude.server.http_client_state import HttpRequestState
from mcp_server_claude.server.progress_frames import ProgressFrames
from mcp_server_claude.server.progress_notifications import progress_reporter
from mcp_server_claude.settings import Settings
from support.mcp_session import ALL_TRANSPORTS, ProgressUpdate, ProtocolMode, Transport, connect, text_blocks

if TYPE_CHECKING:
    from pathlib import Path

    from mcp_server_claude.simulator import Simulator

pytestmark = pytest.mark.anyio

TOKENS = st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"]))
MESSAGES = st.none() | st.text(st.characters(exclude_categories=["Cs"]))


class Wire:
    """A connection that keeps what is written to it, and a sender through the SDK that writes to it too."""

    def __init__(self) -> None:
        self.messages: list[object] = []
        self.bytes_taken = 0

    async def wait_until_open(self) -> bool:
        return True

    async def write_message(self, message: bytes) -> None:
        self.messages.append(json.loads(message))

    async def send_through_sdk(self, progress: float, message: str | None, total: float | None = None) -> None:
        assert total is None
        self.messages.append((progress, message))


@given(TOKENS, st.integers(0, 2**53) | st.floats(0, 1e9), MESSAGES, st.none() | st.integers(1, 100))
def test_a_frame_is_the_message_that_the_sdk_would_send(
    token: str | int, progress: float, message: str | None, total: float | None
) -> None:
    wire = Wire()
    frame = ProgressFrames(wire.send_through_sdk, wire, token).encode(progress, message, total)
    params = ProgressNotificationParams(progress_token=token, progress=progress, message=message, total=total)
    sent = ProgressNotification(params=params).model_dump(by_alias=True, mode="json", exclude_none=True)
    parsed = jsonrpc_message_adapter.validate_json(frame, by_name=False)
    assert isinstance(parsed, JSONRPCNotification)
    assert json.loads(frame) == {"jsonrpc": "2.0", **sent}
    assert b"\n" not in frame
    assert b"\r" not in frame


async def test_the_first_notification_goes_through_the_sdk_and_the_others_as_bytes() -> None:
    wire = Wire()
    frames = ProgressFrames(wire.send_through_sdk, wire, "t")
    await frames(1, None)
    await frames(2, "tea")
    assert wire.messages[0] == (1, None)
    assert wire.messages[1:] == [
        {
            "jsonrpc": "2.0",
            "method": "notifications/progress",
            "params": {"progressToken": "t", "progress": 2, "message": "tea"},
        }
    ]


async def test_over_http_no_bytes_precede_the_first_event_of_the_response() -> None:
    sent: list[bytes] = []

    async def send_body(data: bytes) -> None:
        sent.append(data)

    async def send_through_sdk(progress: float, message: str | None, total: float | None = None) -> None:
        """The SDK takes a notification and passes it on later."""

    state = HttpRequestState(send_body)
    frames = ProgressFrames(send_through_sdk, state, 1)
    await frames(1, None)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(frames, 2, "tea")
        await anyio.wait_all_tasks_blocked()
        assert sent == []
        state.begin_response(is_event_stream=True)
    assert len(sent) == 1
    assert sent[0].startswith(b"event: message\r\ndata: {")
    assert sent[0].endswith(b"}\r\n\r\n")


async def test_a_response_that_is_not_an_event_stream_gets_no_bytes() -> None:
    wire, state = Wire(), HttpRequestState()
    frames = ProgressFrames(wire.send_through_sdk, state, 1)
    await frames(1, None)
    await frames(2, "tea")
    assert wire.messages == [(1, None), (2, "tea")]


async def test_the_end_of_an_answer_waits_while_the_client_reads_other_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A client that reads slowly is not one that does not read."""
    monkeypatch.setattr(progress_notifications, "DRAIN_TIMEOUT_S", 0.05)

    class SlowWire(Wire):
        async def write_message(self, message: bytes) -> None:
            for _ in range(60):  # the messages of other requests go first
                await anyio.sleep(0.005)
                self.bytes_taken += 100
            await super().write_message(message)

    wire = SlowWire()
    frames = ProgressFrames(wire.send_through_sdk, wire, 1)
    async with progress_reporter(frames, "text", Settings()) as progress:
        progress.queue_event(TextDelta("tea"))
    assert [message for message in wire.messages if "tea" in str(message)]


@pytest.mark.parametrize(("transport", "mode"), ALL_TRANSPORTS)
async def test_the_messages_joined_are_the_answer_over_every_transport_and_protocol_version(
    api: Simulator, tmp_path: Path, transport: Transport, mode: ProtocolMode
) -> None:
    prompt = "Tea? 茶 👩‍👩‍👧 [[sim: tokens=400 think=0 pace=2000]]"
    async with connect(transport, mode, tmp_path / "data", base_url=api.url, progress_interval_s=0.01) as session:
        updates: list[ProgressUpdate] = []
        result = await session.ask(prompt, updates=updates)
    progress = [update.progress for update in updates]
    assert progress == sorted(set(progress))
    assert "".join(update.message or "" for update in updates) == text_blocks(result)[0]
    assert len(updates) > 3
