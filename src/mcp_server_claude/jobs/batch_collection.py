"""The results of message batches: each batch is polled until it has ended, and each result is saved once."""

from __future__ import annotations

import logging
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING

from mcp_server_claude.anthropic_api import message_batches as batches_api
from mcp_server_claude.errors import CallError, RequestError, TemporaryError
from mcp_server_claude.jobs import item_outcomes
from mcp_server_claude.jobs.batch_items import postpone_batch, sent_call_of
from mcp_server_claude.store import message_batches
from mcp_server_claude.store.transaction import StoreError

if TYPE_CHECKING:
    from mcp_server_claude.anthropic_api.message_batches import BatchResult
    from mcp_server_claude.engine.batch_calls import BatchCalls
    from mcp_server_claude.engine.prepared_call import PreparedCall
    from mcp_server_claude.jobs.batch_items import BatchItems
    from mcp_server_claude.store import Store
    from mcp_server_claude.store.job_items import ClaimedItem
    from mcp_server_claude.store.job_records import JobRecord
    from mcp_server_claude.store.message_batches import BatchRecord

LOST_MESSAGE = "The results of the batch lack it. The same call asks again."
GONE_MESSAGE = "The results of its batch are no longer available. The same call asks again."

_log = logging.getLogger(__name__)


class BatchCollection:
    """Polls the batches that were submitted, cancels them, and saves their results."""

    def __init__(self, store: Store, calls: BatchCalls, items: BatchItems) -> None:
        self._store = store
        self._calls = calls
        self._claude = calls.claude
        self._items = items

    async def poll(self, job: JobRecord, batch: BatchRecord, *, stops: bool) -> bool:
        """Look at a batch, and save its results if it has ended. Returns True if it is closed then.

        Raises:
            CallError: The API does not report it, or the download of its results broke off.
        """
        if stops and not batch.cancel_requested:
            batch = await self._cancel(batch)
        try:
            upstream = await batches_api.retrieve_batch(self._claude, batch.upstream_id)
        except RequestError as error:
            if error.kind != "not_found":
                raise
            await self._close_as_gone(job, batch)
            return True
        if not upstream.has_ended:
            await postpone_batch(self._store, batch)
            return False
        if upstream.has_results:
            await self._collect(job, batch)
        else:
            await self._close_as_gone(job, batch)
        return True

    async def _cancel(self, batch: BatchRecord) -> BatchRecord:
        try:
            await batches_api.cancel_batch(self._claude, batch.upstream_id)
        except RequestError as error:  # it has ended, which the next request says
            _log.info("batch %s is not canceled: %s", batch.upstream_id, error)
        await self._store.write(message_batches.update_batch, batch, cancel_requested=1, polls=0)
        return replace(batch, cancel_requested=1, polls=0)

    async def _close_as_gone(self, job: JobRecord, batch: BatchRecord) -> None:
        await self._items.close_items(job, batch, RequestError(GONE_MESSAGE, kind="not_found"), may_have_cost=True)

    async def _collect(self, job: JobRecord, batch: BatchRecord) -> None:
        """Read the results, and save each of them once: one that is saved is no longer an item of the batch."""
        template: PreparedCall | None = None
        stopping: CallError | None = None
        async with aclosing(batches_api.read_results(self._claude, batch.upstream_id)) as results:
            async for result in results:
                item = await self._items.find_item(batch, result.custom_id)
                if item is None:
                    continue
                try:
                    template = template or await self._template_of(job, item)
                    await self._save_result(job, batch, item, result, template)
                except RequestError as error:  # e.g. a schema that this version does not take
                    await self._items.close_item(job, item, error, batch.submitted_at, may_have_cost=True)
                except (CallError, StoreError):
                    raise
                except Exception as bug:  # noqa: BLE001 - logged there; the other items must go on
                    await self._items.finish_after_bug(item, bug)
                if result.error is not None and item_outcomes.stops_job(result.error):
                    stopping = result.error
        await self._items.close_items(job, batch, TemporaryError(LOST_MESSAGE, kind="protocol"), may_have_cost=True)
        if stopping is not None:
            await self._items.request_stop(job, str(stopping))

    async def _template_of(self, job: JobRecord, item: ClaimedItem) -> PreparedCall:
        return await self._calls.prepare_template(self._items.call_of_item(job, item))

    async def _save_result(
        self, job: JobRecord, batch: BatchRecord, item: ClaimedItem, result: BatchResult, template: PreparedCall
    ) -> None:
        call = self._items.call_of_item(job, item)
        sent = sent_call_of(item, replace(call, max_tokens=template.model.max_tokens_for(call.max_tokens)))
        if result.message is not None:
            answer = await self._calls.read_answer(template, call, sent, result.message, batch.submitted_at)
        else:
            error = result.error or TemporaryError(LOST_MESSAGE, kind="protocol")
            call = replace(call, model=template.model.id)
            is_cancelled = result.kind == "canceled"
            answer = self._calls.unanswered_call(call, sent, error, batch.submitted_at, cancelled=is_cancelled)
        await self._items.write_answer(job, item, sent, answer)
