"""Runs jobs in message batches: fills, submits, polls and collects them, as far as that goes now.

Nothing is remembered here that another process would need: what is known of a batch is in its row, and each step can be
taken by any process with the same account. A batch is never sent twice. Where a process died, or a response was lost,
between its request and its id, the batch is looked for in the workspace's list, and told from others by the ids of its
results.
"""

from __future__ import annotations

import json
import logging
import re
import time
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from mcp_server_claude.anthropic_api import message_batches as batches_api
from mcp_server_claude.anthropic_api.message_batches import BatchRequest
from mcp_server_claude.engine.batch_calls import SentBatchCall
from mcp_server_claude.errors import CallError, RequestError, TemporaryError
from mcp_server_claude.jobs import item_outcomes
from mcp_server_claude.store import job_items, job_records, message_batches

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mcp_server_claude.anthropic_api.message_batches import BatchResult, UpstreamBatch
    from mcp_server_claude.call_types import Call
    from mcp_server_claude.engine.batch_calls import BatchAnswer, BatchCall, BatchCalls
    from mcp_server_claude.engine.prepared_call import PreparedCall
    from mcp_server_claude.store import Store, Transaction
    from mcp_server_claude.store.budget_reservations import InsufficientBudget
    from mcp_server_claude.store.job_items import ClaimedItem
    from mcp_server_claude.store.job_records import JobRecord
    from mcp_server_claude.store.message_batches import BatchRecord

MAX_BATCH_REQUESTS = 10_000
MAX_BATCH_BYTES = 32 << 20
"""Limits of one batch, below those of the API (100,000 requests, 256 MB), so that a large job takes little memory."""
ITEMS_PER_CLAIM = 100
MIN_POLL_INTERVAL_S = 1.0
"""Seconds until the first look at a batch. Each further one comes after twice the time, up to the maximum."""
MAX_POLL_INTERVAL_S = 60.0
SUBMISSION_GRACE_S = 20.0
"""Seconds after a submission of unknown outcome for which a batch may still appear in the list."""
MAX_CLOCK_SKEW_S = 300.0
"""Seconds that the clock of this machine may be ahead of the API's."""
MAX_SUBMISSION_FAILURES = 20
"""Temporary failures of a submission in a row after which its job stops."""
CUSTOM_ID = re.compile(r"(j_[0-9a-f]+)-(\d{1,9})-(\d{1,9})")
"""The custom id of an item: job, number, and the fence of its claim, so that a later attempt has another id."""
LOST_MESSAGE = "The results of the batch lack it. The same call asks again."
GONE_MESSAGE = "The results of its batch are no longer available. The same call asks again."

_log = logging.getLogger(__name__)


class BatchWork(Protocol):
    """What the runner needs to know of the kinds of jobs."""

    def call_of_item(self, job: JobRecord, item: ClaimedItem) -> Call:
        """The call that answers an item.

        Raises:
            CallError: The item cannot be asked like this.
        """
        ...


@dataclass(frozen=True, slots=True)
class _FilledItem:
    """An item that was added to a batch, with its request, or that there was no budget for."""

    request: BatchRequest | None = None
    refusal: InsufficientBudget | None = None


class BatchRunner:
    """Advances the batches of jobs; one task a job at a time in each process."""

    def __init__(
        self, store: Store, worker: str, batch_calls: BatchCalls, work: BatchWork, on_change: Callable[[str], object]
    ) -> None:
        """`on_change` is called with the id of a job when items of it have ended."""
        self._store = store
        self._worker = worker
        self._calls = batch_calls
        self._claude = batch_calls.claude
        self._work = work
        self._on_change = on_change
        self._waits_for_budget: set[str] = set()

    async def advance_job(self, job: JobRecord) -> None:
        """Take the steps of a job's batches that are due now, and submit what waits.

        Raises:
            StoreError: The database could not be read or written. What was sent is found again.
        """
        stops = job.stop_requested and not job.reason
        after = ""
        while True:
            batch = await self._store.write(
                message_batches.claim_batch, job.id, self._worker, now=time.time(), after=after, stops=stops
            )
            if batch is None:
                break
            after = batch.id
            try:
                await self._advance_batch(job, batch, stops=stops)
            except CallError as error:
                await self._release_after_error(batch, error)
        if not job.stop_requested:
            await self._submit_waiting_items(job)

    async def _advance_batch(self, job: JobRecord, batch: BatchRecord, *, stops: bool) -> None:
        match batch.state:
            case "filling" if job.stop_requested:
                await self._close_items(
                    job, batch, RequestError("It was stopped before it was sent.", kind="cancelled")
                )
            case "filling":
                await self._submit_batch(job, batch, await self._rebuild_requests(job, batch))
            case "submitting":
                await self._find_submission(job, batch)
            case "submitted":
                await self._poll(job, batch, stops=stops)
            case "collected":
                pass

    # ------------------------------------------------------------------ filling and submitting

    async def _submit_waiting_items(self, job: JobRecord) -> None:
        if job.id in self._waits_for_budget and await self._store.read(message_batches.has_open_batches, job.id):
            return
        self._waits_for_budget.discard(job.id)
        while job.id not in self._waits_for_budget:
            batch, requests = await self._fill_batch(job)
            if batch is None:
                return
            if requests:
                try:
                    await self._submit_batch(job, batch, requests)
                except CallError as error:
                    await self._release_after_error(batch, error)

    async def _fill_batch(self, job: JobRecord) -> tuple[BatchRecord | None, list[BatchRequest]]:
        """Claim items and reserve their costs, up to the limits of one batch."""
        batch: BatchRecord | None = None
        requests: list[BatchRequest] = []
        size = 0
        is_full = False
        while not is_full and len(requests) < MAX_BATCH_REQUESTS:
            limit = min(ITEMS_PER_CLAIM, MAX_BATCH_REQUESTS - len(requests))
            items = await self._store.write(job_items.claim_items, job.id, self._worker, limit)
            if not items:
                break
            try:
                while items:
                    call = await self._prepare_item(job, items[0])
                    if call is not None:
                        length = len(json.dumps(call.body))
                        is_full = bool(requests) and size + length > MAX_BATCH_BYTES
                        if is_full:
                            break
                        batch = batch or await self._create_batch(job)
                        filled = await self._add_item(job, batch, items[0], call, is_first=not requests)
                        if filled.refusal is not None:
                            await self._wait_for_budget(job, batch, call, filled.refusal, has_others=bool(requests))
                            is_full = True
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

    async def _create_batch(self, job: JobRecord) -> BatchRecord:
        return await self._store.write(message_batches.create_batch, job.id, self._worker, time.time())

    async def _prepare_item(
        self, job: JobRecord, item: ClaimedItem, sent: SentBatchCall | None = None
    ) -> BatchCall | None:
        """The request of an item; None if it cannot be sent, which is then its outcome.

        Raises:
            CallError: No other item could be sent either.
        """
        try:
            return await self._calls.prepare_call(self._work.call_of_item(job, item), sent)
        except CallError as error:
            if item_outcomes.stops_job(error):
                await self._request_stop(job, str(error))
                raise
            if sent is None:
                await self._store.write(job_items.finish_item, item, item_outcomes.outcome_of_error("", error))
            else:
                await self._close_item(job, item, error, time.time())
            self._on_change(job.id)
            return None

    async def _add_item(
        self, job: JobRecord, batch: BatchRecord, item: ClaimedItem, call: BatchCall, *, is_first: bool
    ) -> _FilledItem:
        # One that stands alone is asked with what there is; others wait for what these have reserved and not spent.
        in_full = not is_first or await self._store.read(_has_other_batches, job.id, batch.id)
        opened = await self._store.write(_open_and_add, batch, item, call, in_full=in_full)
        if opened is None:
            return _FilledItem()
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
            await self._request_stop(job, str(call.limit.budget_error(refusal)))

    async def _rebuild_requests(self, job: JobRecord, batch: BatchRecord) -> list[BatchRequest]:
        """The requests of a batch that another process has filled, or that could not be sent."""
        requests: list[BatchRequest] = []
        first = 0
        while items := await self._store.read(message_batches.items_of_batch, batch.id, first, ITEMS_PER_CLAIM):
            for item in items:
                sent = SentBatchCall.from_progress(item.progress)
                call = await self._prepare_item(job, item, sent)
                if call is not None:
                    requests.append(BatchRequest(custom_id=custom_id_of(item), body=call.body))
            first = items[-1].seq + 1
        return requests

    async def _submit_batch(self, job: JobRecord, batch: BatchRecord, requests: Sequence[BatchRequest]) -> None:
        """Send a batch. Its state says that this may have happened before it happens."""
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
                next_poll_at=time.time() + (error.retry_after_s or _delay_s(batch.failures)),
            )
            return
        stops = error.retryable or item_outcomes.stops_job(error)
        if stops:
            await self._request_stop(job, str(error))
        await self._close_items(job, batch, error, cancelled=stops)

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
            next_poll_at=time.time() + _delay_s(0),
        )

    async def _find_submission(self, job: JobRecord, batch: BatchRecord) -> None:
        """Find out whether a batch was created whose id was not saved."""
        known = await self._store.read(message_batches.known_upstream_ids)
        listed = await batches_api.list_batches(self._claude, batch.submitted_at - MAX_CLOCK_SKEW_S)
        candidates = [each for each in listed if each.requests == batch.requests and each.id not in known]
        for candidate in candidates:
            if candidate.has_results and await self._is_ours(batch, candidate):
                await self._record_submission(batch, candidate)
                return
        if any(not each.has_ended for each in candidates):  # only its results tell whose it is
            await self._release_batch(batch)
        elif (left_s := batch.submitted_at + SUBMISSION_GRACE_S - time.time()) > 0:
            await self._store.write(
                message_batches.update_batch,
                batch,
                owner="",
                next_poll_at=time.time() + min(left_s, _delay_s(batch.polls)),
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
                return await self._find_item(batch, result.custom_id) is not None
        return False

    # ------------------------------------------------------------------ polling and collecting

    async def _poll(self, job: JobRecord, batch: BatchRecord, *, stops: bool) -> None:
        if stops and not batch.cancel_requested:
            try:
                await batches_api.cancel_batch(self._claude, batch.upstream_id)
            except RequestError as error:
                _log.info(
                    "batch %s is not canceled: %s", batch.upstream_id, error
                )  # it has ended, which the next request says
            batch = replace(batch, cancel_requested=1, polls=0)
            await self._store.write(message_batches.update_batch, batch, cancel_requested=1, polls=0)
        try:
            upstream = await batches_api.retrieve_batch(self._claude, batch.upstream_id)
        except RequestError as error:
            if error.kind != "not_found":
                raise
            await self._close_items(job, batch, RequestError(GONE_MESSAGE, kind="not_found"), may_have_cost=True)
            return
        if not upstream.has_ended:
            await self._release_batch(batch)
        elif not upstream.has_results:
            await self._close_items(job, batch, RequestError(GONE_MESSAGE, kind="not_found"), may_have_cost=True)
        else:
            await self._collect(job, batch)

    async def _collect(self, job: JobRecord, batch: BatchRecord) -> None:
        """Read the results, and save each of them once: one that is saved is no longer an item of the batch."""
        template: PreparedCall | None = None
        stopping: CallError | None = None
        async with aclosing(batches_api.read_results(self._claude, batch.upstream_id)) as results:
            async for result in results:
                item = await self._find_item(batch, result.custom_id)
                if item is None:
                    continue
                template = template or await self._template_of(job, item)
                await self._save_result(job, batch, item, result, template)
                if result.error is not None and item_outcomes.stops_job(result.error):
                    stopping = result.error
        await self._close_items(job, batch, TemporaryError(LOST_MESSAGE, kind="protocol"), may_have_cost=True)
        self._waits_for_budget.discard(job.id)
        if stopping is not None:
            await self._request_stop(job, str(stopping))

    async def _template_of(self, job: JobRecord, item: ClaimedItem) -> PreparedCall:
        return await self._calls.prepare_template(self._work.call_of_item(job, item))

    async def _save_result(
        self, job: JobRecord, batch: BatchRecord, item: ClaimedItem, result: BatchResult, template: PreparedCall
    ) -> None:
        sent = SentBatchCall.from_progress(item.progress)
        call = self._work.call_of_item(job, item)
        if result.message is not None:
            answer = await self._calls.read_answer(template, call, sent, result.message, batch.submitted_at)
        else:
            error = result.error or TemporaryError(LOST_MESSAGE, kind="protocol")
            call = replace(call, model=template.model.id)
            is_cancelled = result.kind == "canceled"
            answer = self._calls.unanswered_call(call, sent, error, batch.submitted_at, cancelled=is_cancelled)
        await self._write_answer(job, item, sent, answer)

    async def _write_answer(self, job: JobRecord, item: ClaimedItem, sent: SentBatchCall, answer: BatchAnswer) -> None:
        cancelled = answer.result.end == "cancelled"
        outcome = item_outcomes.outcome_of_answer(sent.call_id, answer.outcome, cancelled=cancelled)
        await self._store.write(_finish_and_close, item, outcome, sent.entry_id, answer, self._worker)
        self._on_change(job.id)

    async def _find_item(self, batch: BatchRecord, custom_id: str) -> ClaimedItem | None:
        """The item that a result belongs to; None for one that is saved already, or is no item of this batch."""
        match = CUSTOM_ID.fullmatch(custom_id)
        if match is None or match[1] != batch.job_id:
            return None
        return await self._store.read(message_batches.find_batch_item, batch.id, int(match[2]), int(match[3]))

    async def _close_items(
        self,
        job: JobRecord,
        batch: BatchRecord,
        error: CallError,
        *,
        cancelled: bool = False,
        may_have_cost: bool = False,
    ) -> None:
        """Close the items that are left of a batch with an error, and the batch.

        Where nobody can tell whether they were answered, the budgets take what was reserved for them.
        """
        is_cancelled = cancelled or error.kind == "cancelled"
        while items := await self._store.read(message_batches.items_of_batch, batch.id, 0, ITEMS_PER_CLAIM):
            for item in items:
                await self._close_item(
                    job,
                    item,
                    error,
                    batch.submitted_at or time.time(),
                    cancelled=is_cancelled,
                    may_have_cost=may_have_cost,
                )
        await self._store.write(message_batches.update_batch, batch, state="collected", owner="")

    async def _close_item(
        self,
        job: JobRecord,
        item: ClaimedItem,
        error: CallError,
        sent_at: float,
        *,
        cancelled: bool = False,
        may_have_cost: bool = False,
    ) -> None:
        sent = SentBatchCall.from_progress(item.progress)
        call = replace(self._work.call_of_item(job, item), model=job.model)
        spent = sent.held_micros if may_have_cost else 0
        answer = self._calls.unanswered_call(call, sent, error, sent_at, cancelled=cancelled, spent_micros=spent)
        await self._write_answer(job, item, sent, answer)

    # ------------------------------------------------------------------ releasing and stopping

    async def _release_batch(self, batch: BatchRecord) -> None:
        await self._store.write(
            message_batches.update_batch,
            batch,
            owner="",
            polls=batch.polls + 1,
            failures=0,
            next_poll_at=time.time() + _delay_s(batch.polls),
        )

    async def _release_after_error(self, batch: BatchRecord, error: CallError) -> None:
        """Look again later: what is upstream is paid, and waits for 29 days."""
        _log.warning("Batch %s of job %s waits: %s", batch.id, batch.job_id, error)
        await self._store.write(
            message_batches.update_batch,
            batch,
            owner="",
            failures=batch.failures + 1,
            next_poll_at=time.time() + (error.retry_after_s or _delay_s(batch.failures)),
        )

    async def _request_stop(self, job: JobRecord, reason: str) -> None:
        await self._store.write(job_records.request_job_stop, job.id, job.user, reason)


def custom_id_of(item: ClaimedItem) -> str:
    """The id by which the result of an item is known; see `CUSTOM_ID`."""
    return f"{item.job_id}-{item.seq}-{item.fence}"


def _delay_s(tries: int) -> float:
    return min(MAX_POLL_INTERVAL_S, MIN_POLL_INTERVAL_S * 2.0 ** min(tries, 10))


def _has_other_batches(tx: Transaction, job_id: str, batch_id: str) -> bool:
    return any(each.state != "collected" and each.id != batch_id for each in message_batches.batches_of_job(tx, job_id))


def _open_and_add(
    tx: Transaction, batch: BatchRecord, item: ClaimedItem, call: BatchCall, *, in_full: bool
) -> SentBatchCall | InsufficientBudget | None:
    """Reserve the cost of an item, write its ledger entry, and add it to a batch; None if another process has it."""
    if not job_items.is_held(tx, item):
        return None
    opened = call.reserve_entry(tx, batch.id, in_full=in_full)
    if isinstance(opened, SentBatchCall):
        message_batches.add_batch_item(tx, batch, item, opened.as_progress())
    return opened


def _finish_and_close(
    tx: Transaction,
    item: ClaimedItem,
    outcome: job_items.ItemOutcome,
    entry_id: str,
    answer: BatchAnswer,
    worker: str,
) -> bool:
    """Write the outcome of an item with its ledger entry, the budgets and the journal; False if it has one already."""
    if not job_items.finish_item(tx, item, outcome):
        return False
    answer.write_outcome(tx, entry_id, worker)
    return True
