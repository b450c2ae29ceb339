r"""The bytes of events and JSON bodies, as the API writes them.

Frames are `event: <type>\ndata: <json>\n\n`, with the keys of recorded streams in their order.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mcp_server_claude.simulator.json_body import Json, Object

PING_FRAME = b'event: ping\ndata: {"type": "ping"}\n\n'
COMMENT_FRAME = b": keep-alive\n\n"
_encode_text = json.JSONEncoder(ensure_ascii=False).encode
_encode_compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def json_bytes(value: Json) -> bytes:
    """Compact JSON in UTF-8; text with lone surrogates is written in ASCII escapes."""
    try:
        return _encode_compact(value).encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()


def event_frame(data: Object) -> bytes:
    """One event, named by its `type`."""
    return b"event: %b\ndata: %b\n\n" % (str(data["type"]).encode(), json_bytes(data))


def block_start_frame(index: int, block: Object) -> bytes:
    """`content_block_start`."""
    return event_frame({"type": "content_block_start", "index": index, "content_block": block})


def block_stop_frame(index: int) -> bytes:
    """`content_block_stop`."""
    return event_frame({"type": "content_block_stop", "index": index})


def delta_frame(index: int, change: Object) -> bytes:
    """`content_block_delta`, of any kind."""
    return event_frame({"type": "content_block_delta", "index": index, "delta": change})


def delta_frames(index: int, delta_type: str, field_name: str, pieces: list[str]) -> list[bytes]:
    """Many deltas of one string field, encoded fast: this is what a benchmark's upstream does most."""
    head = (
        f'event: content_block_delta\ndata: {{"type":"content_block_delta","index":{index},'
        f'"delta":{{"type":"{delta_type}","{field_name}":'
    )
    tail = "}}\n\n"
    encoded: list[bytes] = []
    for piece in pieces:
        try:
            encoded.append(f"{head}{_encode_text(piece)}{tail}".encode())
        except UnicodeEncodeError:
            encoded.append(f"{head}{json.dumps(piece)}{tail}".encode())
    return encoded


def error_frame(error_type: str, message: str, request_id: str) -> bytes:
    """`event: error`, as it comes in the middle of a stream."""
    error: Object = {"details": None, "type": error_type, "message": message}
    return event_frame({"type": "error", "error": error, "request_id": request_id})


def http_chunk(data: bytes) -> bytes:
    """One chunk of a chunked body (RFC 9112, section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)
