"""Changes of the tools in mid-conversation: `tool_addition` and `tool_removal` blocks in `role: "system"` messages.

Both are betas. Source: platform.claude.com/docs/en/build-with-claude/mid-conversation-system-messages (read in a copy
of 2026-09-26). `inline-tools-2026-09-15` takes references and definitions, `mid-conversation-tool-changes-2026-07-01`
references alone. A tool with `defer_loading` is not offered, and no part of the prefix, before a message refers to it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from mcp_server_claude.simulator.api_errors import ApiError, RequestRejectedError, rejection
from mcp_server_claude.simulator.json_body import as_list, as_object, as_text, content_blocks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mcp_server_claude.simulator.catalog_model import CatalogModel
    from mcp_server_claude.simulator.json_body import Json, Object

INLINE_TOOLS_BETA = "inline-tools-2026-09-15"
TOOL_CHANGES_BETA = "mid-conversation-tool-changes-2026-07-01"
CHANGE_TYPES = frozenset({"tool_addition", "tool_removal"})
MAX_ADDED_BYTES = 4_194_304


def offered_tools(body: Object) -> list[Object]:
    """The tools that the model is offered at the end of the conversation."""
    known = {as_text(tool.get("name")): tool for tool in map(as_object, as_list(body.get("tools")))}
    offered = {name: tool for name, tool in known.items() if tool.get("defer_loading") is not True}
    for _, block in _changes(as_list(body.get("messages"))):
        target = as_object(block.get("tool"))
        definition = as_object(target.get("definition"))
        name = as_text(definition.get("name") or target.get("name"))
        if definition:
            known[name] = definition
        if block.get("type") == "tool_removal":
            offered.pop(name, None)
        elif name in known:
            offered[name] = known[name]
    return list(offered.values())


def prefix_tools(body: Object, messages: Iterable[Json]) -> list[Object]:
    """The tools at the beginning of the prompt; deferred ones only where `messages` refer to them."""
    referenced = {as_text(as_object(block.get("tool")).get("name")) for _, block in _changes(messages)}
    tools = map(as_object, as_list(body.get("tools")))
    return [tool for tool in tools if tool.get("defer_loading") is not True or tool.get("name") in referenced]


def check_tool_changes(body: Object, model: CatalogModel, betas: str) -> None:
    """Pass a request whose changes of tools the model takes.

    Raises:
        RequestRejectedError: The beta header is missing, a change stands in a wrong place, or names no tool.
    """
    known = {as_text(tool.get("name")): _family(tool) for tool in map(as_object, as_list(body.get("tools")))}
    added_bytes = 0
    for path, block in _changes(as_list(body.get("messages")), any_role=True):
        if INLINE_TOOLS_BETA not in betas and TOOL_CHANGES_BETA not in betas:
            raise rejection(
                f"{path}: Input tag '{as_text(block.get('type'))}' found using 'type' does not match any of "
                "the expected tags"
            )
        if not model.system_messages:
            raise rejection(f"{path}: '{model.id}' does not support mid-conversation tool changes.")
        target = as_object(block.get("tool"))
        if target.get("type") == "tool_definition" and block.get("type") == "tool_addition":
            if INLINE_TOOLS_BETA not in betas:
                raise rejection(f"{path}.tool: `tool_definition` requires the `{INLINE_TOOLS_BETA}` beta header.")
            definition = as_object(target.get("definition"))
            added_bytes += len(json.dumps(definition))
            _add_definition(path, definition, known, model)
        elif as_text(target.get("name")) not in known:
            raise _coded_rejection(
                f"{path}.tool: '{as_text(target.get('name'))}' is not declared in `tools`.", "tool_reference_unresolved"
            )
    if added_bytes > MAX_ADDED_BYTES:
        raise _coded_rejection("Tools that are defined in messages exceed 4 MB.", "available_tools_limit_exceeded")


def is_tool_change(block: Object) -> bool:
    """True for a block that changes the tools."""
    return block.get("type") in CHANGE_TYPES


def _add_definition(path: str, definition: Object, known: dict[str, str], model: CatalogModel) -> None:
    name, kind = as_text(definition.get("name")), as_text(definition.get("type"))
    if not name:
        raise rejection(f"{path}.tool.definition.name: Field required")
    if not model.takes_server_tool(kind):
        raise rejection(f"'{model.id}' does not support tool types: {kind}.")
    if known.setdefault(name, _family(definition)) != _family(definition):
        raise _coded_rejection(f"{path}.tool: '{name}' is the name of another type of tool.", "tool_name_conflict")


def _family(tool: Object) -> str:
    """The type of a tool without its date: a newer version is no other type."""
    return as_text(tool.get("type")).rstrip("0123456789")


def _changes(messages: Iterable[Json], *, any_role: bool = False) -> Iterator[tuple[str, Object]]:
    """The changes in order, with their places; with `any_role` also those that stand in a message of a wrong role."""
    for index, message in enumerate(map(as_object, messages)):
        for position, block in enumerate(content_blocks(message.get("content"))):
            if is_tool_change(block):
                path = f"messages.{index}.content.{position}"
                if message.get("role") == "system":
                    yield path, block
                elif any_role:
                    raise rejection(f"{path}: {as_text(block.get('type'))} is only permitted in 'system' messages")


def _coded_rejection(message: str, code: str) -> RequestRejectedError:
    return RequestRejectedError(ApiError(status=400, message=message, details={"error_code": code}))
