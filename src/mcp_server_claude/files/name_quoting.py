"""How names from outside are shown in a sentence: short, printable, and with what a reader needs to go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcp_server_claude.lone_surrogates import replace_lone_surrogates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcp_server_claude.files.roots import FilePolicy

MAX_QUOTED_CHARS = 100
ROOTS_SETTING = "MCP_CLAUDE_ROOTS"
ALLOW_FILES_SETTING = "MCP_CLAUDE_ALLOW_FILES"
SUPPORTED_TYPES = "Text, PDF, PNG, JPEG, GIF and WebP can be sent."


def quote_name(value: str, limit: int = MAX_QUOTED_CHARS) -> str:
    """A name in quotes, at most `limit` characters of it, the middle left out; nothing in it that is not printable."""
    if len(value) > limit:
        value = f"{value[: limit // 2]}…{value[-(limit // 2 - 1) :]}"
    printable = "".join(
        each if each.isprintable() and each != '"' else "\ufffd" for each in replace_lone_surrogates(value)
    )
    return f'"{printable}"'


def quote_names(values: Sequence[str], limit: int = 5) -> str:
    """Some names in quotes, and how many more there are."""
    more = len(values) - limit
    return ", ".join(quote_name(value) for value in values[:limit]) + (f" and {more:,} more" if more > 0 else "")


def roots_sentence(policy: FilePolicy) -> str:
    """A sentence that names the roots."""
    if not policy.roots:
        return f"This server may read no files: its operator has named no directory in {ROOTS_SETTING}."
    return f"Readable: {quote_names([str(root) for root in policy.roots])}."


def format_bytes(count: int) -> str:
    """Bytes for a person."""
    for unit, step in (("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1_000)):
        if count >= step:
            return f"{count / step:.1f} {unit}"
    return f"{count} bytes"
