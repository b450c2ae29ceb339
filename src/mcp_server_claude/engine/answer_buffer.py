"""The answer of a call while it grows, over as many streams as that takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcp_server_claude.call_types import Drafting, Searching, Text
from mcp_server_claude.engine.continuation import Seam
from mcp_server_claude.lone_surrogates import replace_lone_surrogates

if TYPE_CHECKING:
    from mcp_server_claude.call_types import Event, Listen


def apart(before: str, piece: str) -> str:
    """A piece of text as a paragraph of its own: `I'll compute it.` and `The mean is 5.` come as two blocks, with the
    work of a tool and nothing else between them.
    """
    return f"\n\n{piece}" if before and not before[-1].isspace() and not piece[0].isspace() else piece


class Draft:
    """Hears the events of one stream after another, joins their text at the seams, and passes on what is new.

    What its listener has heard is never taken back: the text told so far is always the beginning of the final one. With
    `hold` nothing is told, or saved, before it is `settle`d or `release`d: it may still be withdrawn.
    """

    def __init__(self, listen: Listen, *, hold: bool = False) -> None:
        self._listen = listen
        self._hold = hold
        self._seam = Seam()
        self._parts: list[str] = []
        self._chars = 0
        self._saved = 0
        self._saved_chars = 0
        self._half = ""
        self._apart = False  # a server tool was at work since the text so far

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self._parts)

    def hear(self, event: Event) -> None:
        """Take in an event of the current stream. Half a surrogate pair waits for its other half."""
        if type(event) is not Text:
            self._apart = self._apart or (type(event) is Searching and self._seam.open)
            self._listen(event)
            return
        piece = self._paired(event.text)
        if not self._seam.open:
            piece = self._seam.feed(piece)
        elif self._apart:
            piece = self._set_apart(piece)
        self._tell(piece)

    def next_stream(self, *, anchor: str | None = None) -> None:
        """Another stream begins: the continuation of this text, asked to repeat `anchor`, or (None) a fresh start.

        A fresh start is only made while nothing has been told.
        """
        self._half = ""
        self._apart = False
        if self._hold and anchor is None:
            self._withdraw()
        self._seam = Seam() if anchor is None else Seam(self.text, anchor=anchor)

    def go_on(self, *, whole: bool = False) -> None:
        """Another stream begins that goes on exactly where the last one ended (`pause_turn`), or, if that was not
        `whole`, where it began.
        """
        self.end_stream(whole=whole)
        self._seam.open = True

    def end_stream(self, *, whole: bool) -> None:
        """The last stream has ended, by itself (`whole`) or cut: what the seam held back is decided now."""
        half, self._half = replace_lone_surrogates(self._half) if whole else "", ""
        self._tell(half if self._seam.open else self._seam.feed(half) + self._seam.end(whole=whole))

    def add(self, text: str) -> None:
        """Add what is ours to the answer's end, e.g. the list of its sources."""
        self._tell(text)

    def settle(self, text: str) -> None:
        """What was held is this, finally."""
        self._hold = False
        self._withdraw()
        self._tell(text)

    def release(self) -> None:
        """What was held is what there is."""
        if self._hold:
            self.settle(self.text)

    def restart(self, *, hold: bool) -> None:
        """Withdraw what was held: another answer is written instead."""
        self._hold = hold
        self._withdraw()
        self._seam = Seam()
        self._half = ""
        self._apart = False

    def unsaved(self) -> tuple[int, str]:
        """What has come since the last call of this: its offset in characters, and the text."""
        if self._hold:
            return 0, ""
        offset, text = self._saved_chars, "".join(self._parts[self._saved :])
        self._saved, self._saved_chars = len(self._parts), offset + len(text)
        return offset, text

    def _set_apart(self, piece: str) -> str:
        """The piece, as a paragraph of its own where it is the first after a server tool."""
        if not piece:
            return piece
        self._apart = False
        return apart(next((part for part in reversed(self._parts) if part), ""), piece)

    def _paired(self, piece: str) -> str:
        """The piece without lone surrogates. Half a pair waits for its other half: deltas may part them, and a text
        that ends with one could be neither saved nor sent back to be continued.
        """
        text = self._half + piece
        self._half = text[-1:] if "\ud800" <= text[-1:] <= "\udbff" else ""
        return replace_lone_surrogates(text[: len(text) - len(self._half)])

    def _withdraw(self) -> None:
        self._parts.clear()
        self._chars = 0

    def _tell(self, text: str) -> None:
        if text:
            self._parts.append(text)
            self._chars += len(text)
            self._listen(Drafting(self._chars) if self._hold else Text(text))
