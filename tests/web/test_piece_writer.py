"""Pieces of a body that are written past the middleware: when, in which order, and not where they do not belong."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, cast

import anyio
import h11
import pytest
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.h11_impl import RequestResponseCycle

from mcp_server_claude.simulator import Simulator, directive
from mcp_server_claude.web.piece_writer import (
    PieceWriter,
    offer_piece_writer,
    offered_piece_writer,
    remove_piece_writer,
)
from mcp_server_claude.web.response_framing import StreamingConnection
from support.chat_reader import ask_chat
from support.http_server import event_text, http_server_thread
from support.mcp_session import http_server_in_loop
from support.raw_mcp_http import raw_connection, request_head
from support.simulator_requests import message_requests

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.types import Message, Scope

pytestmark = pytest.mark.anyio
HEAD: Message = {"type": "http.response.start", "status": 200, "headers": []}
END: Message = {"type": "http.response.body", "body": b"", "more_body": False}


class RecordingTransport(asyncio.Transport):
    """A transport that keeps what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))


def new_cycle(transport: RecordingTransport, connection: h11.Connection | None = None) -> RequestResponseCycle:
    """A request of uvicorn's that has been received, and whose response has not begun."""
    connection = connection or StreamingConnection(h11.SERVER)
    connection.receive_data(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    while type(connection.next_event()) is not h11.EndOfMessage:
        pass
    return RequestResponseCycle(
        scope=cast("Any", {"type": "http", "method": "GET", "headers": []}),
        conn=connection,
        transport=transport,
        flow=FlowControl(transport),
        logger=logging.getLogger("test"),
        access_logger=logging.getLogger("test"),
        access_log=False,
        default_headers=[],
        message_event=asyncio.Event(),
        on_response=lambda: None,
    )


def writer_for(cycle: RequestResponseCycle) -> PieceWriter:
    writer = offered_piece_writer(offer_piece_writer({"type": "http"}, cast("Any", cycle.send)))
    assert writer is not None
    return writer


async def test_pieces_are_written_between_the_head_and_the_end_only() -> None:
    transport = RecordingTransport()
    cycle = new_cycle(transport)
    writer = writer_for(cycle)
    writer.write_now(b"early")
    assert transport.written == []
    await cycle.send(cast("Any", HEAD))
    writer.write_now(b"one")
    await writer.write_when_ready(b"two")
    assert transport.written[1:] == [b"3\r\none\r\n", b"3\r\ntwo\r\n"]
    await cycle.send(cast("Any", END))
    written = list(transport.written)
    writer.write_now(b"late")
    assert transport.written == written


async def test_a_piece_waits_for_a_client_that_does_not_read() -> None:
    transport = RecordingTransport()
    cycle = new_cycle(transport)
    writer = writer_for(cycle)
    await cycle.send(cast("Any", HEAD))
    assert writer.is_ready
    cycle.flow.pause_writing()
    assert not writer.is_ready
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(writer.write_when_ready, b"one")
            await anyio.wait_all_tasks_blocked()
            assert len(transport.written) == 1
            cycle.flow.resume_writing()
    assert transport.written[1:] == [b"3\r\none\r\n"]


async def test_pieces_for_a_client_that_has_left_are_dropped_at_once() -> None:
    transport = RecordingTransport()
    cycle = new_cycle(transport)
    writer = writer_for(cycle)
    await cycle.send(cast("Any", HEAD))
    cycle.flow.pause_writing()
    cycle.disconnected = True
    assert writer.is_ready
    with anyio.fail_after(60):
        await writer.write_when_ready(b"one")
    assert len(transport.written) == 1


async def test_a_writer_is_offered_for_our_connections_of_uvicorn_only() -> None:
    async def send(message: Message) -> None: ...

    scope: Scope = {"type": "http", "extensions": {"other": {}}}
    other = new_cycle(RecordingTransport(), h11.Connection(h11.SERVER))
    assert offer_piece_writer(scope, send) is scope
    assert offer_piece_writer(scope, cast("Any", other.send)) is scope
    offered = offer_piece_writer(scope, cast("Any", new_cycle(RecordingTransport()).send))
    assert offered_piece_writer(offered) is not None
    assert offered_piece_writer(remove_piece_writer(offered)) is None
    assert remove_piece_writer(offered) == scope


async def test_text_of_chat_is_written_past_the_middleware(
    api: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """uvicorn may change how its `send` refers to the connection; then every piece would go through the middleware."""
    pieces: list[bytes] = []
    write_now = PieceWriter.write_now

    def record_piece(writer: PieceWriter, piece: bytes) -> None:
        pieces.append(piece)
        write_now(writer, piece)

    monkeypatch.setattr(PieceWriter, "write_now", record_piece)
    async with http_server_thread(tmp_path, api.url) as server, server.client() as client:
        events = await ask_chat(client, directive(text="written past it"))
    assert event_text(events) == "written past it"
    assert b"written past" in b"".join(pieces)


async def test_a_client_that_reads_late_gets_all_of_a_long_answer(api: Simulator, tmp_path: Path) -> None:
    api.reset()
    body = b'{"message": "[[sim: fault=huge]]"}'
    headers = {"content-type": "application/json", "content-length": str(len(body)), "accept": "text/plain"}
    async with (
        http_server_in_loop(data_dir=tmp_path, base_url=api.url) as server,
        raw_connection(server.url, receive_buffer=16384) as late,
    ):
        transport = cast("asyncio.Transport", late.writer.transport)
        transport.pause_reading()
        await late.send(request_head(headers, path="/chat"), body)
        with anyio.fail_after(60):
            await api.wait_for_requests(2)  # the list of models, and the message
            await api.wait_until_idle()
        transport.resume_reading()
        received = await late.read_until(b"0\r\n\r\n")
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(received)
    text = b""
    while type(event := client.next_event()) is not h11.EndOfMessage:
        text += event.data if isinstance(event, h11.Data) else b""
    assert text.decode() == message_requests(api)[0].text
