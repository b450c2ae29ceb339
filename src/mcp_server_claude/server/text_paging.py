"""A long text, page by page: for clients that cannot read it in one piece."""

from __future__ import annotations

from mcp_server_claude.errors import RequestError
from mcp_server_claude.frozen_dataclass import frozen_dataclass

DEFAULT_PAGE_CHARS = 40_000
"""Characters of a page unless others are asked for: Claude Code takes results of 50,000 from what declares no limit."""


@frozen_dataclass(kw_only=True)
class TextPage:
    """The characters from `start` to `end` of a text that has `of` characters."""

    text: str
    start: int
    end: int
    total: int
    limit: int

    def with_next_link(self, address: str) -> str:
        """The page as it is given out; where it is not the last it ends with where the next one is."""
        return self.text if self.end == self.total else f"{self.text}\n\nNEXT: {self._next_link(address)}"

    def _next_link(self, address: str) -> str:
        more = f"?offset={self.end}" + (f"&limit={self.limit}" if self.limit != DEFAULT_PAGE_CHARS else "")
        return f"{address}{more} (this was {self.start:,} to {self.end:,} of {self.total:,} characters)"


def select_page(text: str, offset: str, limit: str) -> TextPage:
    """The part of a text that an address names; the whole where it names none.

    Raises:
        RequestError: They are no numbers.
    """
    if not offset and not limit:
        return TextPage(text=text, start=0, end=len(text), total=len(text), limit=DEFAULT_PAGE_CHARS)
    size = _parse_char_count(limit, "limit") or DEFAULT_PAGE_CHARS
    start = min(_parse_char_count(offset, "offset"), len(text))
    end = min(start + size, len(text))
    return TextPage(text=text[start:end], start=start, end=end, total=len(text), limit=size)


def _parse_char_count(value: str, name: str) -> int:
    if not value:
        return 0
    if not (value.isascii() and value.isdigit() and len(value) <= 12):
        raise RequestError(f"{name} must be a number of characters.")
    return int(value)
