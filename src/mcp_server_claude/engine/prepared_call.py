"""A call that was admitted: what it asks for is resolved once, and every request of it is built from that."""

from __future__ import annotations

from dataclasses import field, replace
from typing import TYPE_CHECKING, cast

import anyio.to_thread

from mcp_server_claude import files
from mcp_server_claude.anthropic_api.request_body import build_request_body
from mcp_server_claude.anthropic_api.thinking_config import thinking_config
from mcp_server_claude.anthropic_api.web_allowance import FULL_WEB_ALLOWANCE
from mcp_server_claude.engine.call_deadline import CallDeadline
from mcp_server_claude.engine.fallback_model import FallbackModel
from mcp_server_claude.engine.structured_output import REFUSED_SCHEMA_REASONS
from mcp_server_claude.engine.thread_history import NO_REPAIR, thread_view
from mcp_server_claude.frozen_dataclass import frozen_dataclass

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcp_server_claude.anthropic_api.models import ClaudeModel
    from mcp_server_claude.anthropic_api.platforms.platform import Platform
    from mcp_server_claude.anthropic_api.request_body import CacheTtl, RequestBody
    from mcp_server_claude.anthropic_api.thinking_config import ThinkingDisplay
    from mcp_server_claude.anthropic_api.web_allowance import WebAllowance
    from mcp_server_claude.call_types import Call, Message
    from mcp_server_claude.engine.structured_output import OutputSchema
    from mcp_server_claude.engine.thread_history import ThreadView
    from mcp_server_claude.engine.thread_repair import ThreadRepair
    from mcp_server_claude.errors import CallError


@frozen_dataclass(kw_only=True)
class PreparedCall:
    """A call that was admitted, so that it can be sent without another check of its arguments.

    Args:
        call: The call with the id of its model, and with attachments in place of files.
        model: The model, without the features that the platform lacks.
        output_schema: The schema of the answer in the form for this model; None without one.
        fallback: The fallback model, admitted in the same way.
        thinking_display: The display of thinking; empty for the model's default.
        deadline: The deadline of the call, which began with its admission.
    """

    call: Call
    model: ClaudeModel
    output_schema: OutputSchema | None = None
    fallback: FallbackModel = field(default_factory=FallbackModel)
    thinking_display: ThinkingDisplay = ""
    deadline: CallDeadline = field(default_factory=CallDeadline)

    def with_call(self, call: Call) -> PreparedCall:
        """The same for a call that a thread has added its history to."""
        return replace(self, call=call)

    def for_model(self, model: ClaudeModel) -> PreparedCall:
        """The same call for its fallback model. The schema is not normalized again."""
        schema = None if self.output_schema is None else self.output_schema.for_model(model)
        call = replace(self.call, model=model.id)
        return replace(self, call=call, model=model, output_schema=schema, fallback=FallbackModel())

    def with_schema_in_prompt(self, failure: CallError | None) -> PreparedCall | None:
        """The same call with its schema asked for in words; None unless that can mend this failure."""
        if self.output_schema is None or failure is None or failure.kind not in REFUSED_SCHEMA_REASONS:
            return None
        schema = self.output_schema.in_prompt(failure)
        if schema is None:
            return None
        notes = (*self.call.notes, *schema.notes)
        call = replace(self.call, prompt=schema.add_instruction(self.call.prompt), notes=notes)
        return replace(self, call=call, output_schema=schema)

    def thread_view(
        self, *, account: str, repair: ThreadRepair = NO_REPAIR, web: WebAllowance = FULL_WEB_ALLOWANCE
    ) -> ThreadView:
        """The view that the model gets of the thread; see `thread_history.thread_view`."""
        return thread_view(self.call, self.model, self.output_schema, account=account, repair=repair, web=web)

    def request_body(
        self,
        view: ThreadView,
        *,
        max_tokens: int,
        messages: Sequence[Message],
        cache: CacheTtl = "off",
        drops_blocks: bool = False,
    ) -> RequestBody:
        """The body of a request with the system prompt and the tools of `view`, and with the schema.

        With `drops_blocks` the API drops thinking that it would refuse.
        """
        body = build_request_body(
            self.call,
            model=self.model.id,
            max_tokens=max_tokens,
            messages=messages,
            system=view.system,
            tools=view.tools,
            adds_tools=bool(view.offered),
            cache=cache,
            thinking=thinking_config(
                self.model, effort=self.call.effort, display=self.thinking_display, drops_blocks=drops_blocks
            ),
        )
        if self.output_schema is None:
            return body
        filled = self.output_schema.apply_to(body)
        if "tools" in filled and view.tools and filled["tools"] is not body["tools"]:
            filled["tools"] = [*view.tools, *cast("list[RequestBody]", filled["tools"])]
        return filled

    def first_request(self, *, account: str, max_tokens: int, repair: ThreadRepair = NO_REPAIR) -> RequestBody:
        """The body of the request that the call begins with."""
        view = self.thread_view(account=account, repair=repair)
        messages = [*view.history, self.call.user_message(), *view.rules]
        return self.request_body(view, max_tokens=max_tokens, messages=messages, drops_blocks=repair.drops_blocks)

    async def check_limits(self, body: RequestBody, platform: Platform) -> None:
        """Refuse a request whose size, images or PDF pages the model or the platform does not take.

        Raises:
            RequestError: A limit is passed.
        """
        limits = files.RequestLimits.for_model(
            self.model.context_tokens,
            max_request_bytes=platform.max_request_bytes,
            max_image_bytes=platform.max_image_bytes,
        )
        if files.is_quickly_checked(body):
            files.check_request_limits(body, limits)
        else:
            await anyio.to_thread.run_sync(files.check_request_limits, body, limits)
