"""Quotes names from outside for a message: short and printable."""

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
    """A name in quotes, shortened in the middle to `limit` characters, with unprintable characters replaced."""
    if len(value) > limit:
        value = f"{value[: limit // 2]}…{value[-(limit // 2 - 1) :]}"
    printable = "".join(
        each if each.isprintable() and each != '"' else "\ufffd" for each in replace_lone_surrogates(value)
    )
    return f'"{printable}"'


def quote_names(values: Sequence[str], limit: int = 5) -> str:
    """The first `limit` names in quotes, and the number of the others."""
    more = len(values) - limit
    return ", ".join(quote_name(value) for value in values[:limit]) + (f" and {more:,} more" if more > 0 else "")


def roots_sentence(policy: FilePolicy) -> str:
    """A sentence that names the roots, or says that there are none."""
    if not policy.roots:
        return f"This server cannot read files: its operator has configured no directory in {ROOTS_SETTING}."
    return f"Readable: {quote_names([str(root) for root in policy.roots])}."


def format_bytes(count: int) -> str:
    """A number of bytes for a person: 512 bytes, 3.1 kB, 30.0 MB."""
    for unit, step in (("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1_000)):
        if count >= step:
            return f"{count / step:.1f} {unit}"
    return f"{count} bytes"
