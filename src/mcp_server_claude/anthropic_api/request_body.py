"""The body of a request to the Messages API (version 2026-10-21), made from a call.

`temperature`, `top_p` and `top_k` are never sent: that version answers them with HTTP 400.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias, cast

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcp_server_claude.call_types import Ability, Call, Message

Body: TypeAlias = "dict[str, object]"


Cache: TypeAlias = Literal["5m", "1h", "off"]
"""How long the API keeps the beginning of a request, so that the next one reads it at a fraction of the price."""


LOOKBACK = 20
"""Blocks before a breakpoint within which the API finds what an earlier request has cached (docs, "Prompt caching")."""
LEAST_RULES = 1_500
"""Characters of rules that are worth a breakpoint: fewer than 512 tokens are cached for no model."""
MAX_SEARCHES = 8
"""Web searches that one request may make; each costs a cent."""


def server_tools(names: Sequence[Ability], *, programmatic: bool) -> list[Body]:
    """The definitions of Anthropic's server tools: the newest versions that the model can drive.

    From 2026-02-09 on those of the web filter their results by code that the model runs, which older models cannot
    (platform.claude.com/docs, "Web search tool", versions). Beside code execution that would be a second container,
    which confuses the model (docs, "Server tools"), so that they are then called directly.
    """
    tools: list[Body] = []
    if "web" in names:
        search, fetch = ("20260318", "20260318") if programmatic else ("20250305", "20250910")
        more: Body = {"max_uses": MAX_SEARCHES}
        if programmatic and "code" in names:
            more["allowed_callers"] = ["direct"]
        tools += [
            {"type": f"web_search_{search}", "name": "web_search", **more},
            {"type": f"web_fetch_{fetch}", "name": "web_fetch", **more, "citations": {"enabled": True}},
        ]
    if "code" in names:
        tools.append({"type": f"code_execution_{'20260521' if programmatic else '20250825'}", "name": "code_execution"})
    return tools


def body(
    call: Call,
    *,
    model: str,
    max_tokens: int,
    messages: Sequence[Message] | None = None,
    cache: Cache = "off",
    programmatic: bool = False,
) -> Body:
    """What is sent for `call`: `model` as resolved, `max_tokens` as admitted, and the conversation so far.

    With `cache` the API places its own breakpoint at the end of the request (automatic caching, the top-level
    `cache_control`): the next turn of the conversation then reads all of this from the cache. Rules and files have
    breakpoints of their own: another question, in another conversation, reads those.
    """
    fields: Body = {
        "model": model,
        "max_tokens": max_tokens,
        "messages": list(messages) if messages else [*call.history, call.question()],
    }
    if call.system:
        fields["system"] = call.system
    if tools := server_tools(call.tools, programmatic=programmatic):
        fields["tools"] = tools
    if call.effort:
        fields["output_config"] = {"effort": call.effort}
    return fields if cache == "off" else _cached(fields, call, {"type": "ephemeral", "ttl": cache})


def _cached(fields: Body, call: Call, control: Body) -> Body:
    """The request with its breakpoints: three of the four that it may have, and the API's own at its end."""
    marked: Body = {"cache_control": control}
    if len(call.system) >= LEAST_RULES:
        marked["system"] = [{"type": "text", "text": call.system, "cache_control": control}]
    if call.attached:
        # With many files, what went before them would be too far from the last one to be found.
        first = call.attached[:1] if call.history and len(call.attached) >= LOOKBACK else ()
        ends = {id(block) for block in (*first, call.attached[-1])}
        messages = cast("list[dict[str, object]]", fields["messages"])
        marked["messages"] = [_with_breakpoints(message, ends, control) for message in messages]
    return fields | marked


def _with_breakpoints(message: dict[str, object], ends: set[int], control: Body) -> Message:
    """The message with a breakpoint on those of its blocks."""
    content = message["content"]
    if not isinstance(content, list):
        return message
    blocks = cast("list[dict[str, object]]", content)
    return {**message, "content": [{**b, "cache_control": control} if id(b) in ends else b for b in blocks]}
