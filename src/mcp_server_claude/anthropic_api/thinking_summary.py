"""The summary of thinking that a response shows, sentence by sentence."""

from __future__ import annotations

import re

MAX_TAIL_CHARS = 2_000
MAX_SENTENCE_CHARS = 200
SENTENCE_END = re.compile(r"(?<=[.!?:])\s+|\n+")


class ThinkingSummary:
    """The shown summary of a thinking block while it arrives."""

    def __init__(self) -> None:
        self._tail = ""
        self.last_sentence = ""

    def begin_block(self) -> None:
        """Begin another thinking block."""
        self._tail = ""

    def add_text(self, text: str) -> None:
        """Add a piece. `last_sentence` becomes the last sentence that is whole, on one line."""
        # No end of a sentence is in the tail. So a delta costs what its own text does, not what came before it.
        begin, end = len(self._tail), 0
        self._tail += text
        for found in SENTENCE_END.finditer(self._tail, begin):
            sentence = " ".join(self._tail[end : found.start()].replace("**", "").split()).lstrip("*#-> ")
            self.last_sentence = sentence[:MAX_SENTENCE_CHARS] or self.last_sentence
            end = found.end()
        self._tail = self._tail[max(end, len(self._tail) - MAX_TAIL_CHARS) :]
