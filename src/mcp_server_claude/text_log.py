"""A text that grows, held once and shared by its readers."""

from __future__ import annotations

import math
from bisect import bisect_right

from mcp_server_claude.heap_memory import trim_heap

MAX_JOINED_CHARS = 4096
"""Characters up to which pieces of text are joined as they come; larger blocks cost more to join than to keep apart."""
MIN_LARGE_CHARS = 1024 * 1024
"""Characters from which blocks are released while they are joined. `str.join` is faster, and needs both at once."""
TRIM_INTERVAL_CHARS = 1024 * 1024
"""Characters of released blocks after which their memory is given back to the system."""


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

    def since(self, start: int) -> str:
        """The characters from `start` on."""
        if self._starts and start >= (begin := self._starts[-1]):  # the rest for a reader that keeps up
            return self._blocks[-1][start - begin :]
        return self.slice(start)

    def ends_with(self, piece: str) -> bool:
        """True if `piece` was appended last. Looks at one block only."""
        return bool(self._blocks) and self._blocks[-1].endswith(piece)

    def whole(self) -> str:
        """The text so far, as the one string that the log holds from now on."""
        if len(self._blocks) > 1:
            joined = "".join(self._blocks) if self.chars < MIN_LARGE_CHARS else _join_and_release(self._blocks)
            self._blocks, self._starts = [joined], [0]
        return self._blocks[0] if self._blocks else ""


class TextPart:
    """A text that is appended to a log as well, and held there only, as long as it is one part of the log's text."""

    __slots__ = ("_end", "_log", "_own", "_start")

    def __init__(self) -> None:
        self._log: TextLog | None = None
        self._start = self._end = 0
        self._own: TextLog | None = None

    def append(self, piece: str) -> None:
        """Append a piece that is in no log."""
        if piece:
            self._own_log().append(piece)

    def append_logged(self, piece: str, log: TextLog, start: int) -> None:
        """Append a piece that may have been appended to `log`, at `start` or after a separator."""
        piece_start = log.chars - len(piece)
        if log is self._log and piece_start == self._end and log.ends_with(piece):
            self._end = log.chars
        elif self._log is None and self._own is None and piece_start >= start and log.ends_with(piece):
            self._log, self._start, self._end = log, piece_start, log.chars
        else:
            self.append(piece)

    def whole(self) -> str:
        """The text so far. If it is all of the log's text, then it is the log's own string."""
        if self._own is not None:
            return self._own.whole()
        if self._log is None:
            return ""
        is_all = self._start == 0 and self._end == self._log.chars
        return self._log.whole() if is_all else self._log.slice(self._start, self._end)

    def _own_log(self) -> TextLog:
        if self._own is None:
            text = self.whole()
            self._own, self._log = TextLog(), None
            self._own.append(text)
        return self._own


class _ReleasedBlocks:
    """Blocks of text that are given out one after the other, and released."""

    def __init__(self, blocks: list[str]) -> None:
        self._blocks = blocks
        self._untrimmed_chars = 0
        blocks.reverse()

    def __getitem__(self, _: str) -> str:
        block = self._blocks.pop()
        self._untrimmed_chars += len(block)
        if self._untrimmed_chars >= TRIM_INTERVAL_CHARS:
            self._untrimmed_chars = 0
            trim_heap()
        return block


def _join_and_release(blocks: list[str]) -> str:
    """Join blocks into a string that grows while they are released; `blocks` is empty afterwards.

    `format_map` asks for each value when it gets there, appends it to the result in place and drops it. `+=` grows a
    string in place only where the interpreter has specialised the loop.
    """
    return ("{block}" * len(blocks)).format_map(_ReleasedBlocks(blocks))
