"""Markdown that is still being written: its finished blocks, and a preview of the unfinished one.

A marker such as `**` has no meaning before its partner arrives. To render each frame as it will look in the end, the
markers that are open are closed for display, and a marker that has only begun is held back.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

FENCE = re.compile(r"^[ \t]*(?:[-*+][ \t]+|\d+[.)][ \t]+)*(`{3,}|~{3,})(.*)$")
PARTIAL_MARKER_LINE = re.compile(r"^[ \t]*(?:[-*+=_#>|`~ \t]+|\d{1,9}[.)]?)[ \t]*$")
"""A line that may still become a heading, a list item, a rule, a table row or a fence."""
INLINE_UNIT = re.compile(r"\n[ \t]*\n|\n(?=[ \t]*(?:[-*+]|\d{1,9}[.)]|#{1,6}|>)[ \t])")
"""The boundary behind which no inline marker of the text before it is open: a paragraph's, an item's or a heading's."""
INLINE_MARKER = re.compile(r"\\.|`+|\*{1,3}|_{1,3}|~~", re.DOTALL)
UNFINISHED_LINK = re.compile(r"!?\[([^\[\]\n]*)(?:\](?:\([^()\n]*)?)?$")
BULLET = re.compile(r"[ \t]*[*+-][ \t]")
CONTROL_CHARACTERS = dict.fromkeys((*range(9), *range(11, 32), *range(127, 160)), "�")
"""Everything but tab and line feed: escape sequences of an answer must not reach the terminal."""


def without_control_characters(text: str) -> str:
    """The text as it may be written to a terminal."""
    return text.replace("\r\n", "\n").translate(CONTROL_CHARACTERS)


class MarkdownStream:
    """A text that grows, split into finished blocks and the rest."""

    def __init__(self) -> None:
        self._rest = ""

    def feed_markdown(self, piece: str) -> str:
        """Take in a piece; return the blocks that it finished, ready to be rendered for good."""
        text = self._rest + piece
        at = finished_length(text)
        self._rest = text[at:]
        return text[:at]

    @property
    def rest(self) -> str:
        """The unfinished block as it was written."""
        return self._rest

    @property
    def preview(self) -> str:
        """The unfinished block as Markdown that can be rendered now."""
        return provisional_markdown(self._rest)


def finished_length(text: str) -> int:
    """The length of the blocks that cannot change any more.

    A block is finished by an empty line outside of a code fence, once the next line is known to begin at the margin
    and to be no list item: else it may belong to a list.
    """
    finished = 0
    fence = ""
    empty_at = -1
    position = 0
    in_list = False
    for line in text.splitlines(keepends=True):
        if not fence and not line.strip():
            empty_at = position if empty_at < 0 and line.endswith("\n") else empty_at
        elif not fence:
            starts_item = BULLET.match(line) or re.match(r"[ \t]*\d{1,9}[.)][ \t]", line)
            whole = line.endswith("\n") or not PARTIAL_MARKER_LINE.match(line)
            if empty_at >= 0 and whole and not line[0].isspace() and not (in_list and starts_item):
                finished, in_list = position, False
            empty_at = -1
            in_list = in_list or bool(starts_item)
        if found := FENCE.match(line.rstrip("\n")):
            fence = _next_fence(fence, found[1], found[2])
        position += len(line)
    return finished


def provisional_markdown(text: str) -> str:
    """An unfinished block with its open markers closed, and what has only begun left out."""
    body, newline, last = text.rpartition("\n")
    if _is_in_fence(text):
        return body + newline if last.strip() and not last.strip(" `~") else text
    if PARTIAL_MARKER_LINE.match(last):
        text = body + newline
    text = _without_unfinished_table(text)
    start = max((found.end() for found in INLINE_UNIT.finditer(text)), default=0)
    return text[:start] + _with_closed_markers(text[start:])


def _is_in_fence(text: str) -> bool:
    fence = ""
    for line in text.split("\n"):
        if found := FENCE.match(line):
            fence = _next_fence(fence, found[1], found[2])
    return bool(fence)


def _next_fence(fence: str, marker: str, info: str) -> str:
    """The open fence after a line with a fence marker; empty for none (CommonMark 0.31, section 4.5)."""
    if not fence:
        return "" if marker[0] == "`" and "`" in info else marker
    closes = marker[0] == fence[0] and len(marker) >= len(fence) and not info.strip()
    return "" if closes else fence


def _without_unfinished_table(text: str) -> str:
    """Leave out rows that are no table yet, since the line below the header has not arrived, and an unfinished row."""
    lines = text.split("\n")
    first = len(lines)
    while first and lines[first - 1].lstrip().startswith("|"):
        first -= 1
    rows = lines[first:]
    if not rows:
        return text
    whole_separator = len(rows) > 2 and re.fullmatch(r"[ \t|:-]+", rows[1])
    return "\n".join(lines[:-1] if whole_separator else lines[:first])


def _with_closed_markers(text: str) -> str:
    """Close the emphasis and code that are open at the end, and show a link that has only begun by its label."""
    open_markers: list[tuple[str, int, int]] = []
    for marker, start, end in _inline_markers(text):
        if open_markers and open_markers[-1][0] == marker:
            open_markers.pop()
        else:
            open_markers.append((marker, start, end))
    if not any(marker[0] == "`" for marker, _, _ in open_markers):
        text = UNFINISHED_LINK.sub(lambda found: found[1], text)
    for marker, start, end in reversed(open_markers):
        has_content = bool(text[end:].strip("*_~` \n"))
        text = text.rstrip() + marker if has_content else text[:start]
    return text


def _inline_markers(text: str) -> Iterator[tuple[str, int, int]]:
    """The markers that open or close something: not escaped, not within code, not a bullet, not within a word."""
    code = ""
    for found in INLINE_MARKER.finditer(text):
        marker, start, end = found[0], found.start(), found.end()
        if marker[0] == "`":
            if not code or code == marker:
                code = "" if code else marker
                yield marker, start, end
            continue
        before, after = text[start - 1 : start], text[end : end + 1]
        is_bullet = marker in {"*", "+"} and after == " " and not text[:start].rpartition("\n")[2].strip()
        is_within_word = marker[0] == "_" and before.isalnum() and after.isalnum()
        is_loose = (not before or before.isspace()) and after.isspace()
        if not (code or marker[0] == "\\" or is_bullet or is_within_word or is_loose):
            yield marker, start, end


__all__ = ["MarkdownStream", "finished_length", "provisional_markdown", "without_control_characters"]
