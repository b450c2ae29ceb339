"""The text of an answer while it grows, over as many streams as it takes.

The text is held once, in a `TextLog`: the readers of a running call, its journal and its thread read from that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcp_server_claude.call_types import TextDelta, TextPending, ToolUse
from mcp_server_claude.engine.continuation import OverlapTrimmer
from mcp_server_claude.lone_surrogates import replace_lone_surrogates, split_high_surrogate
from mcp_server_claude.text_log import TextLog

if TYPE_CHECKING:
    from mcp_server_claude.call_types import CallEvent, Listener


def as_paragraph(previous_text: str, piece: str) -> str:
    """The piece, separated from the text before it by an empty line unless there is white space.

    `I'll compute it.` and `The mean is 5.` come as two blocks, with the work of a tool and nothing else between them.
    """
    separate = bool(previous_text) and not previous_text[-1].isspace() and not piece[0].isspace()
    return f"\n\n{piece}" if separate else piece


class AnswerBuffer:
    """Receives the events of one stream after another, joins their text, and publishes what is new.

    Published text is never withdrawn: it is always the beginning of the final text, and it is in `published` before the
    listener gets its event. It holds no lone surrogates. While `buffered`, no text is published or saved before
    `replace_text` or `publish_buffered_text`, so that it may still be withdrawn.
    """

    def __init__(self, listener: Listener, published: TextLog, *, buffered: bool = False) -> None:
        self._listener = listener
        self._published = published
        self._buffered = buffered
        self._text = TextLog() if buffered else published
        self._trimmer = OverlapTrimmer()
        self._saved_chars = 0
        self._pending_surrogate = ""
        self._tool_used = False  # since the text so far

    @property
    def log(self) -> TextLog:
        """The log to which the text of the current stream is appended."""
        return self._text

    @property
    def text(self) -> str:
        """The text so far."""
        return self._text.whole()

    @property
    def has_text(self) -> bool:
        """True if there is more than white space."""
        return self._text.has_text

    @property
    def chars(self) -> int:
        """The length of the text so far."""
        return self._text.chars

    def on_event(self, event: CallEvent) -> None:
        """Receive an event of the current stream. Half a surrogate pair waits for its other half."""
        if type(event) is not TextDelta:
            self._tool_used = self._tool_used or (type(event) is ToolUse and self._trimmer.passthrough)
            self._listener(event)
            return
        piece = event.text
        if self._publishes_as_it_comes and piece.isascii() and not self._pending_surrogate:  # as nearly always
            if piece:
                self._text.append(piece)
                self._listener(event)
            return
        piece = self._hold_half_surrogate(piece)
        if not self._trimmer.passthrough:
            piece = self._trimmer.feed(piece)
        elif self._tool_used:
            piece = self._separate_paragraph(piece)
        self._emit_text(piece)

    @property
    def _publishes_as_it_comes(self) -> bool:
        """True if text is neither trimmed nor separated nor held back."""
        return self._trimmer.passthrough and not self._tool_used and not self._buffered

    def begin_stream(self, *, anchor: str | None = None) -> None:
        """Start a stream that continues the text and was asked to repeat `anchor`, or (None) a fresh answer.

        A fresh answer starts only while no text was published.
        """
        self._pending_surrogate = ""
        self._tool_used = False
        if self._buffered and anchor is None:
            self._text = TextLog()
        self._trimmer = OverlapTrimmer() if anchor is None else OverlapTrimmer(self.text, anchor=anchor)

    def continue_stream(self, *, complete: bool = False) -> None:
        """Start a stream that continues exactly where the last one ended (`complete`), or else where that one began."""
        self.end_stream(complete=complete)
        self._trimmer.passthrough = True

    def end_stream(self, *, complete: bool) -> None:
        """End the last stream, and decide on the text that the trimmer held back. `complete`: it was not cut."""
        half, self._pending_surrogate = replace_lone_surrogates(self._pending_surrogate) if complete else "", ""
        if self._trimmer.passthrough:
            self._emit_text(half)
        else:
            self._emit_text(self._trimmer.feed(half) + self._trimmer.finish(complete=complete))

    def append_text(self, text: str) -> None:
        """Append text of ours, e.g. the list of sources."""
        self._emit_text(replace_lone_surrogates(text))

    def replace_text(self, text: str) -> None:
        """Publish this text in place of the buffered one."""
        self._buffered = False
        self._text = self._published
        self._emit_text(replace_lone_surrogates(text))

    def publish_buffered_text(self) -> None:
        """Publish the buffered text."""
        if self._buffered:
            self.replace_text(self.text)

    def discard(self, *, buffered: bool) -> None:
        """Withdraw the buffered text and start another answer."""
        self._buffered = buffered
        self._text = TextLog() if buffered else self._published
        self._trimmer = OverlapTrimmer()
        self._pending_surrogate = ""
        self._tool_used = False

    def take_unsaved(self) -> tuple[int, str]:
        """The text since the last call of this method, and its offset in characters. It counts as saved afterwards."""
        if self._buffered:
            return 0, ""
        offset, text = self._saved_chars, self._text.since(self._saved_chars)
        self._saved_chars = offset + len(text)
        return offset, text

    def _separate_paragraph(self, piece: str) -> str:
        """The piece, as a paragraph of its own if it is the first after a server tool."""
        if not piece:
            return piece
        self._tool_used = False
        return as_paragraph(self._text.slice(self._text.chars - 1) if self._text.chars else "", piece)

    def _hold_half_surrogate(self, piece: str) -> str:
        """The piece without lone surrogates; half a pair at its end waits for the next piece.

        Deltas may split a pair, and a text that ends with half of one could be neither saved nor sent back. The stream
        joins the halves within a block; a half at the end of its block is dropped here if the answer was cut there, so
        that the continuation repeats the character.
        """
        text, self._pending_surrogate = split_high_surrogate(self._pending_surrogate + piece)
        return replace_lone_surrogates(text)

    def _emit_text(self, text: str) -> None:
        if text:
            self._text.append(text)
            self._listener(TextPending(self._text.chars) if self._buffered else TextDelta(text))
