"""One call on its way: as many requests as it takes, each with its line in the ledger, until there is an answer.

What is sent next depends on two things only, what has been told of the answer so far and how the last stream ended:

    nothing told yet                       the same request again
    text told, and nothing but text came   its continuation: prefill where the model takes it, else a plea to go on
    text told, and server tools were used  nothing; what there is stays, as incomplete
    `pause_turn`                           the content back unchanged, at most `MAX_PAUSE_TURNS` times
    `tool_use`, where it may look around   what it asked for, at most `MAX_TOOL_ROUNDS` times

What a continuation was asked with stays in the conversation when its stream ends with one of the last two (`turn`).

With a schema nothing is told before the answer is whole, so it is always the same request again.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, cast

import anyio

from mcp_server_claude import pricing
from mcp_server_claude.anthropic_api.message_stream import MessageStream
from mcp_server_claude.call_types import CHARS_PER_TOKEN, COMPLETE_STOP_REASONS, Waiting
from mcp_server_claude.engine import retry_policy
from mcp_server_claude.engine.call_request_body import call_request_body, check_request_limits
from mcp_server_claude.engine.continuation import CONTINUE_PROMPT, overlap_anchor
from mcp_server_claude.engine.file_tools import MAX_TOOL_ROUNDS, FileTools
from mcp_server_claude.engine.request_messages import RequestMessages
from mcp_server_claude.errors import CallError, TemporaryError
from mcp_server_claude.lone_surrogates import replace_lone_surrogates
from mcp_server_claude.store.budget_reservations import InsufficientBudget

if TYPE_CHECKING:
    from mcp_server_claude.anthropic_api.client import ClaudeClient
    from mcp_server_claude.anthropic_api.models import ClaudeModel
    from mcp_server_claude.anthropic_api.request_body import CacheTtl, RequestBody
    from mcp_server_claude.call_types import Block, Call, Listener, Message
    from mcp_server_claude.engine.answer_buffer import AnswerBuffer
    from mcp_server_claude.engine.ledger_writer import LedgerWriter, OpenEntry
    from mcp_server_claude.engine.rate_limit_cooldown import RateLimitCooldown
    from mcp_server_claude.engine.spending_limit import SpendingLimit
    from mcp_server_claude.engine.stream_watchdog import StreamWatchdog
    from mcp_server_claude.engine.structured_output import OutputSchema
    from mcp_server_claude.engine.usage_accumulator import UsageAccumulator
    from mcp_server_claude.files import FilePolicy

MAX_PAUSE_TURNS = 10
"""How often a paused turn is sent back: each time is a request, and a turn that never ends must."""
MAX_CONTINUATIONS = 10
"""How often a broken answer is continued: each time the whole prompt is paid for again."""
MIN_CONTINUATION_TOKENS = 256
"""Tokens that a continuation may take at least, however long the text before it was estimated to be."""
RATE_LIMIT_KINDS = frozenset({"rate_limit", "overloaded"})

RETRY_REASONS = {
    "overloaded": "overloaded",
    "rate_limit": "rate limit reached",
    "stream_timeout": "nothing comes",
    "truncated": "the stream was cut",
    "connection": "connection lost",
    "connection_refused": "nothing listens upstream",
    "protocol": "the stream was garbled",
}
"""What a person is told while the call waits to try again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopOutcome:
    """How an errand ended: the last stream, what was asked of it, where code ran, and the failure that was final."""

    stream: MessageStream
    blocks: tuple[Block, ...]
    max_tokens: int
    container_id: str = ""
    error: CallError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallContext:
    """What an errand works with; all of it belongs to the engine or to the call."""

    claude: ClaudeClient
    ledger: LedgerWriter
    cooldown: RateLimitCooldown
    retry_policy: retry_policy.RetryPolicy
    spending_limit: SpendingLimit
    answer_buffer: AnswerBuffer
    usage: UsageAccumulator
    watchdog: StreamWatchdog
    cache: CacheTtl
    output_schema: OutputSchema | None
    file_policy: FilePolicy
    listener: Listener


class RequestLoop:
    """Pursues one call."""

    def __init__(self, call: Call, model: ClaudeModel, context: CallContext) -> None:
        self._call = call
        self._model = model
        self._context = context
        self._started_at = time.monotonic()
        self._failures = 0
        self._failing_since = 0.0
        self._text_length_before = 0
        self._thinking_stalls = 0
        self._messages = RequestMessages(call)
        self._file_tools = FileTools(context.file_policy, model)
        self._tool_rounds = 0
        self._pauses = 0
        self._continuations = 0
        self._retrying = False
        self._max_tokens = context.spending_limit.max_tokens_before_budget(model.max_tokens_for(call.max_tokens))

    async def run(self) -> LoopOutcome:
        """Send, and send again, until the answer is there or nothing more can be done."""
        while True:
            answer = MessageStream(self._context.answer_buffer.on_event)
            self._text_length_before = len(self._context.answer_buffer.text)
            failure = await self._send_request(answer)
            failure = self._messages.track_container(answer, failure)
            if answer.stop_reason == "pause_turn" and self._pauses < MAX_PAUSE_TURNS:
                self._resume_paused_turn(answer)
                continue
            if answer.stop_reason == "tool_use" and self._has_file_tools and self._tool_rounds < MAX_TOOL_ROUNDS:
                await self._run_tools(answer)
                continue
            if answer.stop_reason is not None:
                return self._outcome(answer)
            failure = failure or TemporaryError("The connection ended before the answer did.", kind="truncated")
            pause = self._retry_delay(failure) if self._can_retry(answer, failure) else None
            if pause is None:
                return self._outcome(answer, failure)
            self._announce_retry(failure, pause)
            await anyio.sleep(pause)

    async def retry_with_feedback(self, answer: str, feedback: str) -> LoopOutcome:
        """Once more, after the answer that did not do."""
        self._messages.add_feedback(answer, feedback)
        return await self.run()

    async def _send_request(self, stream: MessageStream) -> CallError | None:
        """Make one request. Its line in the ledger is completed whatever happens."""
        means = self._context
        try:
            await means.cooldown.wait_until_clear(
                means.listener, timeout_s=means.retry_policy.deadline_s - (time.monotonic() - self._started_at)
            )
            sent = self._next_request_body()
            await check_request_limits(sent, self._model, means.claude.platform)
            line = await self._open_ledger_entry(sent)
        except CallError as failure:
            return failure
        means.usage.attempts += 1
        means.usage.retries += self._retrying
        self._retrying = False
        stream.on_start = line.record_start
        failure = None
        try:
            await means.watchdog.watch_stream(stream, partial(means.claude.stream_message, sent, stream))
        except CallError as error:
            failure = error
            stream.request_id = stream.request_id or error.request_id  # an HTTP error has one too
        except BaseException:
            line.close_nowait(stream, *self._record_usage(stream, line))
            raise
        await line.close(stream, failure, *self._record_usage(stream, line))
        means.cooldown.update_from_headers(stream.headers)
        if failure is not None and failure.kind in RATE_LIMIT_KINDS and failure.retry_after_s is not None:
            means.cooldown.pause_for(failure.retry_after_s)
        return failure

    async def _open_ledger_entry(self, request: RequestBody) -> OpenEntry:
        """The ledger's line for a request, with what it may cost reserved, and `max_tokens` cut to what that pays for.

        Raises:
            CallError: There is not enough left for it.
        """
        means, ask, counted = self._context, None, 0
        wanted = cast("int", request["max_tokens"])
        if means.spending_limit.is_limited:
            counted = await means.claude.count_input_tokens(request)
            ask = means.spending_limit.reservation_for(counted, wanted)
        credential = means.claude.credential
        line = await means.ledger.open_entry(
            self._call,
            attempt=means.usage.attempts + 1,
            model=self._model.id,
            base_url=credential.base_url if credential else "",
            reservation_request=ask,
        )
        if isinstance(line, InsufficientBudget):
            raise means.spending_limit.budget_error(line)
        if ask is not None:
            affordable = means.spending_limit.affordable_tokens(line.reserved_micros, counted)
            request["max_tokens"] = min(wanted, affordable)
            means.usage.limited_by_budget = affordable < wanted
        return line

    def _next_request_body(self) -> RequestBody:
        """What is sent next; the table at the top of this module."""
        told = replace_lone_surrogates(self._context.answer_buffer.text)  # lone surrogates cannot be sent
        left = self._max_tokens
        going_on: list[Message] = []
        if self._messages.has_open_turn:
            self._context.answer_buffer.continue_stream()
        elif told.strip() and self._context.output_schema is None:
            going_on.append({"role": "assistant", "content": told.rstrip()})
            anchor = "" if self._model.accepts_prefill else overlap_anchor(told)
            if anchor:
                going_on.append({"role": "user", "content": CONTINUE_PROMPT.format(anchor=anchor)})
            self._context.answer_buffer.begin_stream(anchor=anchor)
            self._context.usage.resumed = True
            left = max(MIN_CONTINUATION_TOKENS, left - round(len(told) / CHARS_PER_TOKEN))
        else:
            self._context.answer_buffer.begin_stream()
        made = call_request_body(
            self._call,
            self._model,
            self._context.output_schema,
            max_tokens=min(left, self._max_tokens),
            messages=self._messages.to_send(going_on),
            cache=self._context.cache,
        )
        if self._messages.container_id and "tools" in made:
            made["container"] = self._messages.container_id
        return made

    @property
    def _has_file_tools(self) -> bool:
        return "read" in self._call.tools

    async def _run_tools(self, stream: MessageStream) -> None:
        """Do what the delegate asks for, and give it what came of it."""
        self._failures = 0
        self._tool_rounds += 1
        told = bool(self._context.answer_buffer.text)
        self._context.answer_buffer.continue_stream(complete=True)
        asked = self._messages.open_blocks(stream.blocks)
        self._messages.add_tool_results(asked, await self._file_tools.run_tool_uses(asked, self._context.listener))
        if told:
            self._context.answer_buffer.append_text("\n\n")

    def _resume_paused_turn(self, stream: MessageStream) -> None:
        """A paused turn goes back as it came; the next stream begins where this one ended."""
        self._pauses += 1
        self._failures = 0
        self._messages.add_paused_blocks(stream.blocks)
        self._context.answer_buffer.continue_stream(complete=True)

    def _can_retry(self, stream: MessageStream, error: CallError) -> bool:
        """Whether there is anything that may be sent after a stream that broke."""
        told = self._context.answer_buffer.text
        if self._messages.has_open_turn:
            return len(told) == self._text_length_before
        if told.strip() and self._context.output_schema is None:
            self._continuations += 1
            return stream.has_only_text and self._continuations <= MAX_CONTINUATIONS
        if error.kind == "stream_timeout" and stream.has_thinking:
            self._thinking_stalls += 1
            return self._thinking_stalls <= 1
        return True

    def _retry_delay(self, error: CallError) -> float | None:
        """Seconds to wait before the next try, None to give up. A stream that brought text begins a new count."""
        now = time.monotonic()
        if not self._failures or len(self._context.answer_buffer.text) > self._text_length_before:
            self._failures, self._failing_since = 0, now
        self._failures += 1
        trouble = retry_policy.FailureState(
            kind=error.kind,
            retryable=error.retryable and error.kind != "deadline",
            failures=self._failures,
            failing_for_s=now - self._failing_since,
            elapsed_s=now - self._started_at,
            retry_after_s=error.retry_after_s,
            should_retry=error.should_retry,
        )
        return retry_policy.backoff_delay(self._context.retry_policy, trouble, random.random())  # noqa: S311 - jitter, not a secret

    def _announce_retry(self, error: CallError, delay_s: float) -> None:
        self._retrying = True
        why = RETRY_REASONS.get(error.kind, "the API had a fault")
        self._context.listener(
            Waiting(why, delay_s, attempt=self._failures + 1, attempts=self._context.retry_policy.max_retries + 1),
        )

    def _record_usage(self, stream: MessageStream, entry: OpenEntry) -> tuple[Decimal | None, Decimal]:
        """What a request cost by the price list (None: unknown), and what it takes from the budgets; both booked."""
        usage = stream.usage()
        cost = stream_cost(stream)
        self._context.usage.add_request(usage, cost, stream.first_text_at)
        sent = usage.input_tokens + usage.cache_read_input_tokens + usage.cache_creation_input_tokens
        # A cut stream whose thinking was neither shown nor counted may have cost all that was held for it.
        unseen = stream.has_invalid_usage or (usage.estimated and stream.has_thinking and not usage.thinking_tokens)
        least = entry.reserved_micros if unseen else 0
        spent = self._context.spending_limit.record_cost(
            cost, output_tokens=usage.output_tokens, input_tokens=sent, min_micros=least
        )
        return cost, spent

    def _outcome(self, stream: MessageStream, error: CallError | None = None) -> LoopOutcome:
        self._context.answer_buffer.end_stream(complete=stream.stop_reason in COMPLETE_STOP_REASONS)
        return LoopOutcome(
            stream=stream,
            blocks=self._messages.all_blocks(stream.blocks),
            max_tokens=self._max_tokens,
            container_id=self._messages.container_id,
            error=error,
        )


def stream_cost(stream: MessageStream) -> Decimal | None:
    """What one request cost. Nothing where it never began, nor where Claude declined before it wrote anything
    (platform.claude.com/docs, "Streaming refusals": not billed, although usage shows tokens).
    """
    if not stream.has_started or (stream.stop_reason == "refusal" and not stream.text):
        return Decimal(0)
    if stream.has_invalid_usage:  # a price of nonsense would be nonsense
        return None
    usage = stream.usage()
    return pricing.request_cost(
        usage.model, usage, cache_creation_1h_input_tokens=stream.cache_creation_1h_input_tokens
    )
