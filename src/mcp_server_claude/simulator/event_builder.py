"""The sheet on which a response is written: its events one after the other, with what each adds to the account."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import cycle
from typing import TYPE_CHECKING, NamedTuple

from mcp_server_claude.simulator import sse_format

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mcp_server_claude.simulator.json_body import Json, Object

NATURAL_SIZES = (7, 12, 18, 9, 14)


class Step(NamedTuple):
    """One event, or a silence when `data` is empty; the characters it adds, thought or visible, and its text."""

    data: bytes
    thinking: int = 0
    visible: int = 0
    text: str = ""


@dataclass(slots=True, kw_only=True)
class Sheet:
    """The events so far, and the content they make; a fault strikes before step `cut`.

    `chars` is the size of a delta (0: natural), `target` the character at which the fault is to strike, if any.
    """

    chars: int = 0
    part_pairs: bool = False
    target: int | None = None
    steps: list[Step] = field(default_factory=list[Step])
    content: list[Json] = field(default_factory=list["Json"])
    position: int = 0
    cut: int | None = None

    def add(self, data: bytes, thinking: int = 0) -> None:
        """Add an event, or a silence."""
        self.steps.append(Step(data, thinking))

    def start(self, block: Object) -> int:
        """Begin a content block; its index."""
        index = len(self.content)
        self.content.append(block)
        self.add(sse_format.block_start(index, block))
        if index == 0:
            self.add(sse_format.PING)
        return index

    def stop(self, index: int, block: Object) -> None:
        """End a content block, which is this as a whole."""
        self.content[index] = block
        self.add(sse_format.block_stop(index))

    def whole(self, block: Object) -> None:
        """A block that comes in one piece, as results do."""
        self.stop(self.start(block), block)

    def given(self, block: Object, given: Object) -> None:
        """A block whose `input` is streamed."""
        index = self.start({**block, "input": {}})
        for piece in ("", *pieces(sse_format.dumps(given).decode(), 0, 0, part_pairs=False)):
            self.add(sse_format.delta(index, {"type": "input_json_delta", "partial_json": piece}))
        self.stop(index, {**block, "input": given})

    def visible(self, index: int, kind: str, name: str, said: str, *, is_text: bool) -> None:
        """Deltas of what a reader sees, one of which begins where the fault strikes."""
        target = self.target if self.target is not None else -1
        found = list(pieces(said, self.chars, target - self.position, part_pairs=self.part_pairs))
        for data, piece in zip(sse_format.deltas(index, kind, name, found), found, strict=True):
            if self.position >= target and self.cut is None and target >= 0:
                self.cut = len(self.steps)
            self.steps.append(Step(data, 0, len(piece), piece if is_text else ""))
            self.position += len(piece)


def pieces(said: str, size: int, cut: int, *, part_pairs: bool) -> Iterator[str]:
    """The text in deltas of `size` characters (0: of varying, natural sizes), with one boundary at `cut`."""
    if part_pairs:
        units = said.encode("utf-16-le", "surrogatepass")
        said = "".join(chr(units[n] | units[n + 1] << 8) for n in range(0, len(units), 2))
    sizes = cycle((size,) if size else NATURAL_SIZES)
    begin = 0
    while begin < len(said):
        end = min(len(said), begin + next(sizes))
        if begin < cut < end:
            end = cut
        if part_pairs:
            highs = (n for n in range(begin, min(end, len(said) - 1)) if "\ud800" <= said[n] <= "\udbff")
            end = next((n + 1 for n in highs), end)
        yield said[begin:end]
        begin = end
