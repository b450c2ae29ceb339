"""The path of every call: check it, record it, run its requests, and build its reply."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio

from mcp_server_claude.anthropic_api.error_classification import TOO_LONG_MESSAGE
from mcp_server_claude.anthropic_api.request_body import may_use_web
from mcp_server_claude.anthropic_api.token_estimate import OVERESTIMATE_FACTOR
from mcp_server_claude.anthropic_api.web_allowance import FULL_WEB_ALLOWANCE
from mcp_server_claude.call_types import Reply, Waiting
from mcp_server_claude.engine import (
    build_reply,
    citations,
    fallback_model,
    output_file_downloads,
    retry_policy,
    stop_reasons,
)
from mcp_server_claude.engine.answer_buffer import AnswerBuffer
from mcp_server_claude.engine.batch_calls import BatchCalls
from mcp_server_claude.engine.call_admission import CallAdmission
from mcp_server_claude.engine.call_context import CallContext
from mcp_server_claude.engine.cost_estimate import CallVariant, CostEstimate, call_variants, cheaper_variants
from mcp_server_claude.engine.end_turns import EndTurns
from mcp_server_claude.engine.file_uploads import FileUploads
from mcp_server_claude.engine.journal_writer import JournalWriter, journal_bug, logged_internal_error
from mcp_server_claude.engine.ledger_writer import LedgerWriter
from mcp_server_claude.engine.output_file_downloads import OutputFiles
from mcp_server_claude.engine.rate_limit_cooldown import RateLimitCooldown, RateLimitCooldowns
from mcp_server_claude.engine.request_loop import RequestLoop
from mcp_server_claude.engine.spending_limit import SpendingLimit
from mcp_server_claude.engine.stream_watchdog import StreamWatchdog
from mcp_server_claude.engine.thread_repair import ThreadRepair, next_repair
from mcp_server_claude.engine.usage_accumulator import UsageAccumulator
from mcp_server_claude.errors import CallError, TemporaryError
from mcp_server_claude.telemetry.call_spans import call_span
from mcp_server_claude.text_log import TextLog

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from mcp_server_claude.anthropic_api.client import ClaudeClient, TokenCount
    from mcp_server_claude.anthropic_api.models import ClaudeModel, ModelListCache, StaticModelList
    from mcp_server_claude.anthropic_api.request_body import RequestBody
    from mcp_server_claude.call_types import Call, Listener
    from mcp_server_claude.engine.loop_outcome import LoopOutcome
    from mcp_server_claude.engine.prepared_call import PreparedCall
    from mcp_server_claude.files import FilePolicy
    from mcp_server_claude.settings import Settings
    from mcp_server_claude.telemetry.call_spans import CallSpan

__all__ = ["CostEstimate", "Engine", "LedgerWriter"]

MAX_READ_INTERVAL_S = 0.1
"""Seconds between two reads of a stream at most, for clients that get text every `progress_interval_s`. Other readers
get it more often: there an interval would save little and make text later."""
MISSING_FILE_NOTE = "no longer exists and was left out of the thread: {}"
DROPPED_THINKING_NOTE = "the thinking of earlier answers was left out because the API refused it"


class Engine:
    """Answers calls. Its attributes live as long as the server; the state of a call is in local variables.

    A call ends in one of four ways: complete; incomplete, with the text there is and a sentence on why; failed, a
    `CallError` with the usage of its requests; refused, a `CallError` before anything was sent.
    """

    def __init__(
        self,
        settings: Settings,
        claude: ClaudeClient,
        models: ModelListCache | StaticModelList,
        ledger: LedgerWriter,
        file_policy: FilePolicy,
    ) -> None:
        self._settings = settings
        self._claude = claude
        self._models = models
        self._ledger = ledger
        self._file_policy = file_policy
        self.output_files = OutputFiles(claude, ledger.store)
        self._uploads = FileUploads(settings, claude)
        self._admission = CallAdmission(
            settings, claude, models, ledger.store, file_policy, self._uploads, self.output_files
        )
        self.cooldowns = RateLimitCooldowns()
        self.batch_calls = BatchCalls(settings, claude, ledger, self._admission, self.output_files)
        self._slots = anyio.Semaphore(settings.max_concurrent)
        self._end_turns = EndTurns()
        self._retry_policy = retry_policy.RetryPolicy(
            deadline_s=settings.deadline_s, retry_for_s=settings.retry_for_s, max_retries=settings.max_retries
        )

    @property
    def account(self) -> str:
        """An identifier of the account that pays; empty before the client is open, or without a key."""
        return self._claude.account

    async def open_client(self) -> None:
        """Open the client of the API, so that the account is known.

        Raises:
            CallError: There is no usable key or base URL.
        """
        await self._claude.get_client()

    def cooldown_for(self, model_id: str) -> RateLimitCooldown:
        """The rate limit of a model, as the API's responses have stated it so far."""
        return self.cooldowns.for_model(model_id)

    async def prepare_call(self, call: Call, listener: Listener | None = None) -> PreparedCall:
        """Admit a call: check its arguments, resolve its model and read its files.

        With a `listener` it is about to be answered: then files are uploaded, if that is switched on.

        Raises:
            CallError: The call cannot be sent like this. A bug is of kind `internal`, as in `run_call`.
        """
        try:
            return await self._admission.admit(call, listener)
        except CallError:
            raise
        except Exception as bug:
            raise self._journal_bug(call) from bug

    async def run_call(self, prepared: PreparedCall, listener: Listener, text: TextLog | None = None) -> Reply:
        """Answer a call that was prepared; `listener` receives its events, and `text` the text of the answer.

        Raises:
            CallError: There is no answer text; `usage` is set if a request was made. A bug is of kind
                `internal`, with its traceback in the log.
        """
        with call_span(prepared.call, listener, self._settings) as span:
            try:
                return span.record_reply(await self._run_call(prepared.with_call(span.call), span, text or TextLog()))
            except CallError:
                raise
            except Exception as bug:  # before the call had a journal, or after it
                raise self._journal_bug(prepared.call) from bug

    async def _run_call(self, prepared: PreparedCall, span: CallSpan, text: TextLog) -> Reply:
        call, requested, listener = prepared.call, prepared.model, span.listener
        fallback = prepared.fallback.for_thread(call)
        is_buffered = prepared.output_schema is not None or fallback.model is not None
        buffer, usage = AnswerBuffer(listener, text, buffered=is_buffered), UsageAccumulator(call)
        reason = ""
        span.set_model(requested.id, usage.usage)
        error_count = self._ledger.store.error_count
        journal = JournalWriter(self._ledger.store, self._ledger.worker, call, buffer, model=requested.id)
        watchdog = StreamWatchdog(self._settings, prepared.deadline, on_tick=journal.save_text)
        policy = self._retry_policy
        context = CallContext(
            claude=self._claude,
            ledger=self._ledger,
            cooldown=self.cooldowns.for_model(requested.id),
            retry_policy=policy if fallback.model is None else fallback_model.with_early_fallback(policy),
            spending_limit=SpendingLimit(self._settings, call, requested, regional=self._claude.is_regional),
            answer_buffer=buffer,
            usage=usage,
            watchdog=watchdog,
            end_turns=self._end_turns,
            cache=self._settings.cache,
            file_policy=self._file_policy,
            listener=listener,
            read_interval_s=min(self._settings.progress_interval_s, MAX_READ_INTERVAL_S) if call.source == "mcp" else 0,
        )
        try:
            async with self._slot(prepared, listener):
                with watchdog.running():
                    prepared, loop, outcome = await _run_loop(prepared, context)
                    reason = fallback_model.fallback_reason(outcome)
                    if reason and fallback.model is not None:
                        listener(Waiting(f"{requested.id} {reason}, asking {fallback.model.id}"))
                        prepared = prepared.for_model(fallback.model)
                        context = self._fallback_context(requested, prepared, context)
                        prepared, loop, outcome = await _run_loop(prepared, context)
                    outcome = await self._with_token_count(outcome, prepared)
                    output = await build_reply.validated_output(prepared.output_schema, loop, outcome, context)
            output_files = await self.output_files.record_files(call, outcome.blocks)
            if output_files and outcome.error is None and not buffer.has_text:
                buffer.append_text(output_file_downloads.NO_TEXT_NOTE)
            buffer.append_text(citations.sources_markdown(cited := citations.extract_citations(outcome.blocks)))
            if output is not None:
                reply = Reply(text=buffer.text, usage=replace(usage.usage(), complete=True))
            else:
                reply = build_reply.reply_for_outcome(outcome, buffer.text, usage, prepared.model)
                buffer.publish_buffered_text()
        except CallError as failure:
            note = fallback.error_note(requested, reason) if reason else ""
            surplus_note = f"{each}." if (each := context.spending_limit.surplus_note) else ""
            error = await self._with_notes(failure, prepared.model, note, surplus_note)
            raise _close_failed(journal, usage, error) from None
        except Exception as bug:
            _publish_partial_text(prepared, buffer)
            raise _close_failed(journal, usage, logged_internal_error(call.id)) from bug
        except BaseException:
            _publish_partial_text(prepared, buffer)
            journal.close_journal("cancelled", usage.usage(), "The call was cancelled.")
            raise
        journal.close_journal("incomplete" if reply.incomplete else "complete", reply.usage, reply.incomplete)
        is_fallback = prepared.model is not requested
        notes = (
            *prepared.call.notes,
            fallback_model.answered_by_note(reply.usage.by_model, reason if is_fallback else "declined")
            if reply.usage.fallback_from
            else "",
            *outcome.notes,
            DROPPED_THINKING_NOTE if outcome.sent.dropped_thinking else "",
            MISSING_FILE_NOTE.format(", ".join(outcome.sent.missing_files)) if outcome.sent.missing_files else "",
            prepared.model.lifecycle_note,
            *self._cost_notes(context),
            self._ledger.store.error_since(error_count),
        )
        return Reply(
            text=reply.text,
            usage=reply.usage,
            # Thinking is bound to its model, and a conversation continues with the model that it names.
            blocks=tuple(fallback_model.without_thinking(reply.blocks)) if is_fallback else reply.blocks,
            incomplete=reply.incomplete,
            notes=tuple(note for note in notes if note),
            citations=cited,
            structured_output=output,
            files=output_files,
            container_id=outcome.container_id,
            sent=outcome.sent,
        )

    def _journal_bug(self, call: Call) -> CallError:
        return journal_bug(self._ledger.store, self._ledger.worker, call)

    def _fallback_context(self, requested: ClaudeModel, prepared: PreparedCall, context: CallContext) -> CallContext:
        """The context of the fallback model: the same spending limit, with the text withdrawn."""
        context.usage.switch_model(requested.id, prepared.model.id)
        context.answer_buffer.discard(buffered=prepared.output_schema is not None)
        return replace(
            context,
            cooldown=self.cooldowns.for_model(prepared.model.id),
            retry_policy=self._retry_policy,
            spending_limit=context.spending_limit.for_model(prepared.model),
        )

    async def _with_token_count(self, outcome: LoopOutcome, prepared: PreparedCall) -> LoopOutcome:
        """The outcome; of a prompt that is too long with the excess counted, if the API did not report it."""
        failure, context_tokens = outcome.error, prepared.model.context_tokens
        if failure is None or failure.kind != "too_long" or str(failure) != TOO_LONG_MESSAGE or not context_tokens:
            return outcome
        with suppress(CallError):
            without_schema = replace(prepared, output_schema=None)
            counted = await self._claude.count_tokens(
                self._first_request(without_schema, max_tokens=1, repair=self._first_repair(prepared))
            )
            tokens = counted.tokens if counted.exact else round(counted.tokens / OVERESTIMATE_FACTOR)
            message = stop_reasons.too_long_message(tokens, context_tokens, exact=counted.exact)
            return replace(outcome, error=failure.with_message(message))
        return outcome

    def _first_request(self, prepared: PreparedCall, *, max_tokens: int, repair: ThreadRepair) -> RequestBody:
        return prepared.first_request(account=self._claude.account, max_tokens=max_tokens, repair=repair)

    def _first_repair(self, prepared: PreparedCall) -> ThreadRepair:
        return ThreadRepair(merges_tools=prepared.call.merges_tools or not self._claude.takes_tool_additions)

    async def _count_first_request(self, prepared: PreparedCall, *, max_tokens: int) -> TokenCount:
        """The tokens of the first request, repaired as the call itself would be where the API refuses its thread."""
        takes_betas = self._claude.takes_thinking_betas
        can_drop_blocks = takes_betas and "adaptive" in prepared.model.thinking_types
        repair = replace(self._first_repair(prepared), drops_blocks=prepared.call.drops_thinking_blocks and takes_betas)
        while True:
            body = self._first_request(prepared, max_tokens=max_tokens, repair=repair)
            try:
                return await self._claude.count_tokens(body)
            except CallError as failure:
                history = prepared.thread_view(account=self._claude.account, repair=repair).history
                further = next_repair(repair, failure, history, can_drop_blocks=can_drop_blocks)
                if further is None:
                    raise
                repair = further

    async def _with_notes(self, failure: CallError, model: ClaudeModel, *notes: str) -> CallError:
        """The error with its notes. A model that the API does not know may be one whose retirement the list lacks."""
        retirement_note = ""
        if failure.kind == "not_found":
            self._uploads.invalidate()
            retirement_note = (await self._models.get_catalog()).retirement_note(model)
        return failure.with_message(" ".join(filter(None, (str(failure), retirement_note, *notes))))

    def _cost_notes(self, context: CallContext) -> tuple[str, ...]:
        """Notes on an unknown price, on an estimated limit, and on what a limit counts beyond the cost."""
        platform = self._claude.platform
        guessed = context.spending_limit.is_limited and "count_tokens" in platform.unsupported
        return (
            context.spending_limit.note,
            context.spending_limit.surplus_note,
            f"input estimated for the limit: {platform.title} counts no tokens" if guessed else "",
        )

    async def estimate_costs(self, prepared: PreparedCall) -> tuple[CostEstimate, ...]:
        """The estimated costs of a call and of its alternatives. The input is counted; nothing is generated.

        Raises:
            CallError: The call cannot be sent like this.
        """
        counted, variants = await self.count_input(prepared)
        return tuple(
            replace(each.price(counted.tokens), estimated=not counted.exact)
            for each in cheaper_variants(variants, counted.tokens)
        )

    async def count_input(self, prepared: PreparedCall) -> tuple[TokenCount, tuple[CallVariant, ...]]:
        """The tokens of a call's input, and the ways to make it. Nothing is generated.

        Raises:
            CallError: The call cannot be sent like this.
        """
        call, model = prepared.call, prepared.model
        max_tokens = model.max_tokens_for(call.max_tokens)
        body = self._first_request(prepared, max_tokens=max_tokens, repair=self._first_repair(prepared))
        await prepared.check_limits(body, self._claude.platform)
        try:
            counted = await self._count_first_request(prepared, max_tokens=max_tokens)
        except CallError as failure:
            in_words = prepared.with_schema_in_prompt(failure)
            if in_words is None:
                raise
            return await self.count_input(in_words)
        if "read" in call.tools:  # no reader would see it
            model = model.without_features(frozenset({"batch"}))
        return counted, call_variants(
            await self._models.get_catalog(),
            model,
            max_tokens=max_tokens,
            cache=self._settings.cache,
            regional=self._claude.is_regional,
            batches=not call.history and "batch" not in self._claude.platform.unsupported,
            in_batch=call.batch,
            web=FULL_WEB_ALLOWANCE if may_use_web(body) else None,
        )

    @asynccontextmanager
    async def _slot(self, prepared: PreparedCall, listener: Listener) -> AsyncGenerator[None]:
        """Hold one of the slots for concurrent calls; `listener` gets a `Waiting` event if none is free.

        The calls of jobs need none: their jobs bound their concurrency, and do not keep other calls waiting.

        Raises:
            TemporaryError: None became free within the call's deadline.
        """
        if prepared.call.job_id:
            yield
            return
        try:
            self._slots.acquire_nowait()
        except anyio.WouldBlock:
            listener(Waiting(f"waiting for a slot, {self._settings.max_concurrent} running now"))
            with anyio.move_on_after(prepared.deadline.remaining_s()) as wait_scope:
                await self._slots.acquire()
            if wait_scope.cancelled_caught:
                raise TemporaryError("No slot for the call became free in time. Try again.", kind="capacity") from None
        try:
            yield
        finally:
            self._slots.release()


async def _run_loop(prepared: PreparedCall, context: CallContext) -> tuple[PreparedCall, RequestLoop, LoopOutcome]:
    """Run the requests of a call, and again with its schema asked for in words where the API refuses its grammar."""
    loop = RequestLoop(prepared, context)
    outcome = await loop.run()
    in_words = prepared.with_schema_in_prompt(outcome.error)
    if in_words is None:
        return prepared, loop, outcome
    context.listener(Waiting("the API refuses the schema, asking for it in words"))
    loop = RequestLoop(in_words, context)
    return in_words, loop, await loop.run()


def _publish_partial_text(prepared: PreparedCall, buffer: AnswerBuffer) -> None:
    """Publish the text so far of a call that was cancelled or failed; JSON that was cut is no answer."""
    if prepared.output_schema is None:
        with suppress(Exception):  # the bug may be in a listener
            buffer.publish_buffered_text()


def _close_failed(journal: JournalWriter, usage: UsageAccumulator, error: CallError) -> CallError:
    """Close the journal of a failed call, and return the error with the usage of the call."""
    account = replace(usage.usage(), complete=False)  # also where Claude ended its turn without any text
    journal.close_journal("failed", account, str(error), error.as_json())
    return error.with_usage(account)
