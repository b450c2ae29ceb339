"""What an errand comes to: a reply, the value of a schema, or the failure that there is neither."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from mcp_server_claude import schemas
from mcp_server_claude.call_types import Data, Reply, Waiting
from mcp_server_claude.engine import stop_reasons
from mcp_server_claude.engine.structured_output import mismatch
from mcp_server_claude.errors import Refused

if TYPE_CHECKING:
    from mcp_server_claude.anthropic_api.models import ClaudeModel
    from mcp_server_claude.engine.request_loop import Ended, Errand, Means
    from mcp_server_claude.engine.structured_output import Form
    from mcp_server_claude.engine.usage_accumulator import Account


def reply(ended: Ended, text: str, account: Account, model: ClaudeModel) -> Reply:
    """The reply that an errand amounts to. A refusal's partial text is no answer.

    Raises:
        Failure: There is no text.
    """
    answer, failure = ended.answer, ended.failure
    thread = account.usage().thread
    used = answer.usage()
    sent = used.input_tokens + used.cache_read_input_tokens + used.cache_creation_input_tokens
    if failure is not None and not text.strip():
        raise failure
    if answer.stop_reason == "refusal" or not text.strip():
        message = stop_reasons.without_text(
            answer.stop_reason,
            answer.stop_details,
            max_tokens=ended.max_tokens,
            input_tokens=sent,
            context=model.context_tokens,
        )
        raise Refused(message, kind=answer.stop_reason or "truncated", request_id=answer.request_id)
    if failure is not None:
        why = f"{str(failure).removesuffix(' Try again.')} The text so far is above. {stop_reasons.rest(thread)}."
    elif account.capped and answer.stop_reason == "max_tokens":
        why = stop_reasons.capped(thread)
    else:
        why = stop_reasons.incomplete(
            answer.stop_reason,
            max_tokens=ended.max_tokens,
            input_tokens=sent,
            context=model.context_tokens,
            thread=thread,
        )
    return Reply(text=text, usage=account.usage(), blocks=ended.blocks, incomplete=why)


async def formed(form: Form, errand: Errand, ended: Ended, means: Means) -> Data:
    """The value of an answer that is held to a schema; where it does not fit, Claude is told once and asked again.

    Raises:
        Failure: There is no whole answer, or the second one does not fit either.
    """
    text = form.text_of(ended, means.draft.text)
    try:
        value = form.check(text)
    except schemas.SchemaMismatchError as wrong:
        means.listen(Waiting("the answer does not fit the schema, asking again"))
        again = form.text_of(await errand.again(text, schemas.repair_prompt(wrong.problems, text)), means.draft.text)
        try:
            value = form.check(again)
        except schemas.SchemaMismatchError as still:
            raise mismatch(still.problems) from None
    means.draft.settle(json.dumps(value, ensure_ascii=False))
    return Data(value)
