"""The request loop of one call: requests, each with its ledger entry, until the answer or an error is final.

`next_step.decide` chooses the step after each stream; this module carries it out.
"""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING, assert_never, cast

import anyio

from mcp_server_claude import number_formatting
from mcp_server_claude.anthropic_api.message_stream import MessageStream
from mcp_server_claude.anthropic_api.request_body import may_use_web
from mcp_server_claude.anthropic_api.web_allowance import FULL_WEB_ALLOWANCE, WEB_ALLOWANCES
from mcp_server_claude.call_types import CHARS_PER_TOKEN, COMPLETE_STOP_REASONS, Waiting
from mcp_server_claude.engine import next_step
from mcp_server_claude.engine.continuation import CONTINUE_PROMPT, overlap_anchor
from mcp_server_claude.engine.file_tools import FileTools
from mcp_server_claude.engine.loop_outcome import LoopOutcome
from mcp_server_claude.engine.request_bill import request_bill
from mcp_server_claude.engine.request_messages import RequestMessages
from mcp_server_claude.engine.thread_history import has_definitions
from mcp_server_claude.engine.thread_repair import ThreadRepair, is_refused_thinking, next_repair
from mcp_server_claude.errors import CallError
from mcp_server_claude.lone_surrogates import replace_lone_surrogates
from mcp_server_claude.store.budget_reservations import InsufficientBudget

if TYPE_CHECKING:
    from decimal import Decimal

    from mcp_server_claude.anthropic_api.request_body import RequestBody
    from mcp_server_claude.call_types import Message
    from mcp_server_claude.engine.call_context import CallContext
    from mcp_server_claude.engine.ledger_writer import OpenEntry
    from mcp_server_claude.engine.prepared_call import PreparedCall
    from mcp_server_claude.engine.request_bill import RequestBill
    from mcp_server_claude.engine.thread_history import ThreadView

MIN_CONTINUATION_TOKENS = 256
"""Output tokens that a continuation may use at least, however long the text before it was estimated to be."""
RATE_LIMIT_KINDS = frozenset({"rate_limit", "overloaded"})

RETRY_REASONS = {
    "overloaded": "overloaded",
    "rate_limit": "rate limit reached",
    "stream_timeout": "nothing comes",
    "truncated": "the stream was cut",
    "connection": "connection lost",
    "connection_refused": "nothing listens upstream",
    "protocol": "the stream was garbled",
    "store": "the ledger could not be written",
}
"""Words for a person while the call waits for a retry, by error kind."""


class RequestLoop:
    """Sends the requests of one call to one model."""

    def __init__(self, prepared: PreparedCall, context: CallContext) -> None:
        call, model = prepared.call, prepared.model
        self._prepared = prepared
        self._call = call
        self._model = model
        self._context = context
        self._repair = ThreadRepair(
            drops_blocks=call.drops_thinking_blocks and context.claude.takes_thinking_betas,
            merges_tools=call.merges_tools or not context.claude.takes_tool_additions,
        )
        self._web = FULL_WEB_ALLOWANCE
        self._messages = RequestMessages(call, self._view())
        self._progress = next_step.LoopProgress()
        self._policy = next_step.LoopPolicy(
            retry=context.retry_policy,
            has_file_tools=self._has_file_tools(),
            has_schema=prepared.output_schema is not None,
        )
        self._file_tools = FileTools(context.file_policy, model, permitted="read" in call.tools)
        self._retrying = False
        self._max_tokens = context.spending_limit.max_tokens_before_budget(model.max_tokens_for(call.max_tokens))
        self._sent_max_tokens = self._max_tokens
        self._is_limited_by_budget = False

    async def run(self) -> LoopOutcome:
        """Send requests until the answer is complete or `next_step` finishes."""
        self._context.answer_buffer.begin_stream()
        continuation: list[Message] = []
        while True:
            # A stray piece of text would hide the repetition that begins a continuation, and would break JSON.
            strict_blocks = bool(continuation) or self._prepared.output_schema is not None
            buffer = self._context.answer_buffer
            stream = MessageStream(buffer.on_event, buffer.log, strict_blocks=strict_blocks)
            step = await self._run_stream(stream, continuation)
            continuation = []
            match step:
                case next_step.Finish(error=error):
                    return self._outcome(stream, error)
                case next_step.RunTools():
                    await self._run_tools(stream)
                case next_step.ResumePause():
                    self._messages.add_paused_blocks(stream.blocks)
                    self._context.answer_buffer.continue_stream(complete=True)
                case next_step.Retry():
                    await self._wait_for_retry(step)
                    self._repeat_stream()
                case next_step.Continue():
                    await self._wait_for_retry(step)
                    continuation = self._continue_text()
                case _:
                    assert_never(step)

    def _view(self) -> ThreadView:
        return self._prepared.thread_view(account=self._context.claude.account, repair=self._repair, web=self._web)

    def _repair_thread(self, failure: CallError | None) -> bool:
        """Repair the thread's part of the request after a refusal. The same request would be refused again."""
        view = self._messages.view
        if self._messages.has_open_turn or (is_refused_thinking(failure) and not view.has_thinking):
            return False
        can_drop_blocks = self._context.claude.takes_thinking_betas and "adaptive" in self._model.thinking_types
        repair = next_repair(self._repair, failure, view.history, can_drop_blocks=can_drop_blocks)
        if repair is None:
            return False
        self._repair = repair
        self._messages.view = self._view()
        self._context.listener(Waiting(repair.note))
        return True

    async def retry_with_feedback(self, answer: str, feedback: str) -> LoopOutcome:
        """Run again with the answer and a message on what is wrong with it."""
        self._messages.add_feedback(answer, feedback)
        return await self.run()

    async def _run_stream(self, stream: MessageStream, continuation: list[Message]) -> next_step.NextStep:
        """Send one request and decide on the next step."""
        buffer = self._context.answer_buffer
        chars_before, in_open_turn = buffer.chars, self._messages.has_open_turn
        error = await self._send_request(stream, continuation)
        while self._repair_thread(error):
            error = await self._send_request(stream, continuation)
        error = self._messages.track_container(stream, error)
        ended = next_step.StreamEnd(
            stop_reason=stream.stop_reason,
            error=error,
            elapsed_s=self._prepared.deadline.elapsed_s(),
            has_text=buffer.has_text,
            text_grew=buffer.chars > chars_before,
            has_only_text=stream.has_only_text,
            has_thinking=stream.has_thinking,
            in_open_turn=in_open_turn,
        )
        step = next_step.decide(self._progress, ended, self._policy, random.random())  # noqa: S311 - jitter, not a secret
        if not isinstance(step, next_step.Finish):
            self._progress = step.progress
        return step

    async def _send_request(self, stream: MessageStream, continuation: list[Message]) -> CallError | None:
        """Send one request and receive its stream. Its ledger entry is completed whatever happens."""
        context = self._context
        remaining_s = self._prepared.deadline.remaining_s()
        if not remaining_s:
            return self._prepared.deadline.error()
        try:
            await context.cooldown.wait_until_clear(context.listener, timeout_s=remaining_s)
            body = self._request_body(continuation)
            await self._prepared.check_limits(body, context.claude.platform)
            entry, body = await self._open_ledger_entry(body, continuation)
        except CallError as error:
            return error
        context.usage.attempts += 1
        context.usage.retries += self._retrying
        self._retrying = False
        stream.on_start = entry.record_start
        error = await self._receive_stream(stream, body, entry)
        context.cooldown.update_from_headers(stream.headers)
        if error is not None and error.kind in RATE_LIMIT_KINDS and error.retry_after_s is not None:
            context.cooldown.pause_for(error.retry_after_s)
        return error

    async def _receive_stream(self, stream: MessageStream, body: RequestBody, entry: OpenEntry) -> CallError | None:
        error = None
        try:
            receive = partial(
                self._context.claude.stream_message, body, stream, read_interval_s=self._context.read_interval_s
            )
            await self._context.watchdog.watch_stream(stream, receive)
            if not self._call.job_id:  # an item whose answer is not saved before the server ends is paid again
                await self._context.end_turns.wait_for_turn()
        except CallError as call_error:
            error = call_error
            stream.request_id = stream.request_id or error.request_id  # an HTTP error has one too
        except BaseException:
            entry.close_nowait(stream, *self._record_bill(stream, entry))
            raise
        await entry.close(stream, error, *self._record_bill(stream, entry))
        return error

    async def _open_ledger_entry(self, body: RequestBody, continuation: list[Message]) -> tuple[OpenEntry, RequestBody]:
        """The ledger entry of a request, with its cost reserved, and its body: `max_tokens` and what web tools may
        bring in are cut to what the reservation pays for.

        Raises:
            CallError: The remaining budget is too small, or the deadline has passed.
        """
        context, limit = self._context, self._context.spending_limit
        reservation, input_tokens, allowances = None, 0, ()
        max_tokens = cast("int", body["max_tokens"])
        if limit.is_limited:
            with self._prepared.deadline.enforce():
                input_tokens = (await context.claude.count_tokens(body)).tokens
            if may_use_web(body):
                # Within a turn its tools stay as they are: thinking in it is bound to them.
                allowances = (self._web,) if self._messages.has_open_turn else WEB_ALLOWANCES
            reservation = limit.reservation_for(input_tokens, max_tokens, allowances)
        credential = context.claude.credential
        entry = await context.ledger.open_entry(
            self._call,
            attempt=context.usage.attempts + 1,
            model=self._model.id,
            base_url=credential.base_url if credential else "",
            reservation_request=reservation,
        )
        if isinstance(entry, InsufficientBudget):
            raise limit.budget_error(entry)
        if reservation is not None:
            affordable = limit.affordable_request(entry.reserved_micros, input_tokens, max_tokens, allowances)
            if affordable.web not in {None, self._web}:
                self._web = affordable.web or self._web
                self._messages.view = self._view()
                body = self._request_body(continuation)
            body["max_tokens"] = min(max_tokens, affordable.max_tokens)
            self._is_limited_by_budget = affordable.max_tokens < max_tokens
        self._sent_max_tokens = cast("int", body["max_tokens"])
        return entry, body

    def _request_body(self, continuation: list[Message]) -> RequestBody:
        """The body of the next request; a continuation is allowed only the tokens that the text before it left."""
        max_tokens = self._max_tokens
        if continuation:
            used = round(self._context.answer_buffer.chars / CHARS_PER_TOKEN)
            max_tokens = min(max_tokens, max(MIN_CONTINUATION_TOKENS, max_tokens - used))
        body = self._prepared.request_body(
            self._messages.view,
            max_tokens=max_tokens,
            messages=self._messages.to_send(continuation),
            cache=self._context.cache,
            drops_blocks=self._repair.drops_blocks,
        )
        if self._messages.container_id and self._messages.view.offered:
            body["container"] = self._messages.container_id
        return body

    def _has_file_tools(self) -> bool:
        schema = self._prepared.output_schema
        is_answer = schema is not None and schema.uses_answer_tool
        return not is_answer and has_definitions("read", self._messages.view.offered)

    def _repeat_stream(self) -> None:
        """Prepare the answer buffer for the same request again."""
        if self._messages.has_open_turn:
            self._context.answer_buffer.continue_stream()
        else:
            self._context.answer_buffer.begin_stream()

    def _continue_text(self) -> list[Message]:
        """Prepare the answer buffer for the rest of the text, and return the messages that ask for it."""
        text = replace_lone_surrogates(self._context.answer_buffer.text)  # lone surrogates cannot be sent
        continuation: list[Message] = [{"role": "assistant", "content": text.rstrip()}]
        anchor = "" if self._model.accepts_prefill else overlap_anchor(text)
        if anchor:
            continuation.append({"role": "user", "content": CONTINUE_PROMPT.format(anchor=anchor)})
        self._context.answer_buffer.begin_stream(anchor=anchor)
        self._context.usage.resumed = True
        return continuation

    async def _run_tools(self, stream: MessageStream) -> None:
        """Run the tools that Claude asked for, and add their results to the messages."""
        buffer = self._context.answer_buffer
        had_text = buffer.chars > 0
        buffer.continue_stream(complete=True)
        blocks = self._messages.open_blocks(stream.blocks)
        results = await self._file_tools.run_tool_uses(blocks, self._context.listener)
        self._messages.add_tool_results(blocks, results)
        if had_text:
            buffer.append_text("\n\n")

    async def _wait_for_retry(self, step: next_step.Retry | next_step.Continue) -> None:
        self._retrying = True
        reason = RETRY_REASONS.get(step.error.kind, "the API had an error")
        attempts = self._context.retry_policy.max_retries + 1
        self._context.listener(
            Waiting(reason, step.delay_s, attempt=step.progress.failures + 1, attempts=attempts),
        )
        await anyio.sleep(step.delay_s)

    def _record_bill(self, stream: MessageStream, entry: OpenEntry) -> tuple[RequestBill, Decimal]:
        """Add a request to the usage and to the spending limit.

        Returns:
            Its bill, and the amount that it takes from the budgets.
        """
        bill = request_bill(stream, self._sent_max_tokens)
        usage = bill.usage
        self._context.usage.add_request(bill, stream.first_text_at)
        spent = self._context.spending_limit.record_cost(
            bill.cost,
            output_tokens=usage.output_tokens,
            input_tokens=usage.prompt_tokens,
            # It may have cost all that was reserved for it, and no more.
            min_micros=entry.reserved_micros if bill.is_lower_bound else 0,
        )
        return bill, spent

    def _outcome(self, stream: MessageStream, error: CallError | None) -> LoopOutcome:
        self._context.answer_buffer.end_stream(complete=stream.stop_reason in COMPLETE_STOP_REASONS)
        return LoopOutcome(
            stream=stream,
            blocks=self._messages.all_blocks(stream.blocks),
            max_tokens=self._sent_max_tokens,
            is_limited_by_budget=self._is_limited_by_budget,
            sent=self._messages.sent_turn(self._repair),
            container_id=self._messages.container_id,
            error=error,
            notes=(
                *self._messages.view.notes,
                *_dropped_blocks_note(stream.dropped_thinking_blocks),
                *self._web_note(),
            ),
        )

    def _web_note(self) -> tuple[str, ...]:
        """The note on web tools that a spending limit has bounded further."""
        if self._web == FULL_WEB_ALLOWANCE:
            return ()
        uses = number_formatting.format_count(self._web.uses, "search", "searches")
        pages = number_formatting.format_count(self._web.uses, "page")
        return (f"the spending limit has room for {uses} and {pages} of {self._web.page_tokens:,} tokens at most",)


def _dropped_blocks_note(count: int) -> tuple[str, ...]:
    """The note on thinking that the API itself has left out."""
    dropped = number_formatting.format_count(count, "thinking block")
    return (f"the API dropped {dropped} of earlier answers",) if count else ()
