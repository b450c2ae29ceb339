"""A long text, page by page: for whoever cannot take it in one piece."""

from __future__ import annotations

from dataclasses import dataclass

from mcp_server_claude.errors import Refused

PAGE = 40_000
"""Characters of a page unless others are asked for: Claude Code takes results of 50,000 from what declares no limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The characters from `start` to `end` of a text that has `of`."""

    text: str
    start: int
    end: int
    of: int
    limit: int

    def of_text(self, address: str) -> str:
        """The page as it is given out; where it is not the last it ends with where the next one is."""
        return self.text if self.end == self.of else f"{self.text}\n\nNEXT: {self._next(address)}"

    def _next(self, address: str) -> str:
        more = f"?offset={self.end}" + (f"&limit={self.limit}" if self.limit != PAGE else "")
        return f"{address}{more} (this was {self.start:,} to {self.end:,} of {self.of:,} characters)"


def page(text: str, offset: str, limit: str) -> Page:
    """The part of a text that an address names; the whole where it names none.

    Raises:
        Refused: They are no numbers.
    """
    if not offset and not limit:
        return Page(text=text, start=0, end=len(text), of=len(text), limit=PAGE)
    size = _number(limit, "limit") or PAGE
    start = min(_number(offset, "offset"), len(text))
    end = min(start + size, len(text))
    return Page(text=text[start:end], start=start, end=end, of=len(text), limit=size)


def _number(value: str, name: str) -> int:
    if not value:
        return 0
    if not (value.isascii() and value.isdigit() and len(value) <= 12):
        raise Refused(f"{name} must be a number of characters.")
    return int(value)
