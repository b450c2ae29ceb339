"""A request's JSON body, read with exact types: what is not of the asked kind reads as empty."""

from __future__ import annotations

from typing import TypeAlias

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
Object: TypeAlias = "dict[str, Json]"


def as_object(value: Json) -> Object:
    """The value when it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def as_list(value: Json) -> list[Json]:
    """The value when it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def as_text(value: Json) -> str:
    """The value when it is a string, else an empty one."""
    return value if isinstance(value, str) else ""


def as_integer(value: Json, default: int) -> int:
    """The value when it is an integer (and not a boolean), else `default`."""
    return value if isinstance(value, int) and not isinstance(value, bool) else default


def content_blocks(content: Json) -> list[Object]:
    """A message's content as blocks; a plain string is one text block."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [block for block in as_list(content) if isinstance(block, dict)]


def content_text(content: Json, separator: str = "") -> str:
    """The text blocks of a message's content (or of a system prompt), joined."""
    return separator.join(
        as_text(block.get("text")) for block in content_blocks(content) if block.get("type") == "text"
    )


def conversation_turns(body: Object) -> list[Object]:
    """The user and assistant messages; system messages in mid-conversation are not turns."""
    return [message for message in map(as_object, as_list(body.get("messages"))) if message.get("role") != "system"]


def block_types(message: Object) -> set[str]:
    """The types of a message's content blocks."""
    return {as_text(block.get("type")) for block in content_blocks(message.get("content"))}
