"""The part of a batch call that is kept until its result comes, and when the prompt cache is filled before it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any, cast

from mcp_server_claude.frozen_dataclass import frozen_dataclass

MIN_WARM_UP_CHARS = 16_384
"""Characters that all requests of a job begin with, from which a batch of one request writes them to the cache first:
about the 4,096 tokens that every model caches."""


@frozen_dataclass(kw_only=True)
class SentBatchCall:
    """The part of a batch call that is kept until its result comes, as JSON values.

    `entry_id` is its ledger entry, for which `held_micros` micro-dollars are reserved of the budgets. `max_tokens` is
    what its request allows, less than asked for where `is_cut_by_budget`.
    """

    call_id: str
    entry_id: str
    max_tokens: int
    held_micros: int = 0
    is_cut_by_budget: bool = False

    def as_progress(self) -> str:
        """The fields as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_progress(cls, text: str) -> SentBatchCall | None:
        """The fields that `as_progress` wrote; None where the text is damaged."""
        try:
            values: dict[str, object] = json.loads(text)
            sent = cls(**cast("dict[str, Any]", values))
        except (ValueError, TypeError):
            return None
        has_types = isinstance(sent.call_id, str) and isinstance(sent.entry_id, str)  # pyright: ignore[reportUnnecessaryIsInstance] - parsed
        return sent if has_types and type(sent.max_tokens) is type(sent.held_micros) is int else None
