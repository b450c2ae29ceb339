"""Calls in message batches: each is one request, whose message is read when the batch has ended.

There is no second request of such a call: a paused turn is an incomplete answer, and a value that does not match the
schema is an error.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, cast

import anyio.to_thread

from mcp_server_claude import schemas
from mcp_server_claude.anthropic_api import token_estimate
from mcp_server_claude.anthropic_api.message_stream import MessageStream
from mcp_server_claude.anthropic_api.request_body import may_use_web
from mcp_server_claude.anthropic_api.web_allowance import FULL_WEB_ALLOWANCE
from mcp_server_claude.call_types import COMPLETE_STOP_REASONS, Reply, SentTurn, StructuredOutput
from mcp_server_claude.engine import build_reply, citations, journal_writer, ledger_writer
from mcp_server_claude.engine.answer_buffer import AnswerBuffer
from mcp_server_claude.engine.loop_outcome import LoopOutcome
from mcp_server_claude.engine.request_bill import request_bill
from mcp_server_claude.engine.sent_batch_call import MIN_WARM_UP_CHARS, SentBatchCall
from mcp_server_claude.engine.spending_limit import SpendingLimit
from mcp_server_claude.engine.structured_output import mismatch_error
from mcp_server_claude.engine.usage_accumulator import UsageAccumulator
from mcp_server_claude.errors import CallError, ConfigurationError
from mcp_server_claude.frozen_dataclass import frozen_dataclass
from mcp_server_claude.store import request_ledger
from mcp_server_claude.store.budget_reservations import InsufficientBudget
from mcp_server_claude.text_log import TextLog

if TYPE_CHECKING:
    from mcp_server_claude.anthropic_api.client import ClaudeClient
    from mcp_server_claude.anthropic_api.request_body import CacheTtl, RequestBody
    from mcp_server_claude.anthropic_api.web_allowance import WebAllowance
    from mcp_server_claude.call_types import Call, Usage
    from mcp_server_claude.engine.call_admission import CallAdmission
    from mcp_server_claude.engine.ledger_writer import LedgerWriter
    from mcp_server_claude.engine.output_file_downloads import OutputFiles
    from mcp_server_claude.engine.prepared_call import PreparedCall
    from mcp_server_claude.engine.spending_limit import ReservationRequest
    from mcp_server_claude.settings import Settings
    from mcp_server_claude.store import Transaction
    from mcp_server_claude.store.request_ledger import EndStatus

BATCH_TIER = "batch"
"""The service tier of a message of a batch, also of one that names none."""


@frozen_dataclass(kw_only=True)
class BatchCall:
    """A call that is ready for a batch: its request, and what has to be reserved for it."""

    call: Call
    body: RequestBody
    limit: SpendingLimit
    entry: request_ledger.LedgerEntry
    reservation: ReservationRequest | None = None
    input_tokens: int = 0

    def reserve_entry(self, tx: Transaction, batch_id: str, *, in_full: bool) -> SentBatchCall | InsufficientBudget:
        """Reserve the cost of the call and write its ledger entry, which belongs to the batch.

        With `in_full` less than the whole reservation counts as insufficient; else the answer is cut to what there is.
        """
        request = self.reservation
        if request is not None and in_full:
            request = replace(request, min_micros=request.max_micros)
        granted = ledger_writer.reserve_and_open_entry(tx, replace(self.entry, worker=batch_id), request)
        if isinstance(granted, InsufficientBudget):
            return granted
        max_tokens = cast("int", self.body["max_tokens"])
        affordable = max_tokens
        if request is not None:
            paid = self.limit.affordable_request(
                granted.micros, self.input_tokens, max_tokens, _web_allowances(self.body)
            )
            affordable = min(max_tokens, paid.max_tokens)
        return SentBatchCall(
            call_id=self.call.id,
            entry_id=self.entry.id,
            max_tokens=affordable,
            held_micros=granted.micros,
            is_cut_by_budget=affordable < max_tokens,
        )


@frozen_dataclass(kw_only=True)
class BatchAnswer:
    """The answer of a batch call, or its error, with the result for its ledger entry.

    `spent_micros` are taken from the budgets. The journal gets the `text`, which an error may have too.
    """

    call: Call
    outcome: Reply | CallError
    text: str
    usage: Usage | None
    result: request_ledger.EntryResult
    spent_micros: int
    started_at: float

    def write_outcome(self, tx: Transaction, entry_id: str, worker: str) -> None:
        """Close the ledger entry, settle the budgets, and write the call into the journal."""
        request_ledger.close_entry(tx, entry_id, self.result, self.spent_micros)
        outcome = self.outcome
        is_error = isinstance(outcome, CallError)
        end: EndStatus = "failed" if is_error else "incomplete" if outcome.incomplete else "complete"
        if self.result.end == "cancelled":
            end = "cancelled"
        journal_writer.record_ended_call(
            tx,
            self.call,
            worker,
            started_at=self.started_at,
            end=end,
            text=self.text,
            usage=self.usage,
            incomplete=str(outcome) if is_error else outcome.incomplete,
            failure=outcome.as_json() if is_error else None,
        )


class BatchCalls:
    """Makes the requests of batch calls, and reads their results."""

    def __init__(
        self,
        settings: Settings,
        claude: ClaudeClient,
        ledger: LedgerWriter,
        admission: CallAdmission,
        output_files: OutputFiles,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._admission = admission
        self._output_files = output_files
        self.claude = claude

    @property
    def writes_cache(self) -> bool:
        """True if the settings have the prompt cache used."""
        return self._settings.cache != "off"

    async def prepare_call(self, call: Call, sent: SentBatchCall | None = None) -> BatchCall:
        """The request of a call, with what has to be reserved for it. `sent` is the same call, prepared before.

        The input is estimated, never too low, rather than counted: a count is a request of its own.

        Raises:
            CallError: The call cannot be sent like this.
        """
        prepared = await self._admission.admit(call)
        call, model = prepared.call, prepared.model
        limit = self._limit_of(prepared)
        max_tokens = limit.max_tokens_before_budget(model.max_tokens_for(call.max_tokens))
        body = self._request_of(prepared, sent.max_tokens if sent else max_tokens)
        await prepared.check_limits(body, self.claude.platform)
        reservation, input_tokens = None, 0
        if limit.is_limited and sent is None:
            input_tokens = await anyio.to_thread.run_sync(token_estimate.estimate_input_tokens, body)
            reservation = limit.reservation_for(input_tokens, max_tokens, _web_allowances(body))
        return BatchCall(
            call=call,
            body=body,
            limit=limit,
            entry=self._new_entry(call),
            reservation=reservation,
            input_tokens=input_tokens,
        )

    async def prepare_template(self, call: Call) -> PreparedCall:
        """The call that the calls of a job have in common, as their results are read by it.

        Raises:
            CallError: Its schema cannot be read any more.
        """
        return await self._admission.prepare_sent_call(replace(call, files=()))

    async def read_answer(
        self, template: PreparedCall, call: Call, sent: SentBatchCall, message: dict[str, object], sent_at: float
    ) -> BatchAnswer:
        """The answer in a message of a batch that was sent at `sent_at`, in unix seconds."""
        call = replace(call, id=sent.call_id, model=template.model.id)
        prepared = template.with_call(call)
        buffer = AnswerBuffer(_ignore_event, TextLog(), buffered=prepared.output_schema is not None)
        buffer.begin_stream()
        stream = MessageStream(buffer.on_event, buffer.log)
        failure: CallError | None = None
        try:
            self.claude.read_message(_with_service_tier(message), stream)
        except CallError as error:
            failure = error
        buffer.end_stream(complete=stream.stop_reason in COMPLETE_STOP_REASONS)
        bill = request_bill(stream)
        usage = UsageAccumulator(call)
        usage.attempts = 1
        usage.add_request(bill, None)
        spent = self._limit_of(prepared).record_cost(
            bill.cost,
            output_tokens=bill.usage.output_tokens,
            input_tokens=bill.usage.prompt_tokens,
            min_micros=sent.held_micros if bill.is_lower_bound or failure is not None else 0,
        )
        outcome = LoopOutcome(
            stream=stream,
            blocks=stream.blocks,
            max_tokens=sent.max_tokens,
            is_limited_by_budget=sent.is_cut_by_budget,
            sent=SentTurn(question={}, prefix_digest=""),
            error=failure,
        )
        read: Reply | CallError
        try:
            read = await self._read_reply(prepared, outcome, buffer, usage)
        except CallError as error:
            read = error.with_usage(replace(usage.usage(), complete=False))
        took_s = max(0.0, time.time() - sent_at)
        account = replace((read.usage if read.usage is not None else usage.usage()), duration_s=round(took_s, 4))
        read = replace(read, usage=account) if isinstance(read, Reply) else read.with_usage(account)
        if prepared.output_schema is None:
            buffer.publish_buffered_text()
        return BatchAnswer(
            call=call,
            outcome=read,
            text=read.text if isinstance(read, Reply) else "" if prepared.output_schema else buffer.text,
            usage=account,
            result=ledger_writer.entry_result(stream, ledger_writer.end_status(stream, failure), failure, bill),
            spent_micros=ledger_writer.usd_to_micros(spent),
            started_at=sent_at,
        )

    def unanswered_call(
        self,
        call: Call,
        sent: SentBatchCall,
        error: CallError,
        sent_at: float,
        *,
        cancelled: bool = False,
        spent_micros: int = 0,
    ) -> BatchAnswer:
        """The outcome of a batch call that has no message. Only what nobody can tell may have cost something."""
        end: EndStatus = "cancelled" if cancelled else "failed"
        return BatchAnswer(
            call=replace(call, id=sent.call_id),
            outcome=error,
            text="",
            usage=None,
            result=request_ledger.EntryResult(
                end=end,
                ended_at=time.time(),
                failure=None if cancelled else error.kind,
                status=error.status,
                request_id=error.request_id,
                cost_micros=spent_micros,
                estimated=spent_micros > 0,
                service_tier=BATCH_TIER,
            ),
            spent_micros=spent_micros,
            started_at=sent_at,
        )

    async def _read_reply(
        self, prepared: PreparedCall, outcome: LoopOutcome, buffer: AnswerBuffer, usage: UsageAccumulator
    ) -> Reply:
        schema = prepared.output_schema
        if schema is not None:
            text = schema.json_text(outcome, buffer.text)
            try:
                value = await anyio.to_thread.run_sync(partial(schema.validated_value, text))
            except schemas.SchemaMismatchError as mismatch:
                raise mismatch_error(mismatch.problems, corrected=False) from None
            written = json.dumps(value, ensure_ascii=False)
            account = replace(usage.usage(), complete=True)
            return Reply(text=written, usage=account, structured_output=StructuredOutput(value))
        await self._output_files.record_files(prepared.call, outcome.blocks)
        buffer.append_text(citations.sources_markdown(citations.extract_citations(outcome.blocks)))
        return build_reply.reply_for_outcome(outcome, buffer.text, usage, prepared.model)

    def _request_of(self, prepared: PreparedCall, max_tokens: int) -> RequestBody:
        view = prepared.thread_view(account=self.claude.account)
        return prepared.request_body(
            view,
            max_tokens=max_tokens,
            messages=[prepared.call.user_message(), *view.rules],
            cache=batch_cache_ttl(self._settings.cache, prepared.call),
        )

    def _limit_of(self, prepared: PreparedCall) -> SpendingLimit:
        return SpendingLimit(
            self._settings,
            prepared.call,
            prepared.model,
            regional=self.claude.is_regional,
            cache=batch_cache_ttl(self._settings.cache, prepared.call),
        )

    def _new_entry(self, call: Call) -> request_ledger.LedgerEntry:
        credential = self.claude.credential
        if credential is None:
            raise ConfigurationError("There is no API key.", kind="no_key")
        return self._ledger.new_entry(call, attempt=1, model=call.model, base_url=credential.base_url)


def batch_cache_ttl(cache: CacheTtl, call: Call) -> CacheTtl:
    """The time to live of what a request of a batch writes to the prompt cache.

    An hour for a long beginning that many requests have in common: a batch often takes longer than five minutes
    (platform.claude.com/docs, "Batch processing", prompt caching), and one request writes it before the others are
    sent. A shorter one is not waited for, so that some requests may write it too, at twice the price of input for an
    hour: there the lifetime of the settings stays. Nothing reads what a single question writes.
    """
    if cache == "off" or call.caches_prompt:
        return "off"
    texts = (str(block.get("text", "")) for block in call.attachments) if call.caches_attachments else ()
    shared_chars = len(call.system) + sum(map(len, texts))
    return "1h" if shared_chars >= MIN_WARM_UP_CHARS else cache


def _web_allowances(body: RequestBody) -> tuple[WebAllowance, ...]:
    """What web tools may bring in: all or nothing, since the request is made before its reservation."""
    return (FULL_WEB_ALLOWANCE,) if may_use_web(body) else ()


def _with_service_tier(message: dict[str, object]) -> dict[str, object]:
    """The message, with the tier that decides on its price."""
    usage = message.get("usage")
    if not isinstance(usage, dict):
        return message
    named = cast("dict[str, object]", usage)
    return message | {"usage": named | {"service_tier": named.get("service_tier") or BATCH_TIER}}


def _ignore_event(event: object) -> None:
    del event
