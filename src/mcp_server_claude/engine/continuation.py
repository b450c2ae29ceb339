"""Where a broken answer is joined to its continuation.

A model that takes prefill goes on from the very end of what it is given. The others are asked to begin by repeating
the last `ANCHOR_CHARS` characters; only where they do is the repetition cut. Nothing is guessed: removing the
longest overlap
would delete real text of tables and code.
"""

from __future__ import annotations

ANCHOR_CHARS = 40

CONTINUE_PROMPT = """\
Your previous response was interrupted by a lost connection. Continue it exactly where it stopped. Begin by repeating \
its last characters, which are given between the tags, and go straight on from there, in the same format, without any \
preamble.
<last_characters>{anchor}</last_characters>"""
"""After platform.claude.com/docs, "Streaming messages", error recovery for Claude 4.6 and later."""


def overlap_anchor(text: str) -> str:
    """The characters that a continuation is asked to repeat: the last of `text`, without the white space at its end."""
    return text.rstrip()[-ANCHOR_CHARS:]


class OverlapTrimmer:
    """The start of a stream of text, held back until it is known what of it was there before.

    `before` is the text so far. The repetition of its `anchor` is cut where the stream begins with it, and so is white
    space that ends `before`: an assistant message is sent without it, so the continuation begins with it again.
    """

    __slots__ = ("_anchor", "_pending", "_trailing_space", "passthrough")

    def __init__(self, previous_text: str = "", *, anchor: str = "") -> None:
        self._anchor = anchor.lstrip()
        self._trailing_space = previous_text[len(previous_text.rstrip()) :]
        self._pending = ""
        self.passthrough = False

    def feed(self, piece: str) -> str:
        """What of the stream so far can be told as new; nothing while that is not known."""
        if self.passthrough:
            return piece
        self._pending += piece
        start = self._overlap_end()
        if start is None:
            return ""
        return self._emit_from(start)

    def finish(self, *, complete: bool = False) -> str:
        """The stream has ended: what was held back is told after all.

        Unless the stream was cut and what is held only begins to repeat; in a `whole` one that is new text which
        happens to read so, e.g. the last brace of code.
        """
        if self.passthrough:
            return ""
        rest = self._pending.strip()
        if rest and not complete and self._anchor.startswith(rest):
            return self._emit_from(len(self._pending))
        return self._emit_from(self._overlap_end(final=True) or 0)

    def _overlap_end(self, *, final: bool = False) -> int | None:
        """How much of what is held was there before; None while that may still change."""
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
        """Where the white space ends that the stream shares, from `start` on, with the end of the text before.

        White space alone is waited on: it may go on, and an answer that is nothing else has not said anything yet.
        """
        after = self._pending[start:]
        if not after.strip() and not final and (not self._anchor or len(after) <= len(self._trailing_space)):
            return None
        shared = 0
        while shared < min(len(self._trailing_space), len(after)) and after[shared] == self._trailing_space[shared]:
            shared += 1
        return start + shared

    def _emit_from(self, start: int) -> str:
        told, self._pending, self.passthrough = self._pending[start:], "", True
        return told
