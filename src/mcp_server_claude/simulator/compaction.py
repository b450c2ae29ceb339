"""Compaction at a threshold of tokens: the API summarizes the conversation within a request (beta).

A `compaction` block holds the summary; on later requests all that comes before the last one counts for nothing. Source:
platform.claude.com/docs/en/build-with-claude/compaction-threshold (read in a copy of October 2026) and
`BetaCompactionBlock` (SDK 2.14.0, November 2026). Compaction on demand is not modelled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcp_server_claude.simulator.api_errors import rejection
from mcp_server_claude.simulator.json_body import as_integer, as_list, as_object, content_blocks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcp_server_claude.simulator.catalog_model import CatalogModel
    from mcp_server_claude.simulator.json_body import Json, Object

COMPACTION_BETA = "compact-2026-01-12"
COMPACTION_EDIT = "compact_20260112"
DEFAULT_TRIGGER_TOKENS = 150_000
MIN_TRIGGER_TOKENS = 50_000
SUMMARY_TOKENS = 120
"""Tokens of a summary whose length no prompt chooses."""


def compaction_edit(body: Object) -> Object | None:
    """The edit by which a request asks for compaction; None where it does not."""
    edits = as_list(as_object(body.get("context_management")).get("edits"))
    return next((edit for edit in map(as_object, edits) if edit.get("type") == COMPACTION_EDIT), None)


def check_compaction(body: Object, model: CatalogModel, betas: str) -> None:
    """Pass a request whose `context_management` the model takes.

    Raises:
        RequestRejectedError: The beta header is missing, the model does not compact, or the trigger is too low.
    """
    edit = compaction_edit(body)
    if edit is None:
        return
    if COMPACTION_BETA not in betas:
        raise rejection("context_management: Extra inputs are not permitted")
    if model.prefill:
        raise rejection(f"context_management: '{model.id}' does not support `{COMPACTION_EDIT}`.")
    if _trigger_tokens(edit) < MIN_TRIGGER_TOKENS:
        raise rejection(f"context_management.edits.0.trigger: must be at least {MIN_TRIGGER_TOKENS} input tokens")


def summary_tokens(body: Object, prompt_tokens: int, directed: int | None) -> int:
    """The tokens of the summary that this request makes, 0 for none; `directed` is what a prompt asks for."""
    if directed is not None:
        return directed
    edit = compaction_edit(body)
    return SUMMARY_TOKENS if edit is not None and prompt_tokens >= _trigger_tokens(edit) else 0


def last_summary(messages: Sequence[Json]) -> tuple[int, int] | None:
    """The message and the block of the last summary; None where there is none. A failed one (null) does nothing."""
    for index in range(len(messages) - 1, -1, -1):
        blocks = content_blocks(as_object(messages[index]).get("content"))
        for place in range(len(blocks) - 1, -1, -1):
            if blocks[place].get("type") == "compaction" and blocks[place].get("content") is not None:
                return index, place
    return None


def without_compacted(messages: Sequence[Json]) -> list[Json]:
    """The messages from the last summary on."""
    found = last_summary(messages)
    if found is None:
        return [*messages]
    index, place = found
    message = as_object(messages[index])
    rest: list[Json] = [*content_blocks(message.get("content"))[place:]]
    return [{**message, "content": rest}, *messages[index + 1 :]]


def _trigger_tokens(edit: Object) -> int:
    return as_integer(as_object(edit.get("trigger")).get("value"), DEFAULT_TRIGGER_TOKENS)
