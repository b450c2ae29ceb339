"""The answer of a call while it grows, over as many streams as that takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcp_server_claude.call_types import TextDelta, TextPending, ToolUse
from mcp_server_claude.engine.continuation import OverlapTrimmer
from mcp_server_claude.lone_surrogates import replace_lone_surrogates

if TYPE_CHECKING:
    from mcp_server_claude.call_types import CallEvent, Listener


def as_paragraph(previous_text: str, piece: str) -> str:
    """A piece of text as a paragraph of its own: `I'll compute it.` and `The mean is 5.` come as two blocks, with the
    work of a tool and nothing else between them.
    """
    return f"\n\n{piece}" if previous_text and not previous_text[-1].isspace() and not piece[0].isspace() else piece


class AnswerBuffer:
    """Hears the events of one stream after another, joins their text at the seams, and passes on what is new.

    What its listener has heard is never taken back: the text told so far is always the beginning of the final one. With
    `hold` nothing is told, or saved, before it is `settle`d or `release`d: it may still be withdrawn.
    """

    def __init__(self, listener: Listener, *, buffered: bool = False) -> None:
        self._listener = listener
        self._buffered = buffered
        self._trimmer = OverlapTrimmer()
        self._parts: list[str] = []
        self._chars = 0
        self._saved = 0
        self._saved_chars = 0
        self._pending_surrogate = ""
        self._tool_used = False  # a server tool was at work since the text so far

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self._parts)

    def on_event(self, event: CallEvent) -> None:
        """Take in an event of the current stream. Half a surrogate pair waits for its other half."""
        if type(event) is not TextDelta:
            self._tool_used = self._tool_used or (type(event) is ToolUse and self._trimmer.passthrough)
            self._listener(event)
            return
        piece = self._hold_half_surrogate(event.text)
        if not self._trimmer.passthrough:
            piece = self._trimmer.feed(piece)
        elif self._tool_used:
            piece = self._separate_paragraph(piece)
        self._emit_text(piece)

    def begin_stream(self, *, anchor: str | None = None) -> None:
        """Another stream begins: the continuation of this text, asked to repeat `anchor`, or (None) a fresh start.

        A fresh start is only made while nothing has been told.
        """
        self._pending_surrogate = ""
        self._tool_used = False
        if self._buffered and anchor is None:
            self._clear()
        self._trimmer = OverlapTrimmer() if anchor is None else OverlapTrimmer(self.text, anchor=anchor)

    def continue_stream(self, *, complete: bool = False) -> None:
        """Another stream begins that goes on exactly where the last one ended (`pause_turn`), or, if that was not
        `whole`, where it began.
        """
        self.end_stream(complete=complete)
        self._trimmer.passthrough = True

    def end_stream(self, *, complete: bool) -> None:
        """The last stream has ended, by itself (`whole`) or cut: what the seam held back is decided now."""
        half, self._pending_surrogate = replace_lone_surrogates(self._pending_surrogate) if complete else "", ""
        self._emit_text(
            half if self._trimmer.passthrough else self._trimmer.feed(half) + self._trimmer.finish(complete=complete)
        )

    def append_text(self, text: str) -> None:
        """Add what is ours to the answer's end, e.g. the list of its sources."""
        self._emit_text(text)

    def replace_text(self, text: str) -> None:
        """What was held is this, finally."""
        self._buffered = False
        self._clear()
        self._emit_text(text)

    def flush(self) -> None:
        """What was held is what there is."""
        if self._buffered:
            self.replace_text(self.text)

    def discard(self, *, buffered: bool) -> None:
        """Withdraw what was held: another answer is written instead."""
        self._buffered = buffered
        self._clear()
        self._trimmer = OverlapTrimmer()
        self._pending_surrogate = ""
        self._tool_used = False

    def take_unsaved(self) -> tuple[int, str]:
        """What has come since the last call of this: its offset in characters, and the text."""
        if self._buffered:
            return 0, ""
        offset, text = self._saved_chars, "".join(self._parts[self._saved :])
        self._saved, self._saved_chars = len(self._parts), offset + len(text)
        return offset, text

    def _separate_paragraph(self, piece: str) -> str:
        """The piece, as a paragraph of its own where it is the first after a server tool."""
        if not piece:
            return piece
        self._tool_used = False
        return as_paragraph(next((part for part in reversed(self._parts) if part), ""), piece)

    def _hold_half_surrogate(self, piece: str) -> str:
        """The piece without lone surrogates. Half a pair waits for its other half: deltas may part them, and a text
        that ends with one could be neither saved nor sent back to be continued.
        """
        text = self._pending_surrogate + piece
        self._pending_surrogate = text[-1:] if "\ud800" <= text[-1:] <= "\udbff" else ""
        return replace_lone_surrogates(text[: len(text) - len(self._pending_surrogate)])

    def _clear(self) -> None:
        self._parts.clear()
        self._chars = 0

    def _emit_text(self, text: str) -> None:
        if text:
            self._parts.append(text)
            self._chars += len(text)
            self._listener(TextPending(self._chars) if self._buffered else TextDelta(text))
