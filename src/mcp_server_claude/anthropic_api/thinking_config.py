"""The `thinking` of a request.

The rules: https://platform.claude.com/docs/en/build-with-claude/thinking, as documented by November 2026.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from mcp_server_claude.anthropic_api.models import ClaudeModel

ThinkingDisplay: TypeAlias = Literal["", "summarized", "omitted"]
"""The display of thinking; empty for the model's default. It is billed in full either way."""

OFF_UNLESS_ADAPTIVE = re.compile(r"opus-4-[678](?!\d)|sonnet-4-6(?!\d)")
"""Models that can think adaptively, and do not unless the request says so."""


def thinking_config(
    model: ClaudeModel, *, effort: str, display: ThinkingDisplay, drops_blocks: bool = False
) -> dict[str, object] | None:
    """The `thinking` to send; None where the model's default is what is wanted.

    With `drops_blocks` the API drops earlier thinking whose beginning has changed, instead of refusing the request.

    Models that think by default accept an explicit `adaptive` without any other change. Models for which thinking is
    off think where an `effort` is given. Models up to 4.5 think within a token budget, which this package does not ask
    for.
    """
    if "adaptive" not in model.thinking_types:
        return None
    is_off = OFF_UNLESS_ADAPTIVE.search(model.anthropic_id or model.id) is not None
    if is_off and not effort:
        return None
    more: dict[str, object] = {"display": display} if display else {}
    if drops_blocks:
        more["block_binding"] = {"prefix_mismatch_behavior": "drop_block"}
    return {"type": "adaptive", **more} if more or is_off else None
