"""A text that grows, held once and shared by its readers."""

from __future__ import annotations

import math
from bisect import bisect_right

MAX_JOINED_CHARS = 4096
"""Characters up to which pieces of text are joined as they come; larger blocks cost more to join than to keep apart."""


def is_blank(text: str) -> bool:
    """True if there is nothing but white space. Nothing is copied, as `strip` would."""
    return not text or text.isspace()


class TextLog:
    """A text that grows. Its writer appends to it, and each reader reads from an offset of its own, in characters.

    Small pieces are joined, since a string object costs 49 bytes in addition to its characters.
    """

    __slots__ = ("_blocks", "_starts", "chars")

    def __init__(self) -> None:
        self._blocks: list[str] = []
        self._starts: list[int] = []
        self.chars = 0

    @property
    def has_text(self) -> bool:
        """True if there is more than white space."""
        return any(not block.isspace() for block in self._blocks)

    def append(self, piece: str) -> None:
        """Append a piece."""
        if not piece:
            return
        if self._blocks and len(self._blocks[-1]) < MAX_JOINED_CHARS:
            self._blocks[-1] += piece
        else:
            self._starts.append(self.chars)
            self._blocks.append(piece)
        self.chars += len(piece)

    def slice(self, start: int, end: float = math.inf) -> str:
        """The characters from `start` up to `end`, or to the last there is."""
        end = int(min(end, self.chars))
        if start >= end:
            return ""
        first, last = bisect_right(self._starts, start) - 1, bisect_right(self._starts, end - 1)
        text = "".join(self._blocks[first:last])
        return text[start - self._starts[first] : end - self._starts[first]]

    def share_text(self, text: str) -> None:
        """Hold this string in place of the log's own, if it is the text so far."""
        blocks = zip(self._starts, self._blocks, strict=True)
        if len(text) == self.chars and all(text.startswith(block, start) for start, block in blocks):
            self._blocks, self._starts = ([text], [0]) if text else ([], [])

    def whole(self) -> str:
        """The text so far, as the one string that the log holds from now on."""
        if len(self._blocks) > 1:
            self._blocks, self._starts = ["".join(self._blocks)], [0]
        return self._blocks[0] if self._blocks else ""
