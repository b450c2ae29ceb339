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
        self._tail = (self._tail + text)[-MAX_TAIL_CHARS:]
        *whole, _ = SENTENCE_END.split(self._tail)
        sentences = [" ".join(sentence.replace("**", "").split()).lstrip("*#-> ") for sentence in whole]
        self.last_sentence = next((each for each in reversed(sentences) if each), self.last_sentence)[
            :MAX_SENTENCE_CHARS
        ]
