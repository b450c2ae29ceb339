"""The framing of streamed bodies: the same bytes as h11's own, for every kind of response."""

from __future__ import annotations

import h11
import pytest

from mcp_server_claude.web.response_framing import StreamingConnection

PIECES = [b"a", b"", b"data: \r\n\r\n0\r\n\r\n", b"x" * 70_000, "häß".encode()]
HEADERS: dict[str, list[tuple[str, str]]] = {
    "unknown length": [("content-type", "text/event-stream")],
    "declared length": [("Content-Length", str(sum(map(len, PIECES))))],
    "chunked by the app": [("Transfer-Encoding", "chunked")],
    "a header that resembles another": [("x-note", "transfer-encoding: chunked content-length: 3")],
}


def receive_request(connection: h11.Connection, request: bytes = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n") -> None:
    """Receive a request without a body."""
    connection.receive_data(request)
    while type(connection.next_event()) is not h11.EndOfMessage:
        pass


def response_bytes(
    kind: type[h11.Connection], request: bytes, headers: list[tuple[str, str]], pieces: list[bytes], status: int = 200
) -> bytes:
    """What a connection sends: a head, the pieces, and the end."""
    connection = kind(h11.SERVER)
    receive_request(connection, request)
    events = [h11.Response(status_code=status, headers=headers), *(h11.Data(data=piece) for piece in pieces)]
    return b"".join(connection.send(event) or b"" for event in [*events, h11.EndOfMessage()])


@pytest.mark.parametrize("headers", HEADERS.values(), ids=HEADERS)
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_body_is_framed_as_h11_frames_it(version: str, headers: list[tuple[str, str]]) -> None:
    request = f"GET / HTTP/{version}\r\nHost: a\r\n\r\n".encode()
    ours = response_bytes(StreamingConnection, request, headers, PIECES)
    assert ours == response_bytes(h11.Connection, request, headers, PIECES)
    assert b"data: \r\n\r\n0\r\n\r\n" in ours


def test_a_response_to_head_has_no_body() -> None:
    request = b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"
    ours = response_bytes(StreamingConnection, request, HEADERS["unknown length"], [b""])
    assert ours == response_bytes(h11.Connection, request, HEADERS["unknown length"], [b""])
    assert ours.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("status", [204, 304])
def test_a_body_where_none_is_allowed_is_an_error(status: int) -> None:
    request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    with pytest.raises(h11.LocalProtocolError):
        response_bytes(StreamingConnection, request, [], [b"body"], status)


def test_a_piece_before_the_head_or_after_the_end_is_an_error() -> None:
    connection = StreamingConnection(h11.SERVER)
    receive_request(connection)
    with pytest.raises(h11.LocalProtocolError):
        connection.send(h11.Data(data=b"early"))
    connection = StreamingConnection(h11.SERVER)
    receive_request(connection)
    for event in (h11.Response(status_code=200, headers=[]), h11.Data(data=b"x"), h11.EndOfMessage()):
        connection.send(event)
    with pytest.raises(h11.LocalProtocolError):
        connection.send(h11.Data(data=b"late"))


def test_the_next_response_on_a_connection_has_its_own_framing() -> None:
    connection = StreamingConnection(h11.SERVER)
    sent: list[bytes] = []
    for headers, body in (([], b"chunk"), ([("content-length", "4")], b"four"), ([], b"more")):
        receive_request(connection)
        events = (h11.Response(status_code=200, headers=headers), h11.Data(data=body), h11.EndOfMessage())
        sent += [connection.send(event) or b"" for event in events]
        connection.start_next_cycle()
    assert sent[1::3] == [b"5\r\nchunk\r\n", b"four", b"4\r\nmore\r\n"]
