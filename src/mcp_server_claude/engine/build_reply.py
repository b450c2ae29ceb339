"""What an errand comes to: a reply, the value of a schema, or the failure that there is neither."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import anyio.to_thread

from mcp_server_claude import schemas
from mcp_server_claude.call_types import Reply, StructuredOutput, Waiting
from mcp_server_claude.engine import stop_reasons
from mcp_server_claude.engine.structured_output import mismatch_error
from mcp_server_claude.errors import RequestError

if TYPE_CHECKING:
    from mcp_server_claude.anthropic_api.models import ClaudeModel
    from mcp_server_claude.engine.request_loop import CallContext, LoopOutcome, RequestLoop
    from mcp_server_claude.engine.structured_output import OutputSchema
    from mcp_server_claude.engine.usage_accumulator import UsageAccumulator


def reply_for_outcome(outcome: LoopOutcome, text: str, usage: UsageAccumulator, model: ClaudeModel) -> Reply:
    """The reply that an errand amounts to. A refusal's partial text is no answer.

    Raises:
        CallError: There is no text.
    """
    answer, failure = outcome.stream, outcome.error
    thread = usage.usage().thread
    used = answer.usage()
    sent = used.input_tokens + used.cache_read_input_tokens + used.cache_creation_input_tokens
    if failure is not None and not text.strip():
        raise failure
    if answer.stop_reason == "refusal" or not text.strip():
        message = stop_reasons.no_text_message(
            answer.stop_reason,
            answer.stop_details,
            max_tokens=outcome.max_tokens,
            input_tokens=sent,
            context=model.context_tokens,
        )
        raise RequestError(message, kind=answer.stop_reason or "truncated", request_id=answer.request_id)
    if failure is not None:
        why = (
            f"{str(failure).removesuffix(' Try again.')} The text so far is above. "
            f"{stop_reasons.continue_hint(thread)}."
        )
    elif usage.limited_by_budget and answer.stop_reason == "max_tokens":
        why = stop_reasons.budget_cut(thread)
    else:
        why = stop_reasons.incomplete_reason(
            answer.stop_reason,
            max_tokens=outcome.max_tokens,
            input_tokens=sent,
            context=model.context_tokens,
            thread=thread,
        )
    return Reply(text=text, usage=usage.usage(), blocks=outcome.blocks, incomplete=why)


async def validated_output(
    output_schema: OutputSchema, loop: RequestLoop, outcome: LoopOutcome, context: CallContext
) -> StructuredOutput:
    """The value of an answer with a schema. Where it does not fit, Claude is asked once more with the problems named.

    Raises:
        CallError: There is no complete answer, or the second one does not fit either.
    """
    text = output_schema.json_text(outcome, context.answer_buffer.text)
    try:
        value = await anyio.to_thread.run_sync(output_schema.validated_value, text)
    except schemas.SchemaMismatchError as wrong:
        context.listener(Waiting("the answer does not fit the schema, asking again"))
        again = output_schema.json_text(
            await loop.retry_with_feedback(text, schemas.repair_prompt(wrong.problems, text)),
            context.answer_buffer.text,
        )
        try:
            value = await anyio.to_thread.run_sync(output_schema.validated_value, again)
        except schemas.SchemaMismatchError as still:
            raise mismatch_error(still.problems) from None
    context.answer_buffer.replace_text(json.dumps(value, ensure_ascii=False))
    return StructuredOutput(value)
