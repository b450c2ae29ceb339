"""The path of every call: check it, record it, run its requests, and build its reply."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from mcp_server_claude import files
from mcp_server_claude.anthropic_api import models
from mcp_server_claude.anthropic_api.error_classification import TOO_LONG_MESSAGE
from mcp_server_claude.anthropic_api.request_body import MAX_WEB_SEARCHES
from mcp_server_claude.anthropic_api.token_estimate import OVERESTIMATE_FACTOR
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
from mcp_server_claude.engine.call_context import CallContext
from mcp_server_claude.engine.call_request_body import call_request_body, check_request_limits
from mcp_server_claude.engine.cost_estimate import CostEstimate, cost_estimates
from mcp_server_claude.engine.fallback_model import FallbackModel
from mcp_server_claude.engine.file_uploads import FileUploads
from mcp_server_claude.engine.journal_writer import JournalWriter
from mcp_server_claude.engine.ledger_writer import LedgerWriter
from mcp_server_claude.engine.output_file_downloads import OutputFiles
from mcp_server_claude.engine.rate_limit_cooldown import RateLimitCooldowns
from mcp_server_claude.engine.request_loop import RequestLoop
from mcp_server_claude.engine.spending_limit import SpendingLimit
from mcp_server_claude.engine.stream_watchdog import StreamWatchdog, background_task
from mcp_server_claude.engine.structured_output import OutputSchema
from mcp_server_claude.engine.thread_history import is_refused_thinking, thread_view
from mcp_server_claude.engine.usage_accumulator import UsageAccumulator
from mcp_server_claude.errors import CallError, ConfigurationError, RequestError, TemporaryError, internal_error
from mcp_server_claude.telemetry.call_spans import call_span

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from mcp_server_claude.anthropic_api.client import ClaudeClient, TokenCount
    from mcp_server_claude.anthropic_api.models import ClaudeModel, ModelListCache, StaticModelList
    from mcp_server_claude.anthropic_api.request_body import RequestBody
    from mcp_server_claude.call_types import Block, Call, Listener
    from mcp_server_claude.settings import Settings
    from mcp_server_claude.telemetry.call_spans import CallSpan

_log = logging.getLogger(__name__)

__all__ = ["CostEstimate", "Engine", "LedgerWriter"]

DROPPED_THINKING_NOTE = "the thinking of earlier answers was left out, the API refused it"


class Engine:
    """Answers calls. Holds what lives as long as the server; a call lives in local variables.

    A call ends in one of four ways: complete; incomplete, with the text there is and a sentence on why; failed, a
    `CallError` with the account of what was tried; refused, a `CallError` before anything was sent.
    """

    def __init__(
        self,
        settings: Settings,
        claude: ClaudeClient,
        models: ModelListCache | StaticModelList,
        ledger: LedgerWriter,
        file_policy: files.FilePolicy,
    ) -> None:
        self._settings = settings
        self._claude = claude
        self._models = models
        self._ledger = ledger
        self._file_policy = file_policy
        self.output_files = OutputFiles(claude, ledger.store)
        self._uploads = FileUploads(settings, claude)
        self._cooldowns = RateLimitCooldowns()
        self._slots = anyio.Semaphore(settings.max_concurrent)
        self._retry_policy = retry_policy.RetryPolicy(
            deadline_s=settings.deadline_s, retry_for_s=settings.retry_for_s, max_retries=settings.max_retries
        )

    async def run_call(self, call: Call, listener: Listener) -> Reply:
        """Answer `call`; `listener` receives its events.

        Raises:
            CallError: There is no answer text; `usage` is the account if a request was made. A bug is of kind
                `internal`, with its traceback in the log.
        """
        with call_span(call, listener, self._settings) as span:
            try:
                return span.record_reply(await self._run_call(span.call, span.listener, span))
            except CallError:
                raise
            except Exception as bug:  # before the call had a journal, or after it
                raise _logged_internal_error(call.id) from bug

    async def _run_call(self, call: Call, listener: Listener, span: CallSpan) -> Reply:
        model = asked = await self.admit_call(call)
        spare = await self._fallback_model(call, asked)
        form = None if call.schema is None else OutputSchema(call.schema, model)
        draft, account = (
            AnswerBuffer(listener, buffered=form is not None or spare.model is not None),
            UsageAccumulator(call),
        )
        why = ""
        span.set_model(model.id, account.usage)
        troubles = self._ledger.store.error_count
        record = JournalWriter(self._ledger.store, self._ledger.worker, call, draft, model=model.id)
        watch = StreamWatchdog(self._settings, on_tick=record.save_text)
        means = CallContext(
            claude=self._claude,
            ledger=self._ledger,
            cooldown=self._cooldowns.for_model(model.id),
            retry_policy=self._retry_policy
            if spare.model is None
            else fallback_model.with_early_fallback(self._retry_policy),
            spending_limit=SpendingLimit(self._settings, call, model, regional=self._claude.is_regional),
            answer_buffer=draft,
            usage=account,
            watchdog=watch,
            cache=self._settings.cache,
            output_schema=form,
            file_policy=self._file_policy,
            listener=listener,
        )
        try:
            async with self._slot(listener), background_task(watch.run):
                errand = RequestLoop(call, model, means)
                ended = await errand.run()
                why = fallback_model.fallback_reason(ended)
                if why and spare.model is not None:
                    listener(Waiting(f"{asked.id} {why}, asking {spare.model.id}"))
                    model, means = spare.model, self._fallback_context(call, asked, spare.model, means)
                    errand = RequestLoop(replace(call, model=model.id), model, means)
                    ended = await errand.run()
                if ended.error is not None and ended.error.kind == "too_long":
                    ended = replace(ended, error=await self._with_token_count(ended.error, call, model))
                data = (
                    None
                    if means.output_schema is None
                    else await build_reply.validated_output(means.output_schema, errand, ended, means)
                )
            made = await self.output_files.record_files(call, ended.blocks)
            if made and ended.error is None and not draft.text.strip():
                draft.append_text(output_file_downloads.NO_TEXT_NOTE)
            cited = citations.extract_citations(ended.blocks)
            draft.append_text(citations.sources_markdown(cited))
            if data is not None:
                reply = Reply(text=draft.text, usage=replace(account.usage(), complete=True))
            else:
                reply = build_reply.reply_for_outcome(ended, draft.text, account, model)
                draft.flush()
        except CallError as failure:
            if failure.kind == "not_found":
                self._uploads.invalidate()
            note = spare.error_note(asked, why) if why else ""
            error = failure.with_message(f"{failure} {note}") if note else failure
            raise _close_failed(record, account, error) from None
        except Exception as bug:
            _save_text(means)
            raise _close_failed(record, account, _logged_internal_error(call.id)) from bug
        except BaseException:
            _save_text(means)
            record.close_journal("cancelled", account.usage(), "The call was cancelled.")
            raise
        record.close_journal("incomplete" if reply.incomplete else "complete", reply.usage, reply.incomplete)
        fell = (
            fallback_model.answered_by_note(reply.usage.by_model, why if model is not asked else "declined")
            if reply.usage.fallback_from
            else ""
        )
        notes = (
            *call.notes,
            fell,
            DROPPED_THINKING_NOTE if ended.sent.dropped_thinking else "",
            model.lifecycle_note,
            *self._cost_notes(means),
            self._ledger.store.error_since(troubles),
        )
        return Reply(
            text=reply.text,
            usage=reply.usage,
            # Thinking is bound to the model that thought it, and a conversation goes on with the one that it names.
            blocks=reply.blocks if model is asked else tuple(fallback_model.without_thinking(reply.blocks)),
            incomplete=reply.incomplete,
            notes=tuple(note for note in notes if note),
            citations=cited,
            structured_output=data,
            files=made,
            container_id=ended.container_id,
            sent=ended.sent,
        )

    async def prepare_call(self, call: Call, listener: Listener | None = None) -> Call:
        """The call with its model resolved and its files read, checked as far as that goes before anything is sent.

        Where somebody listens it is about to be answered: then files are uploaded, if that is switched on.

        Raises:
            CallError: The call cannot be sent like this.
        """
        model = await self.admit_call(call)
        call = replace(call, model=model.id)
        if call.schema is not None:
            output_schema = OutputSchema(call.schema, model)
            prompt = output_schema.add_instruction(call.prompt)
            call = replace(call, prompt=prompt, notes=(*call.notes, *output_schema.notes))
        if not call.files:
            return call
        rules = self._uploads.file_policy_for(self._file_policy, call)
        limit = files.RunLimit()
        read = partial(
            files.build_attachments, call.files, rules, images=model.images, pdf=model.pdf, model=model.id, limit=limit
        )
        try:
            gathered = await anyio.to_thread.run_sync(read, abandon_on_cancel=True)
        finally:
            limit.cancel()
        attached: tuple[Block, ...] | None = None
        with anyio.move_on_after(self._settings.deadline_s):
            attached = await self._uploads.upload_blocks(gathered, call, listener)
        if attached is None:
            raise TemporaryError("The files could not be uploaded within the call's deadline.", kind="deadline")
        call = replace(call, files=(), attachments=attached, notes=(*call.notes, *gathered.notes))
        self._claude.platform.check_call(call)
        return call

    async def admit_call(self, call: Call) -> ClaudeModel:
        """The model of a call, checked for the call's parameters before anything is sent.

        Raises:
            CallError: The call cannot be sent like this.
        """
        budgeted = self._settings.budget_usd_per_day is not None or call.limits.usd_per_day is not None
        if budgeted and not self._ledger.store.durable:
            raise ConfigurationError(f"A budget is set, but it cannot be kept. {self._ledger.last_error}", kind="store")
        await self._claude.get_client()
        catalogue = await self._models.get_catalog()
        platform = self._claude.platform
        model = catalogue.resolve_model(call.model, default=self._settings.model or "sonnet")
        model = model.without_features(platform.unsupported_for(model.id))
        platform.check_call(call)
        models.check_model_accepts(model, effort=call.effort, max_tokens=call.max_tokens, tools=call.tools)
        if call.schema is not None:
            if call.tools:
                raise RequestError(
                    "schema and tools cannot be combined. Ask with tools first, then for the JSON in the same thread."
                )
            OutputSchema(call.schema, model)
        return model

    async def _fallback_model(self, call: Call, requested: ClaudeModel) -> FallbackModel:
        """The configured fallback model, checked for this call in the same way as the requested model."""
        name = self._settings.fallback_model
        if not name:
            return FallbackModel()
        try:
            model = await self.admit_call(replace(call, model=name))
            fallback_model.check_attachments(call, model)
        except CallError as failure:
            return FallbackModel(
                unavailable_reason=f"The fallback model ({name}) could not be asked instead: {failure}"
            )
        return FallbackModel() if model.id == requested.id else FallbackModel(model=model)

    def _fallback_context(
        self, call: Call, requested: ClaudeModel, model: ClaudeModel, context: CallContext
    ) -> CallContext:
        """The context of the fallback model: the same spending limit, with the text withdrawn."""
        form = None if call.schema is None else OutputSchema(call.schema, model)
        elapsed = context.usage.elapsed_s()
        context.usage.switch_model(requested.id, model.id)
        context.answer_buffer.discard(buffered=form is not None)
        return replace(
            context,
            cooldown=self._cooldowns.for_model(model.id),
            retry_policy=replace(self._retry_policy, deadline_s=max(0.0, self._retry_policy.deadline_s - elapsed)),
            spending_limit=context.spending_limit.for_model(model),
            output_schema=form,
        )

    async def _with_token_count(self, failure: CallError, call: Call, model: ClaudeModel) -> CallError:
        """The error for a prompt that is too long, with the excess counted if the API does not report it."""
        if str(failure) != TOO_LONG_MESSAGE or not model.context_tokens:
            return failure
        with suppress(CallError):
            counted = await self._claude.count_tokens(self._first_request(call, model, None, max_tokens=1))
            tokens = counted.tokens if counted.exact else round(counted.tokens / OVERESTIMATE_FACTOR)
            message = stop_reasons.too_long_message(tokens, model.context_tokens, exact=counted.exact)
            return RequestError(message, kind=failure.kind, request_id=failure.request_id, status=failure.status)
        return failure

    def _first_request(
        self, call: Call, model: ClaudeModel, form: OutputSchema | None, *, max_tokens: int, with_thinking: bool = True
    ) -> RequestBody:
        """The request that a call begins with."""
        account = self._claude.credential.account if self._claude.credential else ""
        view = thread_view(call, model, form, account=account, with_thinking=with_thinking)
        messages = [*view.history, call.user_message(), *view.rules]
        return call_request_body(call, model, form, view, max_tokens=max_tokens, messages=messages)

    async def _count_first_request(
        self, call: Call, model: ClaudeModel, form: OutputSchema | None, *, max_tokens: int
    ) -> TokenCount:
        """The tokens of the first request, without earlier thinking where the API refuses that."""
        try:
            return await self._claude.count_tokens(self._first_request(call, model, form, max_tokens=max_tokens))
        except CallError as failure:
            if not is_refused_thinking(failure):
                raise
        body = self._first_request(call, model, form, max_tokens=max_tokens, with_thinking=False)
        return await self._claude.count_tokens(body)

    def _cost_notes(self, context: CallContext) -> tuple[str, ...]:
        """Notes on an unknown price and on an estimated limit."""
        platform = self._claude.platform
        guessed = context.spending_limit.is_limited and "count_tokens" in platform.unsupported
        return (
            context.spending_limit.note,
            f"input estimated for the limit: {platform.title} counts no tokens" if guessed else "",
        )

    async def estimate_costs(self, call: Call) -> tuple[CostEstimate, ...]:
        """The estimated costs of `call` and of its alternatives. The input is counted; nothing is generated.

        Raises:
            CallError: The call cannot be sent like this.
        """
        model = await self.admit_call(call)
        max_tokens = model.max_tokens_for(call.max_tokens)
        form = None if call.schema is None else OutputSchema(call.schema, model)
        body = self._first_request(call, model, form, max_tokens=max_tokens)
        await check_request_limits(body, model, self._claude.platform)
        counted = await self._count_first_request(call, model, form, max_tokens=max_tokens)
        if "read" in call.tools:  # nobody would be there to look
            model = model.without_features(frozenset({"batch"}))
        offers = cost_estimates(
            await self._models.get_catalog(),
            model,
            input_tokens=counted.tokens,
            max_tokens=max_tokens,
            searches=MAX_WEB_SEARCHES if "web" in call.tools else 0,
            cache=self._settings.cache,
            regional=self._claude.is_regional,
        )
        return tuple(replace(each, estimated=not counted.exact) for each in offers)

    @asynccontextmanager
    async def _slot(self, listener: Listener) -> AsyncGenerator[None]:
        """Hold one of the slots for concurrent calls; `listener` gets a `Waiting` event if none is free.

        Raises:
            TemporaryError: None became free within the call's deadline.
        """
        try:
            self._slots.acquire_nowait()
        except anyio.WouldBlock:
            listener(Waiting(f"waiting for a place, {self._settings.max_concurrent} calls are running"))
            with anyio.move_on_after(self._settings.deadline_s) as patience:
                await self._slots.acquire()
            if patience.cancelled_caught:
                raise TemporaryError("No place became free for the call in time. Try again.", kind="capacity") from None
        try:
            yield
        finally:
            self._slots.release()


def _save_text(context: CallContext) -> None:
    """Publish the text so far of a call that was cancelled or failed; JSON that was cut is no answer."""
    if context.output_schema is None:
        with suppress(Exception):  # the bug may be in a listener
            context.answer_buffer.flush()


def _logged_internal_error(call_id: str) -> CallError:
    """Log the current exception, and return the error that a client gets in its place."""
    _log.exception("a bug ended the call %s", call_id)
    return internal_error(call_id)


def _close_failed(journal: JournalWriter, usage: UsageAccumulator, error: CallError) -> CallError:
    """Close the journal of a failed call, and return the error with the account of the call."""
    account = replace(usage.usage(), complete=False)  # also where Claude ended its turn without any text
    journal.close_journal("failed", account, str(error), error.as_json())
    return error.with_usage(account)
