"""Runs the items of jobs in this process: claims them, answers them at a concurrency that the API allows, and finishes.

There is no task and no look at the database while there are no open jobs: a process finds work by starting it, by its
check at the start, and when an open job is read. While it runs jobs it looks for more once in a while, so
that it shares those of other processes, continues those of dead ones, and stops what was stopped elsewhere.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Protocol

import anyio

from mcp_server_claude.call_types import MessageStart
from mcp_server_claude.errors import CallError, TemporaryError
from mcp_server_claude.jobs import item_outcomes
from mcp_server_claude.jobs.adaptive_concurrency import AdaptiveConcurrency
from mcp_server_claude.jobs.batch_runner import BatchRunner, BatchWork
from mcp_server_claude.jobs.job_end import job_end, record_job_end
from mcp_server_claude.store import StoreError, job_items, job_records, process_locks
from mcp_server_claude.telemetry.job_spans import leave_current_trace

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from anyio.abc import TaskGroup

    from mcp_server_claude.call_types import CallEvent
    from mcp_server_claude.calls.running_call import RunningCall
    from mcp_server_claude.calls.running_calls import CallRegistry
    from mcp_server_claude.engine.batch_calls import BatchCalls
    from mcp_server_claude.engine.ledger_writer import LedgerWriter
    from mcp_server_claude.engine.rate_limit_cooldown import RateLimitCooldown
    from mcp_server_claude.store import Store, Transaction
    from mcp_server_claude.store.job_items import ClaimedItem
    from mcp_server_claude.store.job_records import JobRecord

JOB_POLL_INTERVAL_S = 1.0
"""Seconds between two looks at the database while there are open jobs."""
STORE_RETRY_DELAY_S = 1.0
MAX_TEMPORARY_FAILURES = 20
"""Temporary failures in a row after which a job stops: the API is down, and each item has been tried for minutes."""
STOPPED_BY_USER = "it was stopped."

_log = logging.getLogger(__name__)


class JobWork(BatchWork, Protocol):
    """What the runner needs to know of the kinds of jobs."""

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
class _LocalJob:
    """The part of a job that runs in this process."""

    record: JobRecord
    running: dict[int, RunningCall | None] = field(default_factory=dict[int, "RunningCall | None"])
    is_warm: bool = False
    waits_for_budget: bool = False
    is_stopping: bool = False
    is_advancing: bool = False
    has_advanced: bool = False
    temporary_failures: int = 0


class JobRunner:
    """The jobs of this process."""

    def __init__(
        self,
        store: Store,
        ledger: LedgerWriter,
        calls: CallRegistry,
        cooldown_for: Callable[[str], RateLimitCooldown],
        work: JobWork,
        task_group: TaskGroup,
        *,
        batch_calls: BatchCalls,
        scopes: Callable[[], tuple[str, ...]],
        max_concurrent: int,
        shares_jobs: bool = True,
    ) -> None:
        """Without `shares_jobs` only the jobs that it is woken for are run."""
        self._store = store
        self._ledger = ledger
        self._calls = calls
        self._work = work
        self._task_group = task_group
        self._scopes = scopes
        self._cooldown_for = cooldown_for
        self._max_concurrent = max_concurrent
        self._shares_jobs = shares_jobs
        self._batches = BatchRunner(store, ledger.worker, batch_calls, work, self._note_batch_change)
        self._joined: set[str] = set()
        self.on_change: Callable[[str], object] = bool
        self._concurrencies: dict[str, AdaptiveConcurrency] = {}
        self._jobs: dict[str, _LocalJob] = {}
        self._order: deque[str] = deque()
        self._is_running = False
        self._next_look_at = 0.0
        self._wake_up = anyio.Event()
        self._changed, self._ended = anyio.Event(), anyio.Event()

    def wake(self, job_id: str = "") -> None:
        """Look for work now: a job was started or stopped. A job of that id is run also where jobs are not shared."""
        if job_id and not self._shares_jobs:
            self._joined.add(job_id)
        self._next_look_at = 0.0
        self._wake_up.set()
        self.ensure_running()

    def ensure_running(self) -> None:
        """Look for work, unless that is being done already: an open job was seen, and its process may be dead."""
        if not self._is_running:
            self._is_running = True
            self._task_group.start_soon(self._run_while_jobs_are_open)

    async def wait_for_end(self, timeout_s: float) -> None:
        """Wait until a job has been closed in this process, or for so many seconds."""
        with anyio.move_on_after(timeout_s):
            await self._ended.wait()

    async def wait_for_change(self, timeout_s: float) -> None:
        """Wait until an item or a job has ended in this process, or for so many seconds."""
        with anyio.move_on_after(timeout_s):
            await self._changed.wait()

    def running_call(self, job_id: str) -> RunningCall | None:
        """The call that answers the first running item of a job in this process."""
        local = self._jobs.get(job_id)
        return next((running for running in local.running.values() if running), None) if local else None

    def stop_locally(self, job_id: str) -> None:
        """Stop the calls of a job that run in this process."""
        local = self._jobs.get(job_id)
        for running in list(local.running.values()) if local else ():
            if running is not None:
                running.cancel_run(STOPPED_BY_USER)

    def adopt(self, job: JobRecord, item: ClaimedItem, running: RunningCall) -> None:
        """Take over a call that runs already, as the only item of a job."""
        local = self._jobs[job.id] = _LocalJob(job, is_warm=True)
        local.running[item.seq] = running
        deferred = self._ledger.defer_closings(running.call.id, job.id)
        self._task_group.start_soon(self._run_item, local, item, partial(self._finish_adopted, item, running, deferred))
        self.wake(job.id)

    async def _run_while_jobs_are_open(self) -> None:
        leave_current_trace()
        try:
            while await self._start_items():
                with anyio.move_on_after(JOB_POLL_INTERVAL_S):
                    await self._wake_up.wait()
                self._wake_up = anyio.Event()
        finally:
            self._is_running = False

    async def _start_items(self) -> bool:
        """Claim and start what there is room for. Returns False if no job is open."""
        try:
            if time.monotonic() >= self._next_look_at:
                await self._look_for_jobs()
            await self._claim_for_all()
        except StoreError as error:
            _log.warning("Jobs wait: %s", error)
            await anyio.sleep(STORE_RETRY_DELAY_S)
            return True
        return bool(self._jobs) or self._next_look_at == 0.0

    async def _look_for_jobs(self) -> None:
        """Take note of the open jobs, stop those that were stopped elsewhere, and close those that are finished."""
        self._next_look_at = time.monotonic() + JOB_POLL_INTERVAL_S
        await self._store.write(process_locks.remove_dead_processes, self._store.locks)
        records = await self._store.read(job_records.open_jobs, self._scopes())
        if not self._shares_jobs:
            records = [record for record in records if record.id in self._joined]
        for record in records:
            local = self._jobs.setdefault(record.id, _LocalJob(record))
            local.record = record
            if record.id not in self._order:
                self._order.append(record.id)
            if record.stop_requested:  # also what was given back, or left by a dead process, since it was stopped
                await self._store.write(job_items.cancel_unclaimed_items, record.id)
            if record.stop_requested and not record.reason:
                self.stop_locally(record.id)
        known = {record.id for record in records}
        for job_id in [each for each, local in self._jobs.items() if each not in known and not local.running]:
            del self._jobs[job_id]
            if job_id in self._order:
                self._order.remove(job_id)
        for local in list(self._jobs.values()):
            if local.record.id in known and not local.running:
                await self._close_if_finished(local)
            if local.record.batch and local.record.id in self._jobs and not local.is_advancing:
                local.is_advancing = True
                self._task_group.start_soon(self._advance_batches, local)

    async def _advance_batches(self, local: _LocalJob) -> None:
        """Take the due steps of a job in batches. What cannot be done now is tried again at the next look."""
        try:
            await self._batches.advance_job(local.record)
        except (StoreError, CallError) as error:
            _log.warning("The batches of job %s wait: %s", local.record.id, error)
        except Exception:  # noqa: BLE001 - logged; the other jobs must go on
            _log.exception("a bug ended a step of the batches of job %s", local.record.id)
        finally:
            local.is_advancing = False
            if local.has_advanced:
                local.has_advanced = False
                self._next_look_at = 0.0
                self._wake_up.set()

    def _note_batch_change(self, job_id: str) -> None:
        if local := self._jobs.get(job_id):
            local.has_advanced = True
        self._notify_change(job_id)

    async def _claim_for_all(self) -> None:
        """Share the free places among the jobs, in turn."""
        free = self._max_concurrent - sum(len(local.running) for local in self._jobs.values())
        if free <= 0 or not self._order:
            return
        share = max(1, free // len(self._order))
        for _ in range(len(self._order)):
            self._order.rotate(-1)
            local = self._jobs[self._order[-1]]
            places = min(free, share, self._free_places_for(local.record.model))
            if not local.is_warm and local.record.spec.get("warm"):  # the first item writes the cache for the others
                places = min(places, 1 - len(local.running))
            if local.waits_for_budget:  # one alone shows whether what the others had reserved is enough
                places = min(places, 1 - len(local.running))
            if places <= 0 or local.is_stopping or local.record.stop_requested or local.record.batch:
                continue
            claimed = await self._store.write(job_items.claim_items, local.record.id, self._ledger.worker, places)
            free -= len(claimed)
            for item in claimed:
                local.running[item.seq] = None
                self._task_group.start_soon(self._run_item, local, item, partial(self._answer_item, local, item))

    def _concurrency_of(self, model: str) -> AdaptiveConcurrency:
        if model not in self._concurrencies:
            self._concurrencies[model] = AdaptiveConcurrency(self._max_concurrent, self._cooldown_for(model))
        return self._concurrencies[model]

    def _free_places_for(self, model: str) -> int:
        running = sum(len(local.running) for local in self._jobs.values() if local.record.model == model)
        return self._concurrency_of(model).limit - running

    async def _run_item(self, local: _LocalJob, item: ClaimedItem, answer: Callable[[], Awaitable[None]]) -> None:
        """Answer an item. A bug or an unusable database releases it, and stops nothing else."""
        try:
            await answer()
        except StoreError as error:
            _log.warning("Item %s of job %s could not be finished: %s", item.seq, item.job_id, error)
            self._store.write_nowait(job_items.release_item, item)
            await anyio.sleep(STORE_RETRY_DELAY_S)
        except Exception:  # noqa: BLE001 - logged; the other items must go on
            _log.exception("a bug ended item %s of job %s", item.seq, item.job_id)
            self._store.write_nowait(
                job_items.finish_item,
                item,
                item_outcomes.outcome_of_error("", TemporaryError("A bug in this server ended it.", kind="internal")),
            )
        except BaseException:  # the server ends: another process may begin with it at once
            self._store.write_nowait(job_items.release_item, item)
            raise
        finally:
            local.running.pop(item.seq, None)
            local.is_warm = True
            if not local.running:
                self._next_look_at = 0.0
            self._wake_up.set()
            self._notify_change(item.job_id)

    async def _answer_item(self, local: _LocalJob, item: ClaimedItem) -> None:
        try:
            running = await self._work.build_call(local.record, item)
        except CallError as error:
            await self._finish(local, item, item_outcomes.outcome_of_error("", error))
            return
        deferred = self._ledger.defer_closings(running.call.id, item.job_id)
        try:
            if not await self._store.write(job_items.save_item_progress, item, call_id=running.call.id):
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

    async def _finish_adopted(self, item: ClaimedItem, running: RunningCall, deferred: _Deferred) -> None:
        try:
            await running.done.wait()
            if running.outcome is None:
                raise anyio.get_cancelled_exc_class()  # the server ends
            await self._commit(deferred, item, item_outcomes.outcome_of_call(running))
        finally:
            deferred.abandon()

    async def _commit(self, deferred: _Deferred, item: ClaimedItem, outcome: job_items.ItemOutcome) -> None:
        """Write an outcome. While the database cannot be written it is tried again: the answer has been paid."""
        while True:
            try:
                await deferred.commit(partial(_finish, item, outcome))
            except StoreError as error:
                _log.warning("Item %s of job %s cannot be saved yet: %s", item.seq, item.job_id, error)
                await anyio.sleep(STORE_RETRY_DELAY_S)
            else:
                return

    async def _stop_or_retry(self, local: _LocalJob, item: ClaimedItem, error: CallError) -> bool:
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

    async def _finish(self, local: _LocalJob, item: ClaimedItem, outcome: job_items.ItemOutcome) -> None:
        await self._store.write(job_items.finish_item, item, outcome)
        self._count_outcome(local, outcome)

    async def _stop_job(self, local: _LocalJob, reason: str) -> None:
        """Start nothing more of a job; what runs may end."""
        local.is_stopping = True
        await self._store.write(job_records.request_job_stop, local.record.id, local.record.user, reason)
        self._next_look_at = 0.0

    async def _close_if_finished(self, local: _LocalJob) -> None:
        job = local.record
        progress = await self._store.read(job_records.job_progress, job.id)
        if progress.todo or progress.running:
            return
        digest, failure = await self._write_output(job)
        reason = " ".join(filter(None, (job.reason, failure)))
        end = job_end(job, progress, reason)
        now = time.time()
        if await self._store.write(
            job_records.close_job, job.id, end=end, now=now, reason=reason, output_digest=digest
        ):
            record_job_end(job, progress, end, now)
        self._jobs.pop(job.id, None)
        if job.id in self._order:
            self._order.remove(job.id)
        self._ended.set()
        self._ended = anyio.Event()
        self._notify_change(job.id)

    async def _write_output(self, job: JobRecord) -> tuple[str, str]:
        """Write the output of a job. Returns its digest and why it could not be written, or empty texts."""
        try:
            return await self._work.write_output(job), ""
        except CallError as error:
            return "", f"The output could not be written: {error}"
        except Exception:  # noqa: BLE001 - logged; it must end neither the server nor the other jobs
            _log.exception("a bug ended the output of job %s", job.id)
            return "", "The output could not be written: a bug in this server, which its log describes."

    def _mark_warm(self, local: _LocalJob, event: CallEvent) -> None:
        """Start the other items once the API has read the first one: from then on the cache holds what they share."""
        if not local.is_warm and isinstance(event, MessageStart):
            local.is_warm = True
            self._wake_up.set()

    def _count_outcome(self, local: _LocalJob, outcome: job_items.ItemOutcome) -> None:
        local.waits_for_budget = False
        is_temporary = outcome.error is not None and outcome.error.get("retryable") is True
        local.temporary_failures = local.temporary_failures + 1 if is_temporary else 0

    def _notify_change(self, job_id: str) -> None:
        self.on_change(job_id)
        self._changed.set()
        self._changed = anyio.Event()


class _Deferred(Protocol):
    async def commit(self, finish: Callable[[Transaction], bool]) -> bool: ...

    def abandon(self) -> None: ...


def _finish(item: ClaimedItem, outcome: job_items.ItemOutcome, tx: Transaction) -> bool:
    return job_items.finish_item(tx, item, outcome)
