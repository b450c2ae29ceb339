"""The submission of message batches: each is filled with items and sent once.

A batch is never sent twice. Where a process died, or a response was lost, between its request and its id, the batch is
looked for in the workspace's list, and told from others by the ids of its results.
"""

from __future__ import annotations

import json
import logging
import time
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING

from mcp_server_claude.anthropic_api import message_batches as batches_api
from mcp_server_claude.anthropic_api.message_batches import BatchRequest
from mcp_server_claude.engine.sent_batch_call import SentBatchCall
from mcp_server_claude.errors import CallError, TemporaryError
from mcp_server_claude.frozen_dataclass import frozen_dataclass
from mcp_server_claude.jobs import item_outcomes
from mcp_server_claude.jobs.batch_items import (
    ITEMS_PER_PAGE,
    custom_id_of,
    delay_after_error_s,
    poll_delay_s,
    postpone_after_error,
    postpone_batch,
)
from mcp_server_claude.store import job_items, job_records, message_batches

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcp_server_claude.anthropic_api.message_batches import UpstreamBatch
    from mcp_server_claude.engine.batch_calls import BatchCall, BatchCalls
    from mcp_server_claude.jobs.batch_items import BatchItems
    from mcp_server_claude.store import Store, Transaction
    from mcp_server_claude.store.budget_reservations import InsufficientBudget
    from mcp_server_claude.store.job_items import ClaimedItem
    from mcp_server_claude.store.job_records import JobRecord
    from mcp_server_claude.store.message_batches import BatchRecord

MAX_BATCH_REQUESTS = 10_000
MAX_BATCH_BYTES = 32 << 20
"""Limits of one batch, below those of the API (100,000 requests, 256 MB), so that a large job takes little memory."""
ITEMS_PER_CLAIM = 100
SUBMISSION_GRACE_S = 20.0
"""Seconds after a submission of unknown outcome for which a batch may still appear in the list."""
MAX_CLOCK_CHANGE_S = 300.0
"""Seconds that the clock of this machine may have been set since a submission, against the API's."""
MAX_TRANSFER_S = 3_600.0
"""Seconds from the beginning of a submission until the API has created the batch, on a slow connection."""
CACHE_LIFETIME_S = 3_000.0
"""Seconds after the last look at a batch, which has ended, for which its beginning counts as cached for an hour."""
MIN_WARM_UP_ITEMS = 3
"""Requests from which it is cheaper to write what they share to the cache for an hour, at twice the price of input."""
MAX_SUBMISSION_FAILURES = 20
"""Temporary failures of a submission in a row after which its job stops."""

DAMAGED_MESSAGE = "What was kept of it before it was sent is damaged. The same call asks again."

_log = logging.getLogger(__name__)


@frozen_dataclass()
class _FilledItem:
    """An item that was added to a batch, with its request, or that there was no budget for.

    `has_lost_batch`: this process was taken for dead, and another one has claimed the batch.
    """

    request: BatchRequest | None = None
    refusal: InsufficientBudget | None = None
    has_lost_batch: bool = False


class BatchSubmission:
    """Fills batches with the waiting items of jobs, and sends them."""

    def __init__(self, store: Store, worker: str, calls: BatchCalls, items: BatchItems) -> None:
        self._store = store
        self._worker = worker
        self._claude = calls.claude
        self._writes_cache = calls.writes_cache
        self._items = items
        self._waits_for_budget: set[str] = set()
        self._failed_claims: set[str] = set()

    def resume_after_batch(self, job_id: str) -> None:
        """Send more of a job again: a batch has ended, and what it had reserved and not spent is free."""
        self._waits_for_budget.discard(job_id)

    def forget_job(self, job_id: str) -> None:
        """Keep nothing more about a job that is closed."""
        self._waits_for_budget.discard(job_id)
        self._failed_claims.discard(job_id)

    async def submit_waiting_items(self, job: JobRecord) -> None:
        """Send all that waits of a job, as far as the budgets pay for it.

        Raises:
            CallError: No item can be sent.
        """
        if job.id in self._waits_for_budget and await self._store.read(message_batches.has_open_batches, job.id):
            return
        self._waits_for_budget.discard(job.id)
        warms_up = self._writes_cache and await self._store.read(_needs_warm_up, job, time.time())
        if warms_up and await self._store.read(message_batches.has_open_batches, job.id):
            return
        while job.id not in self._waits_for_budget:
            batch, requests = await self._fill_batch(job, 1 if warms_up else MAX_BATCH_REQUESTS)
            if batch is None:
                return
            if requests:
                try:
                    await self.submit_batch(job, batch, requests)
                except CallError as error:
                    await postpone_after_error(self._store, batch, error)
                if warms_up:
                    return

    async def _fill_batch(self, job: JobRecord, max_requests: int) -> tuple[BatchRecord | None, list[BatchRequest]]:
        """Claim items and reserve their costs, up to the limits of one batch."""
        batch: BatchRecord | None = None
        requests: list[BatchRequest] = []
        size = 0
        is_full = False
        while not is_full and len(requests) < max_requests:
            limit = min(ITEMS_PER_CLAIM, max_requests - len(requests))
            items = await self._claim_next_items(job.id, limit)
            if not items:
                break
            try:
                while items:
                    call = await self._items.prepare_item(job, items[0])
                    if call is not None:
                        length = len(json.dumps(call.body))
                        is_full = bool(requests) and size + length > MAX_BATCH_BYTES
                        if is_full:
                            break
                        batch = batch or await self._record_batch(job)
                        filled = await self._add_item(job, batch, items[0], call, is_first=not requests)
                        if filled.refusal is not None:
                            await self._wait_for_budget(job, batch, call, filled.refusal, has_others=bool(requests))
                        is_full = filled.refusal is not None or filled.has_lost_batch
                        if is_full:
                            break
                        if filled.request is not None:
                            requests.append(filled.request)
                            size += length
                    items.pop(0)
            finally:
                for item in items:  # what found no place, also where this was cancelled
                    self._store.write_nowait(job_items.release_item, item)
        if batch is not None and not requests:
            await self._store.write(message_batches.update_batch, batch, state="collected", owner="")
            batch = None if is_full else batch
        return batch, requests

    async def _claim_next_items(self, job_id: str, limit: int) -> list[ClaimedItem]:
        """Claim items, after giving back what an earlier claim that failed may have claimed nevertheless."""
        if job_id in self._failed_claims:
            await self._store.write(job_items.release_unknown_items, job_id, self._worker)
        self._failed_claims.add(job_id)
        items = await self._store.write(job_items.claim_items, job_id, self._worker, limit)
        self._failed_claims.discard(job_id)
        return items

    async def _record_batch(self, job: JobRecord) -> BatchRecord:
        return await self._store.write(message_batches.create_batch, job.id, self._worker, time.time())

    async def _add_item(
        self, job: JobRecord, batch: BatchRecord, item: ClaimedItem, call: BatchCall, *, is_first: bool
    ) -> _FilledItem:
        # One that stands alone is asked with what there is; others wait for what these have reserved and not spent.
        in_full = not is_first or await self._store.read(_has_other_batches, job.id, batch.id)
        opened = await self._store.write(_open_and_add, batch, item, call, in_full=in_full)
        if opened is None:
            return _FilledItem(has_lost_batch=await self._store.read(job_items.is_held, item))
        if not isinstance(opened, SentBatchCall):
            return _FilledItem(refusal=opened)
        body = call.body | {"max_tokens": opened.max_tokens}
        return _FilledItem(request=BatchRequest(custom_id=custom_id_of(item), body=body))

    async def _wait_for_budget(
        self, job: JobRecord, batch: BatchRecord, call: BatchCall, refusal: InsufficientBudget, *, has_others: bool
    ) -> None:
        """Send nothing more of a job before a batch of it has ended; stop it if there is none."""
        self._waits_for_budget.add(job.id)
        if not has_others and not await self._store.read(_has_other_batches, job.id, batch.id):
            await self._items.request_stop(job, str(call.limit.budget_error(refusal)))

    async def rebuild_requests(self, job: JobRecord, batch: BatchRecord) -> list[BatchRequest]:
        """The requests of a batch that another process has filled, or that could not be sent.

        Raises:
            CallError: No item can be sent.
        """
        requests: list[BatchRequest] = []
        first = 0
        while items := await self._store.read(message_batches.items_of_batch, batch.id, first, ITEMS_PER_PAGE):
            for item in items:
                sent = SentBatchCall.from_progress(item.progress)
                if sent is None:
                    await self._items.close_item(job, item, TemporaryError(DAMAGED_MESSAGE, kind="store"), time.time())
                    continue
                call = await self._items.prepare_item(job, item, sent)
                if call is not None:
                    requests.append(BatchRequest(custom_id=custom_id_of(item), body=call.body))
            first = items[-1].seq + 1
        return requests

    async def submit_batch(self, job: JobRecord, batch: BatchRecord, requests: Sequence[BatchRequest]) -> None:
        """Send a batch. Its state says that this may have happened before it happens.

        Raises:
            CallError: Nobody knows whether it was created.
        """
        if not requests:
            await self._store.write(message_batches.update_batch, batch, state="collected", owner="")
            return
        sending = replace(batch, state="submitting", submitted_at=time.time(), requests=len(requests))
        changes = {"state": sending.state, "submitted_at": sending.submitted_at, "requests": sending.requests}
        if not await self._store.write(message_batches.update_batch, batch, **changes):
            return
        try:
            created = await batches_api.create_batch(self._claude, requests)
        except CallError as error:
            if not batches_api.was_not_created(error):
                raise
            await self._handle_refusal(job, sending, error)
            return
        await self._record_submission(sending, created)

    async def _handle_refusal(self, job: JobRecord, batch: BatchRecord, error: CallError) -> None:
        """Send a batch again later that the API has refused for now; else its items have failed."""
        if error.retryable and batch.failures + 1 < MAX_SUBMISSION_FAILURES:
            await self._store.write(
                message_batches.update_batch,
                batch,
                state="filling",
                owner="",
                failures=batch.failures + 1,
                next_poll_at=time.time() + delay_after_error_s(batch, error),
            )
            return
        stops = error.retryable or item_outcomes.stops_job(error)
        if stops:
            await self._items.request_stop(job, str(error))
        await self._items.close_items(job, batch, error, cancelled=stops)

    async def _record_submission(self, batch: BatchRecord, upstream: UpstreamBatch) -> None:
        _log.info("batch %s of job %s is %s, %d requests", batch.id, batch.job_id, upstream.id, batch.requests)
        await self._store.write(
            message_batches.update_batch,
            batch,
            state="submitted",
            upstream_id=upstream.id,
            owner="",
            polls=0,
            failures=0,
            next_poll_at=time.time() + poll_delay_s(0),
        )

    async def find_submission(self, job: JobRecord, batch: BatchRecord) -> None:
        """Find out whether a batch was created whose id was not saved.

        Raises:
            CallError: The API does not list its batches.
        """
        known = await self._store.read(message_batches.known_upstream_ids)
        now = time.time()
        was_set_back = batch.submitted_at > now  # the clock, so that nobody knows since when to look
        since = 0.0 if was_set_back else batch.submitted_at - MAX_CLOCK_CHANGE_S
        submitted_at = min(batch.submitted_at, now)
        until = submitted_at + MAX_TRANSFER_S + MAX_CLOCK_CHANGE_S  # later ones are others', and change nothing
        listed = await batches_api.list_batches(self._claude, since, until)
        candidates = [each for each in listed if each.requests == batch.requests and each.id not in known]
        for candidate in candidates:
            if candidate.has_results and await self._is_ours(batch, candidate):
                await self._record_submission(batch, candidate)
                return
        if any(not each.has_ended for each in candidates):  # only its results tell whose it is
            await postpone_batch(self._store, batch)
        elif (left_s := submitted_at + SUBMISSION_GRACE_S - now) > 0:
            await self._store.write(
                message_batches.update_batch,
                batch,
                owner="",
                submitted_at=submitted_at,
                next_poll_at=now + min(left_s, poll_delay_s(batch.polls)),
                polls=batch.polls + 1,
            )
        else:
            _log.warning("batch %s of job %s did not reach the API, and is sent again", batch.id, job.id)
            await self._store.write(
                message_batches.update_batch, batch, state="filling", owner="", polls=0, next_poll_at=0.0
            )

    async def _is_ours(self, batch: BatchRecord, candidate: UpstreamBatch) -> bool:
        async with aclosing(batches_api.read_results(self._claude, candidate.id)) as results:
            async for result in results:
                return await self._items.find_item(batch, result.custom_id) is not None
        return False


def _needs_warm_up(tx: Transaction, job: JobRecord, now: float) -> bool:
    """Return True if one request must write the beginning of all to the prompt cache before the others are sent."""
    if not job.spec.get("batch_warm_up") or job_records.job_progress(tx, job.id).todo < MIN_WARM_UP_ITEMS:
        return False
    batches = message_batches.batches_of_job(tx, job.id)
    return not any(each.state == "collected" and each.next_poll_at > now - CACHE_LIFETIME_S for each in batches)


def _has_other_batches(tx: Transaction, job_id: str, batch_id: str) -> bool:
    return any(each.state != "collected" and each.id != batch_id for each in message_batches.batches_of_job(tx, job_id))


def _open_and_add(
    tx: Transaction, batch: BatchRecord, item: ClaimedItem, call: BatchCall, *, in_full: bool
) -> SentBatchCall | InsufficientBudget | None:
    """Reserve the cost of an item, write its ledger entry, and add it to a batch; None if another process has one."""
    if not job_items.is_held(tx, item) or not message_batches.update_batch(tx, batch, state="filling"):
        return None
    opened = call.reserve_entry(tx, batch.id, in_full=in_full)
    if isinstance(opened, SentBatchCall):
        message_batches.add_batch_item(tx, batch, item, opened.as_progress())
    return opened
