"""The body of a request to the Messages API (version 2026-10-21), made from a call.

`temperature`, `top_p` and `top_k` are never sent: that version answers them with HTTP 400.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias, cast

from mcp_server_claude.anthropic_api.web_allowance import MAX_WEB_FETCH_TOKENS, MAX_WEB_SEARCHES, offers_web_tools

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcp_server_claude.call_types import Call, Message, ToolDefinition, ToolName

RequestBody: TypeAlias = "dict[str, object]"


CacheTtl: TypeAlias = Literal["5m", "1h", "off"]
"""How long the API keeps the beginning of a request, so that the next one reads it at a fraction of the price."""


CACHE_LOOKBACK_BLOCKS = 20
"""Blocks before a breakpoint within which the API finds what an earlier request has cached (docs, "Prompt caching")."""
MIN_CACHED_SYSTEM_CHARS = 1_500
"""Characters of rules that are worth a breakpoint: fewer than 512 tokens are cached for no model."""


def server_tool_definitions(names: Sequence[ToolName], *, programmatic: bool) -> list[RequestBody]:
    """The definitions of Anthropic's server tools: the newest versions that the model can drive.

    From 2026-02-09 on those of the web filter their results by code that the model runs, which older models cannot
    (platform.claude.com/docs, "Web search tool", versions). Beside code execution that would be a second container,
    which confuses the model (docs, "Server tools"), so that they are then called directly.
    """
    tools: list[RequestBody] = []
    if "web" in names:
        search, fetch = ("20260318", "20260318") if programmatic else ("20250305", "20250910")
        more: RequestBody = {"max_uses": MAX_WEB_SEARCHES}
        if programmatic and "code" in names:
            more["allowed_callers"] = ["direct"]
        tools += [
            {"type": f"web_search_{search}", "name": "web_search", **more},
            {
                "type": f"web_fetch_{fetch}",
                "name": "web_fetch",
                **more,
                "max_content_tokens": MAX_WEB_FETCH_TOKENS,
                "citations": {"enabled": True},
            },
        ]
    if "code" in names:
        tools.append({"type": f"code_execution_{'20260521' if programmatic else '20250825'}", "name": "code_execution"})
    return tools


def may_use_web(body: RequestBody) -> bool:
    """True if the web tools of a request are there, and may be used."""
    tools = [*cast("list[RequestBody]", body.get("tools") or []), *added_definitions(body)]
    choice = cast("RequestBody", body.get("tool_choice") or {})
    return offers_web_tools(tools, is_switched_off=choice.get("type") == "none")


def added_definitions(body: RequestBody) -> list[RequestBody]:
    """The tools that messages of a request define."""
    messages = cast("list[Message]", body.get("messages") or [])
    blocks = [
        block
        for message in messages
        if message.get("role") == "system"
        for block in cast("list[RequestBody]", message["content"])
        if block.get("type") == "tool_addition"
    ]
    return [cast("RequestBody", cast("RequestBody", block["tool"])["definition"]) for block in blocks]


def build_request_body(
    call: Call,
    *,
    model: str,
    max_tokens: int,
    messages: Sequence[Message] | None = None,
    system: str | None = None,
    tools: Sequence[ToolDefinition] = (),
    adds_tools: bool = False,
    cache: CacheTtl = "off",
    thinking: RequestBody | None = None,
) -> RequestBody:
    """The request body for `call`: `model` as resolved, `max_tokens` as admitted, `system`, `tools` and `messages` as
    the thread of the call has them. Where tools are defined, also by a message (`adds_tools`), and the call asked for
    none, none may be used.

    With `cache` the API places its own breakpoint at the end of the request (automatic caching, the top-level
    `cache_control`): the next turn of the conversation then reads all of this from the cache. Rules and files have
    breakpoints of their own: another question, in another conversation, reads those.
    """
    fields: RequestBody = {
        "model": model,
        "max_tokens": max_tokens,
        "messages": list(messages) if messages else [call.user_message()],
    }
    system = call.system if system is None else system
    if system:
        # The shape does not depend on caching: thinking of earlier turns is bound to what it was sent with.
        fields["system"] = [{"type": "text", "text": system}] if len(system) >= MIN_CACHED_SYSTEM_CHARS else system
    if tools:
        fields["tools"] = list(tools)
    if (tools or adds_tools) and not call.tools:
        fields["tool_choice"] = {"type": "none"}
    if thinking is not None:
        fields["thinking"] = thinking
    if call.effort:
        fields["output_config"] = {"effort": call.effort}
    return fields if cache == "off" else _with_cache_breakpoints(fields, call, {"type": "ephemeral", "ttl": cache})


def _with_cache_breakpoints(fields: RequestBody, call: Call, cache_control: RequestBody) -> RequestBody:
    """The request with its breakpoints: three of the four that it may have, and the API's own at its end."""
    marked: RequestBody = {"cache_control": cache_control} if call.caches_prompt else {}
    if isinstance(system := fields.get("system"), list):
        marked["system"] = [{**block, "cache_control": cache_control} for block in cast("list[RequestBody]", system)]
    if call.attachments and call.caches_attachments:
        # With many files, what went before them would be too far from the last one to be found.
        first = call.attachments[:1] if call.history and len(call.attachments) >= CACHE_LOOKBACK_BLOCKS else ()
        ends = {id(block) for block in (*first, call.attachments[-1])}
        messages = cast("list[dict[str, object]]", fields["messages"])
        marked["messages"] = [_mark_blocks(message, ends, cache_control) for message in messages]
    return fields | marked


def _mark_blocks(message: dict[str, object], block_ids: set[int], cache_control: RequestBody) -> Message:
    """The message with a breakpoint on those of its blocks."""
    content = message["content"]
    if not isinstance(content, list):
        return message
    blocks = cast("list[dict[str, object]]", content)
    return {**message, "content": [{**b, "cache_control": cache_control} if id(b) in block_ids else b for b in blocks]}
