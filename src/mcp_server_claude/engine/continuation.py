"""The joint between a broken answer and its continuation.

A model that takes prefill continues at the very end of the text. Other models are asked to begin by repeating the last
`ANCHOR_CHARS` characters, and only an exact repetition is removed. Removing the longest overlap instead would delete
real text of tables and code.
"""

from __future__ import annotations

ANCHOR_CHARS = 40

CONTINUE_PROMPT = """\
Your previous response was interrupted by a lost connection. Continue it exactly where it stopped. Begin by repeating \
its last characters, which are given between the tags, and go straight on from there, in the same format, without any \
preamble.
<last_characters>{anchor}</last_characters>"""
"""After https://platform.claude.com/docs/en/build-with-claude/streaming, "Error recovery" for Claude 4.6 and later,
read 2026-11."""


def overlap_anchor(text: str) -> str:
    """The characters that a continuation is asked to repeat: the end of `text` without trailing white space."""
    return text.rstrip()[-ANCHOR_CHARS:]


class OverlapTrimmer:
    """Holds back the start of a continuation until it is known which part of it repeats the text before.

    A repetition of `anchor` at the start is removed. So is white space that already ends `previous_text`: an assistant
    message is sent without its trailing white space, so that the continuation begins with it again.

    `passthrough` is True once that is decided, and the rest of the stream passes unchanged.
    """

    __slots__ = ("_anchor", "_pending", "_trailing_space", "passthrough")

    def __init__(self, previous_text: str = "", *, anchor: str = "") -> None:
        self._anchor = anchor.lstrip()
        self._trailing_space = previous_text[len(previous_text.rstrip()) :]
        self._pending = ""
        self.passthrough = False

    def feed(self, piece: str) -> str:
        """The new text of the stream so far; empty while that is undecided."""
        if self.passthrough:
            return piece
        self._pending += piece
        start = self._overlap_end()
        if start is None:
            return ""
        return self._emit_from(start)

    def finish(self, *, complete: bool = False) -> str:
        """The held-back text of a stream that has ended.

        A cut stream whose text only begins to repeat the anchor has no new text. In a `complete` stream the same
        characters are new text, e.g. the last brace of code.
        """
        if self.passthrough:
            return ""
        rest = self._pending.strip()
        if rest and not complete and self._anchor.startswith(rest):
            return self._emit_from(len(self._pending))
        return self._emit_from(self._overlap_end(final=True) or 0)

    def _overlap_end(self, *, final: bool = False) -> int | None:
        """The length of the repeated part of the held-back text; None while that may still change."""
        start = 0
        if self._anchor:
            lead = len(self._pending) - len(self._pending.lstrip())
            rest = self._pending[lead:]
            if rest.startswith(self._anchor):
                start = lead + len(self._anchor)
            elif self._anchor.startswith(rest) and not final:
                return None
        return self._shared_space_end(start, final=final)

    def _shared_space_end(self, start: int, *, final: bool) -> int | None:
        """The end of the white space that the stream repeats from the end of the text before, from `start` on.

        White space alone is held back: more of it may follow.
        """
        after = self._pending[start:]
        if not after.strip() and not final and (not self._anchor or len(after) <= len(self._trailing_space)):
            return None
        shared = 0
        while shared < min(len(self._trailing_space), len(after)) and after[shared] == self._trailing_space[shared]:
            shared += 1
        return start + shared

    def _emit_from(self, start: int) -> str:
        new_text, self._pending, self.passthrough = self._pending[start:], "", True
        return new_text
