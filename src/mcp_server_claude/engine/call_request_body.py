"""What is sent for a call, and counted before: its body, with our own tools, in the form that is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import anyio.to_thread

from mcp_server_claude import files
from mcp_server_claude.anthropic_api.request_body import build_request_body
from mcp_server_claude.engine import file_tools

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcp_server_claude.anthropic_api.models import ClaudeModel
    from mcp_server_claude.anthropic_api.platforms.platform import Platform
    from mcp_server_claude.anthropic_api.request_body import CacheTtl, RequestBody
    from mcp_server_claude.call_types import Call, Message
    from mcp_server_claude.engine.structured_output import OutputSchema


def call_request_body(
    call: Call,
    model: ClaudeModel,
    output_schema: OutputSchema | None,
    *,
    max_tokens: int,
    messages: Sequence[Message] | None = None,
    cache: CacheTtl = "off",
) -> RequestBody:
    """The request for `call`; `messages` are the conversation so far, where it is not just the call's own turn."""
    made = build_request_body(
        call,
        model=model.id,
        max_tokens=max_tokens,
        messages=messages,
        cache=cache,
        programmatic=model.programmatic,
    )
    if "read" in call.tools:
        made["tools"] = [*cast("list[RequestBody]", made.get("tools") or []), *file_tools.TOOL_DEFINITIONS]
    return made if output_schema is None else output_schema.apply_to(made)


async def check_request_limits(body: RequestBody, model: ClaudeModel, platform: Platform) -> None:
    """Refuse a request whose size, images or PDF pages the model or the platform does not take.

    Raises:
        RequestError: A limit is passed.
    """
    limits = files.RequestLimits.for_model(
        model.context_tokens,
        max_request_bytes=platform.max_request_bytes,
        max_image_bytes=platform.max_image_bytes,
    )
    await anyio.to_thread.run_sync(files.check_request_limits, body, limits)
