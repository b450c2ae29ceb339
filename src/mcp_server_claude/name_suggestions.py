"""Names that resemble one that does not exist, for messages about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def similar_names(name: str, known: Iterable[str], *, limit: int, cutoff: float = 0.6) -> list[str]:
    """The known names that resemble `name` most, the nearest first; `cutoff` is the least similarity, from 0 to 1."""
    import difflib  # only a mistake needs it

    return difflib.get_close_matches(name, list(known), n=limit, cutoff=cutoff)
