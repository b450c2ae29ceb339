"""The body of the next request of a call, also as it is counted before: with the tools of its thread and its schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import anyio.to_thread

from mcp_server_claude import files
from mcp_server_claude.anthropic_api.request_body import build_request_body

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcp_server_claude.anthropic_api.models import ClaudeModel
    from mcp_server_claude.anthropic_api.platforms.platform import Platform
    from mcp_server_claude.anthropic_api.request_body import CacheTtl, RequestBody
    from mcp_server_claude.call_types import Call, Message
    from mcp_server_claude.engine.structured_output import OutputSchema
    from mcp_server_claude.engine.thread_history import ThreadView


def call_request_body(
    call: Call,
    model: ClaudeModel,
    output_schema: OutputSchema | None,
    view: ThreadView,
    *,
    max_tokens: int,
    messages: Sequence[Message],
    cache: CacheTtl = "off",
) -> RequestBody:
    """The request body that asks for `form` with the system prompt and tools of `view`."""
    body = build_request_body(
        call,
        model=model.id,
        max_tokens=max_tokens,
        messages=messages,
        system=view.system,
        tools=view.tools,
        cache=cache,
    )
    if output_schema is None:
        return body
    filled = output_schema.apply_to(body)
    if "tools" in filled and view.tools and filled["tools"] is not body["tools"]:
        filled["tools"] = [*view.tools, *cast("list[RequestBody]", filled["tools"])]
    return filled


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
