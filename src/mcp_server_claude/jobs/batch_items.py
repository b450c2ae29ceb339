"""The items of message batches: their requests, and their outcomes, each written once with its ledger entry."""

from __future__ import annotations

import logging
import re
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from mcp_server_claude.engine.sent_batch_call import SentBatchCall
from mcp_server_claude.errors import CallError, local_resource_error
from mcp_server_claude.jobs import item_outcomes
from mcp_server_claude.store import job_items, job_records, message_batches
from mcp_server_claude.store.transaction import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcp_server_claude.call_types import Call
    from mcp_server_claude.engine.batch_calls import BatchAnswer, BatchCall, BatchCalls
    from mcp_server_claude.store import Store, Transaction
    from mcp_server_claude.store.job_items import ClaimedItem
    from mcp_server_claude.store.job_records import JobRecord
    from mcp_server_claude.store.message_batches import BatchRecord

ITEMS_PER_PAGE = 100
MIN_POLL_INTERVAL_S = 1.0
"""Seconds until the first look at a batch. Each further one comes after twice the time, up to the maximum."""
MAX_POLL_INTERVAL_S = 60.0
MAX_POLL_DELAY_S = 3600.0
"""Seconds until a further look at most, also where the API asks for a longer wait. A time that lies farther ahead was
recorded before the clock was set back."""
CUSTOM_ID = re.compile(r"(j_[0-9a-f]+)-(\d{1,9})-(\d{1,9})")
"""The custom id of an item: job, number, and the fence of its claim, so that a later attempt has another id."""

_log = logging.getLogger(__name__)


class BatchWork(Protocol):
    """The kinds of jobs, as far as the runner needs to know them."""

    def call_of_item(self, job: JobRecord, item: ClaimedItem) -> Call:
        """The call that answers an item.

        Raises:
            CallError: The item cannot be asked like this.
        """
        ...


class BatchItems:
    """Makes the requests of the items of batches, and writes their outcomes."""

    def __init__(
        self, store: Store, worker: str, calls: BatchCalls, work: BatchWork, on_change: Callable[[str], object]
    ) -> None:
        """`on_change` is called with the id of a job when items of it have ended."""
        self._store = store
        self._worker = worker
        self._calls = calls
        self._work = work
        self._on_change = on_change

    def call_of_item(self, job: JobRecord, item: ClaimedItem) -> Call:
        """The call that answers an item; see `BatchWork`."""
        return self._work.call_of_item(job, item)

    async def prepare_item(
        self, job: JobRecord, item: ClaimedItem, sent: SentBatchCall | None = None
    ) -> BatchCall | None:
        """The request of an item; None if it cannot be sent, which is then its outcome.

        Raises:
            CallError: No other item could be sent either.
        """
        try:
            return await self._calls.prepare_call(self._work.call_of_item(job, item), sent)
        except StoreError:
            raise
        except CallError as error:
            if item_outcomes.stops_job(error):
                await self.request_stop(job, str(error))
                raise
            if sent is None:
                await self._store.write(job_items.finish_item, item, item_outcomes.outcome_of_error("", error))
            else:
                await self.close_item(job, item, error, time.time())
            self._on_change(job.id)
            return None
        except Exception as bug:  # noqa: BLE001 - logged there; the other items must go on
            await self.finish_after_bug(item, bug)
            return None

    async def find_item(self, batch: BatchRecord, custom_id: str) -> ClaimedItem | None:
        """The item that a result belongs to; None for one that is saved already, or is no item of this batch."""
        match = CUSTOM_ID.fullmatch(custom_id)
        if match is None or match[1] != batch.job_id:
            return None
        return await self._store.read(message_batches.find_batch_item, batch.id, int(match[2]), int(match[3]))

    async def write_answer(self, job: JobRecord, item: ClaimedItem, sent: SentBatchCall, answer: BatchAnswer) -> None:
        """Write the outcome of an item once, with its ledger entry, the budgets and the journal."""
        cancelled = answer.result.end == "cancelled"
        outcome = item_outcomes.outcome_of_answer(sent.call_id, answer.outcome, cancelled=cancelled)
        await self._store.write(_finish_and_close, item, outcome, sent.entry_id, answer, self._worker)
        self._on_change(job.id)

    async def close_items(
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
        while items := await self._store.read(message_batches.items_of_batch, batch.id, 0, ITEMS_PER_PAGE):
            for item in items:
                await self.close_item(
                    job,
                    item,
                    error,
                    batch.submitted_at or time.time(),
                    cancelled=is_cancelled,
                    may_have_cost=may_have_cost,
                )
        await self._store.write(message_batches.update_batch, batch, state="collected", owner="")

    async def request_stop(self, job: JobRecord, reason: str) -> None:
        """Start nothing more of a job."""
        await self._store.write(job_records.request_job_stop, job.id, job.user, reason)

    async def close_item(
        self,
        job: JobRecord,
        item: ClaimedItem,
        error: CallError,
        sent_at: float,
        *,
        cancelled: bool = False,
        may_have_cost: bool = False,
    ) -> None:
        """Close an item of a batch with an error; see `close_items`."""
        try:
            call = replace(self._work.call_of_item(job, item), model=job.model)
        except Exception as bug:  # noqa: BLE001 - logged there; the other items must go on
            await self.finish_after_bug(item, bug)
            return
        sent = sent_call_of(item, call)
        spent = sent.held_micros if may_have_cost else 0
        answer = self._calls.unanswered_call(call, sent, error, sent_at, cancelled=cancelled, spent_micros=spent)
        await self.write_answer(job, item, sent, answer)

    async def finish_after_bug(self, item: ClaimedItem, bug: Exception) -> None:
        """Log a bug that ended the work on an item, e.g. on a damaged row, and make it the outcome of the item.

        A ledger entry of the item is closed with those of dead processes.

        Raises:
            Exception: The bug itself, if it says that memory, files or disk space ran out, which passes.
        """
        if local_resource_error(bug) is not None:
            raise bug
        _log.error("a bug ended item %s of job %s", item.seq, item.job_id, exc_info=bug)
        await self._store.write(
            job_items.finish_item, item, item_outcomes.outcome_of_error(item.call_id, item_outcomes.item_bug_error())
        )
        self._on_change(item.job_id)


def custom_id_of(item: ClaimedItem) -> str:
    """The id by which the result of an item is known; see `CUSTOM_ID`."""
    return f"{item.job_id}-{item.seq}-{item.fence}"


def sent_call_of(item: ClaimedItem, call: Call) -> SentBatchCall:
    """What was kept of the item's call when it was sent.

    Where that is damaged, its answer is read as that of `call`. Its ledger entry is not known then, and is closed with
    those of dead processes.
    """
    sent = SentBatchCall.from_progress(item.progress)
    return sent or SentBatchCall(call_id=call.id, entry_id="", max_tokens=call.max_tokens)


def poll_delay_s(tries: int) -> float:
    """Seconds until the next look at a batch."""
    return min(MAX_POLL_INTERVAL_S, MIN_POLL_INTERVAL_S * 2.0 ** min(tries, 10))


def delay_after_error_s(batch: BatchRecord, error: CallError) -> float:
    """Seconds until the next look at a batch, after an error."""
    return min(MAX_POLL_DELAY_S, error.retry_after_s or poll_delay_s(batch.failures))


async def postpone_batch(store: Store, batch: BatchRecord) -> None:
    """Release a batch in which nothing has changed, for a later look."""
    await store.write(
        message_batches.update_batch,
        batch,
        owner="",
        polls=batch.polls + 1,
        failures=0,
        next_poll_at=time.time() + poll_delay_s(batch.polls),
    )


async def postpone_after_error(store: Store, batch: BatchRecord, error: CallError) -> None:
    """Release a batch for a later look: what is upstream is paid, and waits for 29 days."""
    _log.warning("Batch %s of job %s waits: %s", batch.id, batch.job_id, error)
    await store.write(
        message_batches.update_batch,
        batch,
        owner="",
        failures=batch.failures + 1,
        next_poll_at=time.time() + delay_after_error_s(batch, error),
    )


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
