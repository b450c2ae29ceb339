"""A request's JSON body, read with exact types: what is not of the asked kind reads as empty."""

from __future__ import annotations

from typing import TypeAlias

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
Object: TypeAlias = "dict[str, Json]"


def obj(value: Json) -> Object:
    """The value when it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def items(value: Json) -> list[Json]:
    """The value when it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def text(value: Json) -> str:
    """The value when it is a string, else an empty one."""
    return value if isinstance(value, str) else ""


def number(value: Json, default: int) -> int:
    """The value when it is an integer (and not a boolean), else `default`."""
    return value if isinstance(value, int) and not isinstance(value, bool) else default


def blocks(content: Json) -> list[Object]:
    """A message's content as blocks; a plain string is one text block."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [block for block in items(content) if isinstance(block, dict)]


def said(content: Json, joint: str = "") -> str:
    """The text blocks of a message's content (or of a system prompt), joined."""
    return joint.join(text(block.get("text")) for block in blocks(content) if block.get("type") == "text")


def turns(body: Object) -> list[Object]:
    """The user and assistant messages; system messages in mid-conversation are not turns."""
    return [message for message in map(obj, items(body.get("messages"))) if message.get("role") != "system"]


def kinds(message: Object) -> set[str]:
    """The types of a message's content blocks."""
    return {text(block.get("type")) for block in blocks(message.get("content"))}
