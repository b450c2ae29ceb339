"""The corridor that every call walks through: admit, record, ask, complete, account."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from mcp_server_claude import files
from mcp_server_claude.anthropic_api import (
    MAX_WEB_SEARCHES,
    OVERESTIMATE_FACTOR,
    TOO_LONG_MESSAGE,
    build_request_body,
    models,
)
from mcp_server_claude.call_types import Reply, Waiting
from mcp_server_claude.engine import (
    build_reply,
    citations,
    fallback_model,
    output_file_downloads,
    retry_policy,
    stop_reasons,
)
from mcp_server_claude.engine.answer_buffer import Draft
from mcp_server_claude.engine.call_request_body import request
from mcp_server_claude.engine.cost_estimate import Quote, quotes
from mcp_server_claude.engine.fallback_model import Spare
from mcp_server_claude.engine.file_uploads import Uploads
from mcp_server_claude.engine.journal_writer import Record
from mcp_server_claude.engine.ledger_writer import Book
from mcp_server_claude.engine.output_file_downloads import Products
from mcp_server_claude.engine.rate_limit_cooldown import Brake
from mcp_server_claude.engine.request_loop import Errand, Means
from mcp_server_claude.engine.spending_limit import Purse
from mcp_server_claude.engine.stream_watchdog import Watch, beside
from mcp_server_claude.engine.structured_output import Form
from mcp_server_claude.engine.usage_accumulator import Account
from mcp_server_claude.errors import Failure, Misconfigured, Refused, Unavailable
from mcp_server_claude.telemetry.call_spans import call_span

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from mcp_server_claude.anthropic_api import ClaudeClient
    from mcp_server_claude.anthropic_api.models import ClaudeModel, ModelListCache, StaticModelList
    from mcp_server_claude.call_types import Call, Listen
    from mcp_server_claude.settings import Settings
    from mcp_server_claude.telemetry.call_spans import CallSpan

__all__ = ["Book", "Engine", "Quote"]


class Engine:
    """Answers calls. Holds what lives as long as the server; a call lives in local variables.

    A call ends in one of four ways: complete; incomplete, with the text there is and a sentence on why; failed, a
    `Failure` with the account of what was tried; refused, a `Failure` before anything was sent.
    """

    def __init__(
        self,
        settings: Settings,
        claude: ClaudeClient,
        catalogue: ModelListCache | StaticModelList,
        book: Book,
        rules: files.FilePolicy,
    ) -> None:
        self._settings = settings
        self._claude = claude
        self._models = catalogue
        self._book = book
        self._rules = rules
        self.products = Products(claude, book.store)
        self._uploads = Uploads(settings, claude)
        self._brake = Brake()
        self._spare_brake = Brake()  # the other model does not wait for the one that is overloaded
        self._places = anyio.Semaphore(settings.max_concurrent)
        self._policy = retry_policy.Policy(
            deadline_s=settings.deadline_s, retry_for_s=settings.retry_for_s, most=settings.max_retries
        )

    async def answer(self, call: Call, listen: Listen) -> Reply:
        """Answer `call`, telling `listen` what happens on the way.

        Raises:
            Failure: There is no answer text; `failure.usage` is the account when a request was made.
        """
        with call_span(call, listen, self._settings) as seen:
            return seen.record_reply(await self._answer(seen.call, seen.listener, seen))

    async def _answer(self, call: Call, listen: Listen, seen: CallSpan) -> Reply:
        model = asked = await self.admit(call)
        spare = await self._spare(call, asked)
        form = None if call.schema is None else Form(call.schema, model)
        draft, account = Draft(listen, hold=form is not None or spare.model is not None), Account(call)
        why = ""
        seen.set_model(model.id, account.usage)
        troubles = self._book.store.error_count
        record = Record(self._book.store, self._book.worker, call, draft, model=model.id)
        watch = Watch(self._settings, tick=record.save)
        means = Means(
            claude=self._claude,
            book=self._book,
            brake=self._brake,
            policy=self._policy if spare.model is None else fallback_model.impatient(self._policy),
            purse=Purse(self._settings, call, model),
            draft=draft,
            account=account,
            watch=watch,
            cache=self._settings.cache,
            form=form,
            rules=self._rules,
            listen=listen,
        )
        try:
            async with self._place(listen), beside(watch.run):
                errand = Errand(call, model, means)
                ended = await errand.run()
                why = fallback_model.due(ended)
                if why and spare.model is not None:
                    listen(Waiting(f"{asked.id} {why}, asking {spare.model.id}"))
                    model, means = spare.model, self._instead(call, asked, spare.model, means)
                    errand = Errand(fallback_model.asked_of(call, model), model, means)
                    ended = await errand.run()
                if ended.failure is not None and ended.failure.kind == "too_long":
                    ended = replace(ended, failure=await self._measured(ended.failure, call, model))
                data = None if means.form is None else await build_reply.formed(means.form, errand, ended, means)
            made = await self.products.record(call, ended.blocks)
            if made and ended.failure is None and not draft.text.strip():
                draft.add(output_file_downloads.SILENT)
            cited = citations.citations(ended.blocks)
            draft.add(citations.links(cited))
            if data is not None:
                reply = Reply(text=draft.text, usage=replace(account.usage(), complete=True))
            else:
                reply = build_reply.reply(ended, draft.text, account, model)
                draft.release()
        except Failure as failure:
            if failure.kind == "not_found":
                self._uploads.forget()
            told = fallback_model.also(failure, spare.of(asked, why)) if why and spare.of(asked, why) else failure
            told.usage = replace(account.usage(), complete=False)  # also where Claude ended its turn without a word
            record.close("failed", told.usage, str(told), told.as_json())
            raise told from None
        except BaseException:  # cancelled, or a bug: either way the text stays
            if means.form is None:
                draft.release()
            record.close("cancelled", account.usage(), "The call was cancelled.")
            raise
        record.close("incomplete" if reply.incomplete else "complete", reply.usage, reply.incomplete)
        fell = "" if model is asked else fallback_model.told(reply.usage.by_model, why)
        notes = (*call.notes, fell, model.lifecycle_note, *self._money(means), self._book.store.error_since(troubles))
        return Reply(
            text=reply.text,
            usage=reply.usage,
            # Thinking is bound to the model that thought it, and a conversation goes on with the one that it names.
            blocks=reply.blocks if model is asked else tuple(fallback_model.without_thinking(reply.blocks)),
            incomplete=reply.incomplete,
            notes=tuple(note for note in notes if note),
            citations=cited,
            data=data,
            files=made,
            container=ended.container,
        )

    async def prepare(self, call: Call, listen: Listen | None = None) -> Call:
        """The call with its model resolved and its files read, checked as far as that goes before anything is sent.

        Where somebody listens it is about to be answered: then files are uploaded, if that is switched on.

        Raises:
            Failure: The call cannot be sent like this.
        """
        model = await self.admit(call)
        call = replace(call, model=model.id)
        if not call.files:
            return call
        rules = self._uploads.rules(self._rules, call)
        read = partial(files.build_attachments, call.files, rules, images=model.images, pdf=model.pdf, model=model.id)
        gathered = await anyio.to_thread.run_sync(read, abandon_on_cancel=True)
        attached = await self._uploads.placed(gathered, call, listen)
        call = replace(call, files=(), attached=attached, notes=gathered.notes)
        self._claude.platform.check_call(call)
        return call

    async def admit(self, call: Call) -> ClaudeModel:
        """The model of a call, checked for what it accepts, before anything is sent.

        Raises:
            Failure: The call cannot be sent like this.
        """
        budgeted = self._settings.budget_usd_per_day is not None or call.limits.usd_per_day is not None
        if budgeted and not self._book.store.durable:
            raise Misconfigured(f"A budget is set, but it cannot be kept. {self._book.trouble}", kind="ledger")
        await self._claude.get_client()
        catalogue = await self._models.get_catalog()
        platform = self._claude.platform
        model = catalogue.resolve_model(call.model, default=self._settings.model or "sonnet")
        model = model.without_features(platform.unsupported_for(model.id))
        platform.check_call(call)
        models.check_model_accepts(model, effort=call.effort, max_tokens=call.max_tokens, tools=call.tools)
        if call.schema is not None:
            if call.tools:
                raise Refused(
                    "schema and tools cannot be combined. Ask with tools first, then for the JSON in the same thread."
                )
            Form(call.schema, model)
        return model

    async def _spare(self, call: Call, asked: ClaudeModel) -> Spare:
        """The model to ask instead, where one is configured, checked for this call as the one that was asked for is."""
        name = self._settings.fallback_model
        if not name:
            return Spare()
        try:
            model = await self.admit(replace(call, model=name))
            fallback_model.fits(call, model)
        except Failure as failure:
            return Spare(unfit=f"The fallback model ({name}) could not be asked instead: {failure}")
        return Spare() if model.id == asked.id else Spare(model=model)

    def _instead(self, call: Call, asked: ClaudeModel, model: ClaudeModel, means: Means) -> Means:
        """What the other model works with: the same money, and draft and account begun anew."""
        form = None if call.schema is None else Form(call.schema, model)
        elapsed = means.account.usage().duration_s
        means.account.fall_back(asked.id, model.id)
        means.draft.restart(hold=form is not None)
        return replace(
            means,
            brake=self._spare_brake,
            policy=replace(self._policy, deadline_s=max(0.0, self._policy.deadline_s - elapsed)),
            purse=means.purse.of(model),
            form=form,
        )

    async def _measured(self, failure: Failure, call: Call, model: ClaudeModel) -> Failure:
        """The failure of a prompt that is too long, saying by how much also where the API does not."""
        if str(failure) != TOO_LONG_MESSAGE or not model.context_tokens:
            return failure
        with suppress(Failure):
            counted = await self._claude.count_tokens(build_request_body(call, model=model.id, max_tokens=1))
            tokens = counted.tokens if counted.exact else round(counted.tokens / OVERESTIMATE_FACTOR)
            message = stop_reasons.too_long(tokens, model.context_tokens, exact=counted.exact)
            return Refused(message, kind=failure.kind, request_id=failure.request_id, status=failure.status)
        return failure

    def _money(self, means: Means) -> tuple[str, ...]:
        """What is to be said of the price, and of how a limit was kept."""
        platform = self._claude.platform
        guessed = means.purse.limited and "count_tokens" in platform.unsupported
        return means.purse.note, f"input estimated for the limit: {platform.title} counts no tokens" if guessed else ""

    async def quote(self, call: Call) -> tuple[Quote, ...]:
        """What `call` would cost, and what the alternatives would. The input is counted; nothing is generated.

        Raises:
            Failure: The call cannot be sent like this.
        """
        model = await self.admit(call)
        max_tokens = model.max_tokens_for(call.max_tokens)
        form = None if call.schema is None else Form(call.schema, model)
        counted = await self._claude.count_tokens(request(call, model, form, max_tokens=max_tokens))
        if "read" in call.tools:  # nobody would be there to look
            model = model.without_features(frozenset({"batch"}))
        offers = quotes(
            await self._models.get_catalog(),
            model,
            input_tokens=counted.tokens,
            max_tokens=max_tokens,
            searches=MAX_WEB_SEARCHES if "web" in call.tools else 0,
            cache=self._settings.cache,
        )
        return tuple(replace(each, estimated=not counted.exact) for each in offers)

    @asynccontextmanager
    async def _place(self, listen: Listen) -> AsyncGenerator[None]:
        """A place among the calls that run at the same time; who has to wait for one is told so.

        Raises:
            Unavailable: None became free within the call's deadline.
        """
        try:
            self._places.acquire_nowait()
        except anyio.WouldBlock:
            listen(Waiting(f"waiting for a place, {self._settings.max_concurrent} calls are running"))
            with anyio.move_on_after(self._settings.deadline_s) as patience:
                await self._places.acquire()
            if patience.cancelled_caught:
                raise Unavailable("No place became free for the call in time. Try again.", kind="busy") from None
        try:
            yield
        finally:
            self._places.release()
