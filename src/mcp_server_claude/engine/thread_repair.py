"""The repair of a request that the API refuses for what its thread holds. Pure: each refusal has at most one answer.

    refusal                                                 next request
    a file of an earlier turn cannot be fetched any more    a sentence stands in its place, from now on
    thinking is bound to a different conversation           with `drop_block`, where the API takes it, from now on
    thinking is refused for another reason, or again        without the thinking of earlier answers
    tools that a message defines are not taken              all tools stand at the beginning, from now on

Rules: https://platform.claude.com/docs/en/build-with-claude/preserved-thinking/fix-bound-to-a-different-conversation
(looked up 2026-11-29): the same body is never sent again, and `drop_block` goes with every later request of the
conversation.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from mcp_server_claude.frozen_dataclass import frozen_dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from mcp_server_claude.call_types import Block, Message
    from mcp_server_claude.errors import CallError

BLOCK_PATH = re.compile(r"messages\.(\d+)\.content\.(\d+)")
"""The place of a block, as the API's messages name it."""
ADDITION_WORDS = ("tool_addition", "tool_definition", "inline-tools", "mid-conversation tool")
DIFFERENT_CONVERSATION = "bound to a different conversation"


@frozen_dataclass(kw_only=True)
class ThreadRepair:
    """The changes to a thread's part of a request that its refusals have made necessary.

    Args:
        with_thinking: The thinking of earlier answers is sent back.
        drops_blocks: The API drops thinking whose beginning has changed, instead of refusing the request.
        merges_tools: All tools of the thread stand at the beginning, also those that a later turn brought.
        additions_refused: That is because the API has refused tools that a message defines.
        missing_files: URLs and file ids of earlier turns that the API could not fetch any more.
    """

    with_thinking: bool = True
    drops_blocks: bool = False
    merges_tools: bool = True
    additions_refused: bool = False
    missing_files: frozenset[str] = frozenset()

    @property
    def note(self) -> str:
        """The reason for the next request, for a person who waits."""
        if not self.with_thinking:
            return "the thinking of earlier answers is refused, asking without it"
        if self.drops_blocks:
            return "the thinking of earlier answers is refused, asking again so that the API drops it"
        if self.additions_refused:
            return "the API takes no tools within a conversation, asking with all of them at its beginning"
        return "a file of an earlier turn no longer exists, asking without it"


def next_repair(
    repair: ThreadRepair, failure: CallError | None, history: Sequence[Message], *, can_drop_blocks: bool
) -> ThreadRepair | None:
    """The repair for the next request; None where this failure has none.

    `history` is what the refused request sent of its thread. With `can_drop_blocks` the API is known to take
    `drop_block` for this model.
    """
    if failure is None:
        return None
    if not repair.merges_tools and _is_refused_addition(failure):
        return replace(repair, merges_tools=True, additions_refused=True)
    if failure.kind in {"url_unavailable", "not_found"}:
        missing = _missing_files(str(failure), history) - repair.missing_files
        return replace(repair, missing_files=repair.missing_files | missing) if missing else None
    if not is_refused_thinking(failure) or not repair.with_thinking:
        return None
    if can_drop_blocks and not repair.drops_blocks and DIFFERENT_CONVERSATION in str(failure):
        return replace(repair, drops_blocks=True)
    return replace(repair, with_thinking=False, drops_blocks=False)


def is_refused_thinking(failure: CallError | None) -> bool:
    """True if the API refused thinking of earlier answers, e.g. that of another conversation or account."""
    return failure is not None and (failure.kind == "thinking_signature" or "`signature` in `thinking`" in str(failure))


def _is_refused_addition(failure: CallError) -> bool:
    """True if the API, or a gateway, does not know tools that a message defines, or not these."""
    return failure.kind == "invalid_request" and any(word in str(failure) for word in ADDITION_WORDS)


def without_missing_files(content: Iterable[Block], missing: frozenset[str]) -> list[Block]:
    """The blocks of a message, with a sentence in place of each file that is missing."""
    return [
        {"type": "text", "text": f"(The file {name} no longer exists.)"}
        if (name := remote_file(block)) and name in missing
        else block
        for block in content
    ]


def remote_file(block: Block) -> str:
    """The URL or the file id of a block whose content the API fetches itself; empty for any other."""
    source = cast("Mapping[str, object]", block.get("source") or block)
    return str(source.get("url") or source.get("file_id") or "") if block.get("type") in FILE_BLOCK_TYPES else ""


FILE_BLOCK_TYPES = frozenset({"image", "document", "container_upload"})


def _missing_files(message: str, history: Sequence[Message]) -> frozenset[str]:
    """The files of earlier turns that an error is about: those that it names, else the one at the place that it names.

    An error that names neither is about any of the URLs.
    """
    known = set(_remote_files(history))
    if named := {name for name in known if name in message}:
        return frozenset(named)
    place = BLOCK_PATH.search(message)
    if place is not None:
        message_index, block_index = int(place[1]), int(place[2])
        if message_index >= len(history):
            return frozenset()  # it is about this turn's own file
        content = history[message_index].get("content")
        blocks = cast("list[Block]", content) if isinstance(content, list) else []
        return frozenset({remote_file(block) for block in blocks[block_index : block_index + 1]} - {""})
    return frozenset(name for name in known if name.startswith("https://")) if "url" in message.lower() else frozenset()


def _remote_files(history: Sequence[Message]) -> Iterator[str]:
    for message in history:
        content = message.get("content")
        for block in cast("list[Block]", content) if isinstance(content, list) else []:
            if name := remote_file(block):
                yield name
