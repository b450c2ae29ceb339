"""A builder of one response: its events in order, each with the characters that it adds to the usage."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import cycle
from typing import TYPE_CHECKING, NamedTuple

from mcp_server_claude.simulator import sse_format

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mcp_server_claude.simulator.json_body import Json, Object

VARYING_DELTA_CHARS = (7, 12, 18, 9, 14)


class StreamStep(NamedTuple):
    """One event, or a silence when `data` is empty; the characters it adds, thought or visible, and its text."""

    frame: bytes
    thinking_chars: int = 0
    visible_chars: int = 0
    text: str = ""


@dataclass(slots=True, kw_only=True)
class EventBuilder:
    """The events so far, and the content they make; a fault strikes before step `fault_step`.

    `delta_chars` is the size of a delta (0: natural), `fault_position` the character at which the fault is to
    strike, if any.
    """

    delta_chars: int = 0
    split_surrogates: bool = False
    fault_position: int | None = None
    steps: list[StreamStep] = field(default_factory=list[StreamStep])
    content: list[Json] = field(default_factory=list["Json"])
    visible_chars: int = 0
    fault_step: int | None = None

    def add_frame(self, frame: bytes, thinking_chars: int = 0) -> None:
        """Add an event, or a silence."""
        self.steps.append(StreamStep(frame, thinking_chars))

    def start_block(self, block: Object) -> int:
        """Begin a content block; its index."""
        index = len(self.content)
        self.content.append(block)
        self.add_frame(sse_format.block_start_frame(index, block))
        if index == 0:
            self.add_frame(sse_format.PING_FRAME)
        return index

    def stop_block(self, index: int, block: Object) -> None:
        """End a content block, which is this as a whole."""
        self.content[index] = block
        self.add_frame(sse_format.block_stop_frame(index))

    def add_block(self, block: Object) -> None:
        """A block that comes in one piece, as results do."""
        self.stop_block(self.start_block(block), block)

    def add_block_with_input(self, block: Object, tool_input: Object) -> None:
        """A block whose `input` is streamed."""
        index = self.start_block({**block, "input": {}})
        for piece in ("", *split_text(sse_format.json_bytes(tool_input).decode(), 0, 0, split_surrogates=False)):
            self.add_frame(sse_format.delta_frame(index, {"type": "input_json_delta", "partial_json": piece}))
        self.stop_block(index, {**block, "input": tool_input})

    def add_deltas(self, index: int, delta_type: str, field_name: str, content: str, *, is_text: bool) -> None:
        """Deltas of what a reader sees, one of which begins where the fault strikes."""
        target = self.fault_position if self.fault_position is not None else -1
        found = list(
            split_text(content, self.delta_chars, target - self.visible_chars, split_surrogates=self.split_surrogates)
        )
        for data, piece in zip(sse_format.delta_frames(index, delta_type, field_name, found), found, strict=True):
            if self.visible_chars >= target and self.fault_step is None and target >= 0:
                self.fault_step = len(self.steps)
            self.steps.append(StreamStep(data, 0, len(piece), piece if is_text else ""))
            self.visible_chars += len(piece)


def split_text(content: str, size: int, boundary: int, *, split_surrogates: bool) -> Iterator[str]:
    """The text in deltas of `size` characters (0: of varying, natural sizes), with one boundary at `cut`."""
    if split_surrogates:
        units = content.encode("utf-16-le", "surrogatepass")
        content = "".join(chr(units[n] | units[n + 1] << 8) for n in range(0, len(units), 2))
    sizes = cycle((size,) if size else VARYING_DELTA_CHARS)
    begin = 0
    while begin < len(content):
        end = min(len(content), begin + next(sizes))
        if begin < boundary < end:
            end = boundary
        if split_surrogates:
            highs = (n for n in range(begin, min(end, len(content) - 1)) if "\ud800" <= content[n] <= "\udbff")
            end = next((n + 1 for n in highs), end)
        yield content[begin:end]
        begin = end
