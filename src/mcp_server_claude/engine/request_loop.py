"""One call on its way: as many requests as it takes, each with its line in the ledger, until there is an answer.

What is sent next depends on two things only, what has been told of the answer so far and how the last stream ended:

    nothing told yet                       the same request again
    text told, and nothing but text came   its continuation: prefill where the model takes it, else a plea to go on
    text told, and server tools were used  nothing; what there is stays, as incomplete
    `pause_turn`                           the content back unchanged, at most `PAUSES` times
    `tool_use`, where it may look around   what it asked for, at most `ROUNDS` times

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
from mcp_server_claude.anthropic_api import MessageStream
from mcp_server_claude.call_types import CHARS_PER_TOKEN, COMPLETE, Waiting
from mcp_server_claude.engine import retry_policy
from mcp_server_claude.engine.call_request_body import request
from mcp_server_claude.engine.continuation import PLEA, anchor_of
from mcp_server_claude.engine.file_tools import ROUNDS, Reading
from mcp_server_claude.engine.request_messages import Turn
from mcp_server_claude.errors import Failure, Unavailable
from mcp_server_claude.lone_surrogates import replace_lone_surrogates
from mcp_server_claude.store.budget_reservations import InsufficientBudget

if TYPE_CHECKING:
    from mcp_server_claude.anthropic_api import CacheTtl, ClaudeClient, RequestBody
    from mcp_server_claude.anthropic_api.models import ClaudeModel
    from mcp_server_claude.call_types import Block, Call, Listen, Message
    from mcp_server_claude.engine.answer_buffer import Draft
    from mcp_server_claude.engine.ledger_writer import Book, Line
    from mcp_server_claude.engine.rate_limit_cooldown import Brake
    from mcp_server_claude.engine.spending_limit import Purse
    from mcp_server_claude.engine.stream_watchdog import Watch
    from mcp_server_claude.engine.structured_output import Form
    from mcp_server_claude.engine.usage_accumulator import Account
    from mcp_server_claude.files import FilePolicy

PAUSES = 10
"""How often a paused turn is sent back: each time is a request, and a turn that never ends must."""
CONTINUATIONS = 10
"""How often a broken answer is continued: each time the whole prompt is paid for again."""
LEAST_CONTINUATION = 256
"""Tokens that a continuation may take at least, however long the text before it was estimated to be."""
BRAKING = frozenset({"rate_limit", "overloaded"})

WHY = {
    "overloaded": "overloaded",
    "rate_limit": "rate limit reached",
    "stall": "nothing comes",
    "truncated": "the stream was cut",
    "connection": "connection lost",
    "refused": "nothing listens upstream",
    "protocol": "the stream was garbled",
}
"""What a person is told while the call waits to try again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How an errand ended: the last stream, what was asked of it, where code ran, and the failure that was final."""

    answer: MessageStream
    blocks: tuple[Block, ...]
    max_tokens: int
    container: str = ""
    failure: Failure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What an errand works with; all of it belongs to the engine or to the call."""

    claude: ClaudeClient
    book: Book
    brake: Brake
    policy: retry_policy.Policy
    purse: Purse
    draft: Draft
    account: Account
    watch: Watch
    cache: CacheTtl
    form: Form | None
    rules: FilePolicy
    listen: Listen


class Errand:
    """Pursues one call."""

    def __init__(self, call: Call, model: ClaudeModel, means: Means) -> None:
        self._call = call
        self._model = model
        self._means = means
        self._began = time.monotonic()
        self._failures = 0
        self._failing_since = 0.0
        self._told_before = 0
        self._only_thought = 0
        self._turn = Turn(call)
        self._reading = Reading(means.rules, model)
        self._looks = 0
        self._pauses = 0
        self._continuations = 0
        self._turned_back = False
        self._max_tokens = means.purse.wanted(model.max_tokens_for(call.max_tokens))

    async def run(self) -> Ended:
        """Send, and send again, until the answer is there or nothing more can be done."""
        while True:
            answer = MessageStream(self._means.draft.hear)
            self._told_before = len(self._means.draft.text)
            failure = await self._send(answer)
            self._turn.contain(answer, failure)
            if answer.stop_reason == "pause_turn" and self._pauses < PAUSES:
                self._carry(answer)
                continue
            if answer.stop_reason == "tool_use" and self._may_look and self._looks < ROUNDS:
                await self._look(answer)
                continue
            if answer.stop_reason is not None:
                return self._ended(answer)
            failure = failure or Unavailable("The connection ended before the answer did.", kind="truncated")
            pause = self._pause(failure) if self._can_go_on(answer, failure) else None
            if pause is None:
                return self._ended(answer, failure)
            self._turn_back(failure, pause)
            await anyio.sleep(pause)

    async def again(self, answer: str, plea: str) -> Ended:
        """Once more, after the answer that did not do."""
        self._turn.again(answer, plea)
        return await self.run()

    async def _send(self, answer: MessageStream) -> Failure | None:
        """Make one request. Its line in the ledger is completed whatever happens."""
        means = self._means
        try:
            await means.brake.wait(means.listen, patience_s=means.policy.deadline_s - (time.monotonic() - self._began))
            sent = self._request()
            line = await self._begin(sent)
        except Failure as failure:
            return failure
        means.account.attempts += 1
        means.account.retries += self._turned_back
        self._turned_back = False
        answer.on_start = line.note
        failure = None
        try:
            await means.watch.guard(answer, partial(means.claude.stream_message, sent, answer))
        except Failure as error:
            failure = error
            answer.request_id = answer.request_id or error.request_id  # an HTTP error has one too
        except BaseException:
            line.close_later(answer, *self._costs(answer, line))
            raise
        await line.close(answer, failure, *self._costs(answer, line))
        means.brake.read(answer.headers)
        if failure is not None and failure.kind in BRAKING and failure.retry_after_s is not None:
            means.brake.pull(failure.retry_after_s)
        return failure

    async def _begin(self, request: RequestBody) -> Line:
        """The ledger's line for a request, with what it may cost reserved, and `max_tokens` cut to what that pays for.

        Raises:
            Failure: There is not enough left for it.
        """
        means, ask, counted = self._means, None, 0
        wanted = cast("int", request["max_tokens"])
        if means.purse.limited:
            counted = await means.claude.count_input_tokens(request)
            ask = means.purse.ask(counted, wanted)
        credential = means.claude.credential
        line = await means.book.begin(
            self._call,
            attempt=means.account.attempts + 1,
            model=self._model.id,
            base_url=credential.base_url if credential else "",
            ask=ask,
        )
        if isinstance(line, InsufficientBudget):
            raise means.purse.refusal(line)
        if ask is not None:
            affordable = means.purse.affordable(line.granted, counted)
            request["max_tokens"] = min(wanted, affordable)
            means.account.capped = affordable < wanted
        return line

    def _request(self) -> RequestBody:
        """What is sent next; the table at the top of this module."""
        told = replace_lone_surrogates(self._means.draft.text)  # lone surrogates cannot be sent
        left = self._max_tokens
        going_on: list[Message] = []
        if self._turn.goes_on:
            self._means.draft.go_on()
        elif told.strip() and self._means.form is None:
            going_on.append({"role": "assistant", "content": told.rstrip()})
            anchor = "" if self._model.accepts_prefill else anchor_of(told)
            if anchor:
                going_on.append({"role": "user", "content": PLEA.format(anchor=anchor)})
            self._means.draft.next_stream(anchor=anchor)
            self._means.account.resumed = True
            left = max(LEAST_CONTINUATION, left - round(len(told) / CHARS_PER_TOKEN))
        else:
            self._means.draft.next_stream()
        made = request(
            self._call,
            self._model,
            self._means.form,
            max_tokens=min(left, self._max_tokens),
            messages=self._turn.messages(going_on),
            cache=self._means.cache,
        )
        if self._turn.container and "tools" in made:
            made["container"] = self._turn.container
        return made

    @property
    def _may_look(self) -> bool:
        return "read" in self._call.tools

    async def _look(self, answer: MessageStream) -> None:
        """Do what the delegate asks for, and give it what came of it."""
        self._failures = 0
        self._looks += 1
        told = bool(self._means.draft.text)
        self._means.draft.go_on(whole=True)
        asked = self._turn.answer(answer.blocks)
        self._turn.look(asked, await self._reading.results(asked, self._means.listen))
        if told:
            self._means.draft.add("\n\n")

    def _carry(self, answer: MessageStream) -> None:
        """A paused turn goes back as it came; the next stream begins where this one ended."""
        self._pauses += 1
        self._failures = 0
        self._turn.pause(answer.blocks)
        self._means.draft.go_on(whole=True)

    def _can_go_on(self, answer: MessageStream, failure: Failure) -> bool:
        """Whether there is anything that may be sent after a stream that broke."""
        told = self._means.draft.text
        if self._turn.goes_on:
            return len(told) == self._told_before
        if told.strip() and self._means.form is None:
            self._continuations += 1
            return answer.has_only_text and self._continuations <= CONTINUATIONS
        if failure.kind == "stall" and answer.has_thinking:
            self._only_thought += 1
            return self._only_thought <= 1
        return True

    def _pause(self, failure: Failure) -> float | None:
        """Seconds to wait before the next try, None to give up. A stream that brought text begins a new count."""
        now = time.monotonic()
        if not self._failures or len(self._means.draft.text) > self._told_before:
            self._failures, self._failing_since = 0, now
        self._failures += 1
        trouble = retry_policy.Trouble(
            kind=failure.kind,
            retryable=failure.retryable and failure.kind != "deadline",
            failures=self._failures,
            failing_s=now - self._failing_since,
            elapsed_s=now - self._began,
            retry_after_s=failure.retry_after_s,
            should_retry=failure.should_retry,
        )
        return retry_policy.wait(self._means.policy, trouble, random.random())  # noqa: S311 - jitter, not a secret

    def _turn_back(self, failure: Failure, pause: float) -> None:
        self._turned_back = True
        why = WHY.get(failure.kind, "the API had a fault")
        self._means.listen(
            Waiting(why, pause, attempt=self._failures + 1, attempts=self._means.policy.most + 1),
        )

    def _costs(self, answer: MessageStream, line: Line) -> tuple[Decimal | None, Decimal]:
        """What a request cost by the price list (None: unknown), and what it takes from the budgets; both booked."""
        usage = answer.usage()
        cost = cost_of(answer)
        self._means.account.add(usage, cost, answer.first_text_at)
        sent = usage.input_tokens + usage.cache_read_input_tokens + usage.cache_creation_input_tokens
        # A cut stream whose thinking was neither shown nor counted may have cost all that was held for it.
        unseen = usage.estimated and answer.has_thinking and not usage.thinking_tokens
        least = line.granted if unseen else 0
        spent = self._means.purse.spend(cost, output_tokens=usage.output_tokens, input_tokens=sent, least=least)
        return cost, spent

    def _ended(self, answer: MessageStream, failure: Failure | None = None) -> Ended:
        self._means.draft.end_stream(whole=answer.stop_reason in COMPLETE)
        return Ended(
            answer=answer,
            blocks=self._turn.blocks(answer.blocks),
            max_tokens=self._max_tokens,
            container=self._turn.container,
            failure=failure,
        )


def cost_of(answer: MessageStream) -> Decimal | None:
    """What one request cost. Nothing where it never began, nor where Claude declined before it wrote anything
    (platform.claude.com/docs, "Streaming refusals": not billed, although usage shows tokens).
    """
    if not answer.has_started or (answer.stop_reason == "refusal" and not answer.text):
        return Decimal(0)
    usage = answer.usage()
    return pricing.request_cost(
        usage.model, usage, cache_creation_1h_input_tokens=answer.cache_creation_1h_input_tokens
    )
