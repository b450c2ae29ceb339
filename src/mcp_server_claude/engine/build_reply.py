"""The reply of a call, or the value of its schema, from the outcome of its request loop."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import anyio.to_thread

from mcp_server_claude import schemas
from mcp_server_claude.call_types import Reply, StructuredOutput, Waiting
from mcp_server_claude.engine import stop_reasons
from mcp_server_claude.engine.structured_output import mismatch_error
from mcp_server_claude.errors import RequestError
from mcp_server_claude.text_log import is_blank

if TYPE_CHECKING:
    from mcp_server_claude.anthropic_api.models import ClaudeModel
    from mcp_server_claude.engine.call_context import CallContext
    from mcp_server_claude.engine.loop_outcome import LoopOutcome
    from mcp_server_claude.engine.request_loop import RequestLoop
    from mcp_server_claude.engine.structured_output import OutputSchema
    from mcp_server_claude.engine.usage_accumulator import UsageAccumulator


def reply_for_outcome(outcome: LoopOutcome, text: str, usage: UsageAccumulator, model: ClaudeModel) -> Reply:
    """The reply, complete or incomplete. The partial text of a refusal is no answer.

    Raises:
        CallError: There is no text.
    """
    stream, error, account = outcome.stream, outcome.error, usage.usage()
    if error is not None and is_blank(text):
        raise error
    end = outcome.answer_end(model, account.thread)
    if stream.stop_reason == "refusal" or is_blank(text):
        message = stop_reasons.no_text_message(end)
        raise RequestError(message, kind=stream.stop_reason or "truncated", request_id=stream.request_id)
    if error is not None:
        sentence = str(error).removesuffix(" Try again.")
        incomplete = f"{sentence} The text so far is above. {stop_reasons.continue_hint(account.thread)}."
    else:
        incomplete = stop_reasons.incomplete_reason(end)
    return Reply(text=text, usage=account, blocks=outcome.blocks, incomplete=incomplete)


async def validated_output(
    output_schema: OutputSchema | None, loop: RequestLoop, outcome: LoopOutcome, context: CallContext
) -> StructuredOutput | None:
    """The value of an answer with a schema; None without one.

    If the answer does not match, Claude is asked once to correct it.

    Raises:
        CallError: The answer is incomplete, or the second one does not match either.
    """
    if output_schema is None:
        return None
    text = output_schema.json_text(outcome, context.answer_buffer.text)
    try:
        value = await anyio.to_thread.run_sync(output_schema.validated_value, text)
    except schemas.SchemaMismatchError as first_mismatch:
        context.listener(Waiting("the answer does not match the schema, asking again"))
        outcome = await loop.retry_with_feedback(text, schemas.repair_prompt(first_mismatch.problems, text))
        text = output_schema.json_text(outcome, context.answer_buffer.text)
        try:
            value = await anyio.to_thread.run_sync(output_schema.validated_value, text)
        except schemas.SchemaMismatchError as second_mismatch:
            raise mismatch_error(second_mismatch.problems) from None
    context.answer_buffer.replace_text(json.dumps(value, ensure_ascii=False))
    return StructuredOutput(value)
