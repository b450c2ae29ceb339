"""The uses of server tools in a conversation, their results, and the uses without a result so far."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcp_server_claude.simulator.json_body import as_text, block_types, content_blocks

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mcp_server_claude.simulator.json_body import Object

SERVER_TOOL_USE = "server_tool_use"
CODE_TOOL_NAMES = frozenset({"code_execution", "bash_code_execution", "text_editor_code_execution"})
"""The names under which code is run: the tool that is offered, and the two that Claude gets with it."""


def server_tool_uses(messages: Iterable[Object]) -> list[Object]:
    """The uses of server tools, in order."""
    return [
        block
        for message in messages
        for block in content_blocks(message.get("content"))
        if block.get("type") == SERVER_TOOL_USE
    ]


def is_server_tool_result(block: Object) -> bool:
    """True for a block that holds the result of a server tool."""
    kind = as_text(block.get("type"))
    return kind.endswith("_tool_result") and kind != "tool_result"


def pending_tool_uses(messages: Sequence[Object]) -> list[Object]:
    """The uses without a result so far."""
    done = {
        as_text(block.get("tool_use_id"))
        for message in messages
        for block in content_blocks(message.get("content"))
        if is_server_tool_result(block)
    }
    return [use for use in server_tool_uses(messages) if as_text(use.get("id")) not in done]


def response_count(messages: Iterable[Object]) -> int:
    """The number of responses of one turn that used server tools: each uses one of a name."""
    names = [as_text(use.get("name")) for use in server_tool_uses(messages)]
    return max((names.count(name) for name in names), default=0)


def unanswered_tool_use(messages: Sequence[Object]) -> tuple[int, Object] | None:
    """A use that can get no result any more, since its turn is over, with its message's place."""
    for place, message in enumerate(messages):
        if message.get("role") != "assistant":
            continue
        rest = messages[place + 1 :]
        goes_on = all(each.get("role") == "assistant" or block_types(each) == {"tool_result"} for each in rest)
        if not goes_on and (open_ones := pending_tool_uses([message, *rest])):
            mine = [use for use in server_tool_uses([message]) if use in open_ones]
            if mine:
                return place, mine[0]
    return None
