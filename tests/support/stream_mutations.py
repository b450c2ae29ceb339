"""Random damage to server-sent event streams, and a reader of their text that shares nothing with the server."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from random import Random

ODD_VALUES: tuple[object, ...] = (None, True, -1, 0, 1 << 63, 1e30, "", "9", "\ud800", [1], {"type": "text"})
EVENT_TYPES = (
    "message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta",
    "message_stop", "ping", "error", "event_of_tomorrow",
)  # fmt: skip


def mutate(random: Random, stream: bytes) -> bytes:
    """Damage a stream in one to three ways."""
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        stream = random.choice(_MUTATIONS)(random, stream)
    return stream


def read_text(stream: bytes) -> str:
    """Read the answer's text as the documentation of the Messages API and of server-sent events describes it.

    The `type` inside `data` decides; nothing after `message_stop` counts; lone surrogates become U+FFFD.
    """
    pieces: list[str] = []
    for event in _read_events(stream):
        kind = event.get("type")
        if kind == "message_stop":
            break
        if kind == "message_start":
            pieces += [str(block.get("text") or "") for block in _objects(_object(event.get("message")).get("content"))]
        elif kind == "content_block_start" and _object(event.get("content_block")).get("type") == "text":
            pieces.append(str(_object(event.get("content_block")).get("text") or ""))
        elif kind == "content_block_delta" and _object(event.get("delta")).get("type") == "text_delta":
            pieces.append(str(_object(event.get("delta")).get("text") or ""))
    text = "".join(pieces).encode("utf-16-le", "surrogatepass")
    return text.decode("utf-16-le", "replace")


def _read_events(stream: bytes) -> Iterator[dict[str, Any]]:
    """Read the JSON objects of the events (WHATWG HTML, "Interpreting an event stream")."""
    data: list[str] = []
    for line in re.split(r"\r\n|\n|\r", stream.decode("utf-8", "replace").removeprefix("\ufeff")):
        if not line:
            yield _parse_object("\n".join(data))
            data = []
        elif line.startswith("data:"):
            data.append(line.removeprefix("data:").removeprefix(" "))
        elif line == "data":
            data.append("")


def _parse_object(text: str) -> dict[str, Any]:
    try:
        return _object(json.loads(text))
    except (ValueError, RecursionError):
        return {}


def _object(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _objects(value: object) -> list[dict[str, Any]]:
    return [_object(each) for each in cast("list[object]", value)] if isinstance(value, list) else []


def _flip_byte(random: Random, stream: bytes) -> bytes:
    at = random.randrange(len(stream) or 1)
    return stream[:at] + bytes([random.randrange(256)]) + stream[at + 1 :]


def _cut_end(random: Random, stream: bytes) -> bytes:
    return stream[: random.randrange(len(stream) + 1)]


def _cut_range(random: Random, stream: bytes) -> bytes:
    begin = random.randrange(len(stream) + 1)
    return stream[:begin] + stream[begin + random.randrange(1, 60) :]


def _insert_bytes(random: Random, stream: bytes) -> bytes:
    piece = random.choice(
        (b"\n\n", b"\r", b": comment\n", b"\xff\xfe", b"\x00", b"data: {}\n\n", b"\xef\xbb\xbf", b"}")
    )
    at = random.randrange(len(stream) + 1)
    return stream[:at] + piece + stream[at:]


def _drop_event(random: Random, stream: bytes) -> bytes:
    return _with_frames(stream, lambda frames: frames.pop(random.randrange(len(frames))))


def _repeat_event(random: Random, stream: bytes) -> bytes:
    def repeat(frames: list[bytes]) -> None:
        frames.insert(random.randrange(len(frames) + 1), random.choice(frames))

    return _with_frames(stream, repeat)


def _swap_events(random: Random, stream: bytes) -> bytes:
    def swap(frames: list[bytes]) -> None:
        a, b = random.randrange(len(frames)), random.randrange(len(frames))
        frames[a], frames[b] = frames[b], frames[a]

    return _with_frames(stream, swap)


def _rename_event(random: Random, stream: bytes) -> bytes:
    """Name another type in the `event:` line only, or drop the line."""

    def rename(frames: list[bytes]) -> None:
        at = random.randrange(len(frames))
        name = b"event: " + random.choice(EVENT_TYPES).encode() + b"\n" if random.random() < 0.7 else b""
        frames[at] = re.sub(rb"^event:.*\r?\n", name, frames[at])

    return _with_frames(stream, rename)


def _change_value(random: Random, stream: bytes) -> bytes:
    """Put an odd value, another type or a deep nesting somewhere into an event's JSON."""

    def change(frames: list[bytes]) -> None:
        at = random.randrange(len(frames))
        match = re.search(rb"^data: ?(\{.*\})\r?$", frames[at], re.MULTILINE)
        event = _parse_object(match[1].decode("utf-8", "replace")) if match else {}
        if match is None or not event:
            return
        place = event
        while (inner := [each for each in map(_object, place.values()) if each]) and random.random() < 0.6:
            place = random.choice(inner)
        key = random.choice(list(place))
        rename = key == "type" and random.random() < 0.5
        place[key] = random.choice(EVENT_TYPES) if rename else random.choice(ODD_VALUES)
        if random.random() < 0.05:
            del place[key]
        frames[at] = frames[at][: match.start(1)] + json.dumps(event).encode() + frames[at][match.end(1) :]

    return _with_frames(stream, change)


def _nest_deeply(random: Random, stream: bytes) -> bytes:
    depth = random.choice((100, 1_000, 5_000, 100_000))
    frame = b'event: ping\ndata: {"type": "ping", "x": ' + b"[" * depth + b"]" * depth + b"}\n\n"
    return _with_frames(stream, lambda frames: frames.insert(random.randrange(len(frames) + 1), frame))


def _mix_line_ends(random: Random, stream: bytes) -> bytes:
    return b"".join(
        random.choice((b"\n", b"\r\n", b"\r")) if each == b"\n" else each for each in re.split(rb"(\n)", stream)
    )


def _with_frames(stream: bytes, change: Callable[[list[bytes]], object]) -> bytes:
    frames = [each for each in re.split(rb"(?<=\n\n)|(?<=\r\n\r\n)", stream) if each]
    if frames:
        change(frames)
    return b"".join(frames)


_MUTATIONS: tuple[Callable[[Random, bytes], bytes], ...] = (
    _flip_byte, _cut_end, _cut_range, _insert_bytes, _drop_event, _repeat_event, _swap_events, _rename_event,
    _change_value, _change_value, _change_value, _nest_deeply, _mix_line_ends,
)  # fmt: skip
