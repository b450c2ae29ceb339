"""The items of jobs in this process: each is answered by a call, and its outcome is written with the ledger entry."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Protocol

import anyio

from mcp_server_claude.call_types import MessageStart
from mcp_server_claude.errors import CallError, TemporaryError, local_resource_error
from mcp_server_claude.jobs import item_outcomes
from mcp_server_claude.jobs.batch_items import BatchWork
from mcp_server_claude.store import StoreError, job_items, job_records
from mcp_server_claude.store.operations import BACKLOG_KINDS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mcp_server_claude.call_types import CallEvent
    from mcp_server_claude.calls.running_call import RunningCall
    from mcp_server_claude.calls.running_calls import CallRegistry
    from mcp_server_claude.engine.ledger_writer import DeferredClosings, LedgerWriter
    from mcp_server_claude.jobs.adaptive_concurrency import AdaptiveConcurrency
    from mcp_server_claude.store import Store, Transaction
    from mcp_server_claude.store.job_items import ClaimedItem
    from mcp_server_claude.store.job_records import JobRecord

STORE_RETRY_DELAY_S = 1.0
MAX_REFUSED_WRITES = 10
"""Writes of an outcome that fail for a reason which does not pass, until an error takes its place."""
MAX_TEMPORARY_FAILURES = 20
"""Temporary failures in a row after which a job stops: the API is down, and each item has been tried for minutes."""

_log = logging.getLogger(__name__)


class JobWork(BatchWork, Protocol):
    """The kinds of jobs, as far as the runner needs to know them."""

    async def build_call(self, job: JobRecord, item: ClaimedItem) -> RunningCall:
        """The call that answers an item, registered and not yet running.

        Raises:
            CallError: The item cannot be asked like this.
        """
        ...

    async def write_output(self, job: JobRecord) -> str:
        """Write the output of a job whose items are all finished. Returns the digest of the file, or nothing.

        Raises:
            CallError: It could not be written.
        """
        ...


@dataclass(slots=True)
class LocalJob:
    """The part of a job that runs in this process."""

    record: JobRecord
    running: dict[int, RunningCall | None] = field(default_factory=dict[int, "RunningCall | None"])
    is_warm: bool = False
    waits_for_budget: bool = False
    is_stopping: bool = False
    is_advancing: bool = False
    has_advanced: bool = False
    temporary_failures: int = 0
    has_failed_claim: bool = False


class ChangeListener(Protocol):
    """Gets the job of which an item has ended, or may now have others started."""

    def __call__(self, local: LocalJob, *, has_ended: bool) -> None:
        """`has_ended` says that an item has ended."""
        ...


class ItemRunner:
    """Answers items, one call each."""

    def __init__(
        self,
        store: Store,
        ledger: LedgerWriter,
        calls: CallRegistry,
        work: JobWork,
        concurrency_of: Callable[[str], AdaptiveConcurrency],
        on_change: ChangeListener,
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._calls = calls
        self._work = work
        self._concurrency_of = concurrency_of
        self._on_change = on_change

    async def run_item(self, local: LocalJob, item: ClaimedItem) -> None:
        """Answer an item that this process has claimed."""
        await self._run(local, item, partial(self._answer_item, local, item))

    async def follow_item(
        self, local: LocalJob, item: ClaimedItem, running: RunningCall, deferred: DeferredClosings
    ) -> None:
        """Wait for the end of a call that ran before it became the item of a job, with its closings deferred."""
        await self._run(local, item, partial(self._finish_adopted, item, running, deferred))

    async def _run(self, local: LocalJob, item: ClaimedItem, answer: Callable[[], Awaitable[None]]) -> None:
        """Answer an item. A bug or an unusable database releases it, and stops nothing else."""
        try:
            await answer()
        except StoreError as error:
            _log.warning("Item %s of job %s could not be finished: %s", item.seq, item.job_id, error)
            self._store.write_nowait(job_items.release_item, item)
            await anyio.sleep(STORE_RETRY_DELAY_S)
        except Exception as error:  # noqa: BLE001 - logged; the other items must go on
            failure = local_resource_error(error)
            if failure is None:
                _log.exception("a bug ended item %s of job %s", item.seq, item.job_id)
                failure = item_outcomes.item_bug_error()
            self._store.write_nowait(job_items.finish_item, item, item_outcomes.outcome_of_error("", failure))
        except BaseException:  # the server ends: another process may begin with it at once
            self._store.write_nowait(job_items.release_item, item)
            raise
        finally:
            local.running.pop(item.seq, None)
            local.is_warm = True
            self._on_change(local, has_ended=True)

    async def _answer_item(self, local: LocalJob, item: ClaimedItem) -> None:
        try:
            running = await self._work.build_call(local.record, item)
        except CallError as error:
            await self._finish(local, item, item_outcomes.outcome_of_error("", error))
            return
        deferred = self._ledger.defer_closings(running.call.id, item.job_id)
        try:
            if not await self._store.write_together(job_items.save_item_progress, item, call_id=running.call.id):
                return  # another process has it
            local.running[item.seq] = running
            running.listeners.append(partial(self._mark_warm, local))
            await self._calls.run_registered(running)
            error = running.outcome if isinstance(running.outcome, CallError) else None
            if error is not None and await self._stop_or_retry(local, item, error):
                return
            outcome = item_outcomes.outcome_of_call(running)
            await self._commit(deferred, item, outcome)
            self._count_outcome(local, outcome)
            if running.outcome is not None and error is None:
                self._concurrency_of(local.record.model).record_answer()
        finally:
            self._calls.discard(running)
            deferred.abandon()
        if local.temporary_failures >= MAX_TEMPORARY_FAILURES:
            await self._stop_job(local, f"it stopped after {MAX_TEMPORARY_FAILURES} failures in a row: {error}")

    async def _finish_adopted(self, item: ClaimedItem, running: RunningCall, deferred: DeferredClosings) -> None:
        try:
            await running.done.wait()
            if running.outcome is None:
                raise anyio.get_cancelled_exc_class()  # the server ends
            await self._commit(deferred, item, item_outcomes.outcome_of_call(running))
        finally:
            deferred.abandon()

    async def _commit(self, deferred: DeferredClosings, item: ClaimedItem, outcome: job_items.ItemOutcome) -> None:
        """Write an outcome. While the database cannot be written it is tried again: the answer has been paid.

        An outcome that the database does not take, though it can be written, is replaced by an error that says so. If
        it takes that no more, the item stays with this process: to give it back would pay for another answer.
        """
        failures = 0
        while failures < 2 * MAX_REFUSED_WRITES:
            try:
                await deferred.commit(partial(_finish, item, outcome))
            except StoreError as error:
                _log.warning("Item %s of job %s cannot be saved yet: %s", item.seq, item.job_id, error)
                failures += error.kind not in BACKLOG_KINDS
                if failures == MAX_REFUSED_WRITES:
                    unsaved = TemporaryError(f"Its answer could not be saved: {error}", kind="store")
                    outcome = item_outcomes.outcome_of_error(outcome.call_id, unsaved)
                await anyio.sleep(STORE_RETRY_DELAY_S)
            else:
                return
        _log.error("Item %s of job %s has an outcome that the database does not take", item.seq, item.job_id)

    async def _stop_or_retry(self, local: LocalJob, item: ClaimedItem, error: CallError) -> bool:
        """Handle an error that is not the item's own. Returns False if it is.

        Where a budget is too small for one more item while others are running, what these have reserved may be enough
        after they have ended.
        """
        if not item_outcomes.stops_job(error):
            return False
        if (await self._store.read(job_records.job_progress, item.job_id)).items == 1:
            return False
        await self._store.write(job_items.release_item, item)
        if error.kind in item_outcomes.JOB_ERROR_KINDS and len(local.running) > 1:
            local.waits_for_budget = True
            return True
        await self._stop_job(local, str(error))
        return True

    async def _finish(self, local: LocalJob, item: ClaimedItem, outcome: job_items.ItemOutcome) -> None:
        await self._store.write(job_items.finish_item, item, outcome)
        self._count_outcome(local, outcome)

    async def _stop_job(self, local: LocalJob, reason: str) -> None:
        """Start nothing more of a job; what runs may end."""
        local.is_stopping = True
        await self._store.write(job_records.request_job_stop, local.record.id, local.record.user, reason)
        self._on_change(local, has_ended=False)

    def _mark_warm(self, local: LocalJob, event: CallEvent) -> None:
        """Start the other items once the API has read the first one: from then on the cache holds what they share."""
        if not local.is_warm and isinstance(event, MessageStart):
            local.is_warm = True
            self._on_change(local, has_ended=False)

    def _count_outcome(self, local: LocalJob, outcome: job_items.ItemOutcome) -> None:
        local.waits_for_budget = False
        is_temporary = outcome.error is not None and outcome.error.get("retryable") is True
        local.temporary_failures = local.temporary_failures + 1 if is_temporary else 0


def _finish(item: ClaimedItem, outcome: job_items.ItemOutcome, tx: Transaction) -> bool:
    return job_items.finish_item(tx, item, outcome)
