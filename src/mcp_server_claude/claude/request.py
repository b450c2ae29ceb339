"""The body of a request to the Messages API (version 2026-10-21), made from a call.

`temperature`, `top_p` and `top_k` are never sent: that version answers them with HTTP 400.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcp_server_claude.messages import Ability, Call, Message

Body: TypeAlias = "dict[str, object]"


Cache: TypeAlias = Literal["5m", "1h", "off"]
"""How long the API keeps the beginning of a request, so that the next one reads it at a fraction of the price."""


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
    `cache_control`): the next turn of the conversation then reads all of this from the cache.
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
    if cache != "off":
        fields["cache_control"] = {"type": "ephemeral", "ttl": cache}
    return fields
