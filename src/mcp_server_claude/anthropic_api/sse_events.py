"""Server-sent events of the Messages API: bytes of a response in, JSON objects out.

The SDK builds a pydantic model for each event, which costs six times as much as this module (benchmarks/, row "CPU
a delta"). The
format is that of https://html.spec.whatwg.org/multipage/server-sent-events.html, as documented by November 2026.
Of an event
only its data
counts: the `type` inside decides, because the name beside it may be missing or damaged on the way.
"""

from __future__ import annotations

import json
import re
from itertools import chain
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Iterable

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
MAX_EVENT_BYTES = 64 << 20
"""Bytes of one event, more than any server tool brings in."""
MAX_JSON_DEPTH = 200
"""Levels of a JSON value, as jiter allows; Python's own parser allows as many as its stack holds."""
USUAL_EVENT = re.compile(rb"(?m)^event: ([^\n]*)\ndata: ([^\n]*)\n\n")
"""It begins with a line, so that data that repeats `event: ` is not searched again from each of them."""
FRAMING_BYTES = len(b"event: \ndata: \n\n")
"""Bytes of a usual event besides its name and its data."""
PING, ERROR = "ping", "error"
END_OF_OTHER_APIS = b"[DONE]"
"""The last data of streams in OpenAI's format, which gateways are known to append."""


class MalformedEventError(ValueError):
    """The data of an event is not a JSON object with a `type`."""


class ErrorEventError(Exception):
    """The API reports an error within the stream. `body` is its JSON, or its text where that is none."""

    def __init__(self, body: object) -> None:
        super().__init__(str(body))
        self.body = body


class EventSplitter:
    """Splits a stream of bytes into events, each a pair of its name and its data; linear in the bytes, however
    they are cut.
    """

    __slots__ = ("_buffer", "_has_begun", "_searched", "_skips_line_feed")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0
        self._has_begun = False
        self._skips_line_feed = False

    def feed(self, data: bytes) -> list[tuple[bytes, bytes]]:
        """The events that are complete with these bytes.

        Raises:
            MalformedEventError: An event is longer than `MAX_EVENT_BYTES`.
        """
        is_between_events = self._has_begun and not self._buffer and not self._skips_line_feed
        if is_between_events and data[-2:] == b"\n\n" and b"\r" not in data:
            return _parse_events(data)  # whole events, as they nearly always come: nothing is copied
        self._append(data)
        end = self._buffer.rfind(b"\n\n", max(0, self._searched - 1))
        if end < 0:
            self._searched = len(self._buffer)
            if self._searched > MAX_EVENT_BYTES:
                raise MalformedEventError("an event is too long")
            return []
        complete = bytes(self._buffer[: end + 2])
        del self._buffer[: end + 2]
        self._searched = len(self._buffer)
        return _parse_events(complete)

    def finish(self) -> list[tuple[bytes, bytes]]:
        """The event at the end of the stream that has no blank line after it."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        self._searched = 0
        return _parse_events(rest)

    def _append(self, data: bytes) -> None:
        """Add bytes, with each of the three line ends of the format as one line feed."""
        if self._skips_line_feed and data:
            data = data.removeprefix(b"\n")
            self._skips_line_feed = False
        if b"\r" in data:
            self._skips_line_feed = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        self._buffer += data
        if not self._has_begun and not BYTE_ORDER_MARK.startswith(self._buffer):
            self._has_begun = True
            if self._buffer.startswith(BYTE_ORDER_MARK):
                del self._buffer[: len(BYTE_ORDER_MARK)]


def parse_event(name: bytes, data: bytes) -> dict[str, object] | None:
    """The JSON object of an event; None for a ping and for what carries no data.

    Raises:
        ErrorEventError: The event is an error that the API reports.
        MalformedEventError: The data is not a JSON object with a `type`.
    """
    if not data or data == END_OF_OTHER_APIS:
        return None
    try:
        event = parse_json(data)
    except ValueError:
        if name == b"error":
            raise ErrorEventError(data.decode("utf-8", "replace")) from None
        if name == b"ping":
            return None
        raise
    kind = cast("dict[str, object]", event).get("type") if isinstance(event, dict) else None
    if kind == ERROR or (not isinstance(kind, str) and name == b"error"):
        raise ErrorEventError(cast("object", event))
    if kind == PING or (not isinstance(kind, str) and name == b"ping"):
        return None
    if not isinstance(kind, str):
        raise MalformedEventError("the data of an event is not an object with a type")
    return cast("dict[str, object]", event)


def parse_json(data: bytes) -> object:
    """A JSON value out of UTF-8. Lone surrogates in escapes are kept, as `json.loads` keeps them.

    Raises:
        MalformedEventError: The bytes are not JSON, or nested too deep.
    """
    import jiter  # comes with anthropic, and is loaded with it

    try:
        return cast("object", jiter.from_json(data, cache_mode="keys"))
    except ValueError:  # a lone surrogate, which jiter refuses; or no JSON
        try:
            value = cast("object", json.loads(data))
        except (ValueError, RecursionError):
            raise MalformedEventError("the data of an event is not JSON") from None
        if _is_deeper_than(MAX_JSON_DEPTH, value):
            raise MalformedEventError("the data of an event is nested too deep") from None
        return value


def _is_deeper_than(limit: int, value: object) -> bool:
    level = [value]
    for _ in range(limit):
        level = [child for each in level for child in _children(each)]
        if not level:
            return False
    return True


def _children(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return cast("dict[str, object]", value).values()
    return cast("list[object]", value) if isinstance(value, list) else ()


def _parse_events(text: bytes) -> list[tuple[bytes, bytes]]:
    return _parse_usual_events(text) or [
        event for block in text.split(b"\n\n") if block for event in _parse_fields(block)
    ]


def _parse_usual_events(text: bytes) -> list[tuple[bytes, bytes]]:
    """Events of which each is sent as the API does, a line with its name and one with its data; none if any is not."""
    name, _, rest = text.partition(b"\n")
    data, _, rest = rest.partition(b"\n")
    if rest == b"\n":  # a single one, as from a stream at the pace of a model
        is_usual = name[:7] == b"event: " and data[:6] == b"data: "
        return [(name[7:], data[6:])] if is_usual else []
    events = cast("list[tuple[bytes, bytes]]", USUAL_EVENT.findall(text))
    found_bytes = sum(map(len, chain.from_iterable(events))) + len(events) * FRAMING_BYTES
    return events if found_bytes == len(text) else []


def _parse_fields(block: bytes) -> list[tuple[bytes, bytes]]:
    """An event in any form that the format allows: several lines of data, comments, fields in another order."""
    name, data = b"", list[bytes]()
    for line in block.split(b"\n"):
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"event":
            name = value
        elif field == b"data":
            data.append(value)
    return [(name, b"\n".join(data))] if data else []
