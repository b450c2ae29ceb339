"""Runs jobs in this process: claims their items, at a concurrency that the API allows, and closes what is finished.

There is no task and no look at the database while there are no open jobs: a process finds work by starting it, by its
check at the start, and when an open job is read. While it runs jobs it looks for more once in a while, so
that it shares those of other processes, continues those of dead ones, and stops what was stopped elsewhere.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from typing import TYPE_CHECKING

import anyio

from mcp_server_claude.errors import CallError
from mcp_server_claude.jobs.adaptive_concurrency import AdaptiveConcurrency
from mcp_server_claude.jobs.batch_runner import BatchRunner
from mcp_server_claude.jobs.item_runner import STORE_RETRY_DELAY_S, ItemRunner, LocalJob
from mcp_server_claude.jobs.job_end import job_end, record_job_end
from mcp_server_claude.store import StoreError, job_items, job_records, process_locks
from mcp_server_claude.telemetry.job_spans import MAX_LINKS, leave_current_trace

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import TaskGroup

    from mcp_server_claude.calls.running_call import RunningCall
    from mcp_server_claude.calls.running_calls import CallRegistry
    from mcp_server_claude.engine.batch_calls import BatchCalls
    from mcp_server_claude.engine.ledger_writer import LedgerWriter
    from mcp_server_claude.engine.rate_limit_cooldown import RateLimitCooldown
    from mcp_server_claude.jobs.item_runner import JobWork
    from mcp_server_claude.store import Store
    from mcp_server_claude.store.job_items import ClaimedItem
    from mcp_server_claude.store.job_records import JobRecord

JOB_POLL_INTERVAL_S = 1.0
"""Seconds between two looks at the database while there are open jobs."""
BUG_RETRY_DELAY_S = 60.0
"""Seconds after a bug until the next look at most; a job that is started is looked at at once."""
STOPPED_BY_USER = "it was stopped."

_log = logging.getLogger(__name__)


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
        self._items = ItemRunner(store, ledger, calls, work, self._concurrency_of, self._note_item_change)
        self._batches = BatchRunner(store, ledger.worker, batch_calls, work, self._note_batch_change)
        self._joined: set[str] = set()
        self.on_change: Callable[[str], object] = bool
        self._concurrencies: dict[str, AdaptiveConcurrency] = {}
        self._jobs: dict[str, LocalJob] = {}
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
        local = self._jobs[job.id] = LocalJob(job, is_warm=True)
        local.running[item.seq] = running
        deferred = self._ledger.defer_closings(running.call.id, job.id)
        self._task_group.start_soon(self._items.follow_item, local, item, running, deferred)
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
        except Exception:  # noqa: BLE001 - logged; it must not end the server
            _log.exception("a bug ended a look at the jobs")
            with anyio.move_on_after(BUG_RETRY_DELAY_S):
                await self._wake_up.wait()
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
            local = self._jobs.setdefault(record.id, LocalJob(record))
            local.record = record
            if record.id not in self._order:
                self._order.append(record.id)
            if record.stop_requested:  # also what was given back, or left by a dead process, since it was stopped
                await self._store.write(job_items.cancel_unclaimed_items, record.id)
            if record.stop_requested and not record.reason:
                self.stop_locally(record.id)
        known = {record.id for record in records}
        for job_id in [each for each, local in self._jobs.items() if each not in known and not local.running]:
            self._remove_local_job(job_id)
        for local in list(self._jobs.values()):
            if local.record.id in known and not local.running:
                await self._close_if_finished(local)
            if local.record.batch and local.record.id in self._jobs and not local.is_advancing:
                local.is_advancing = True
                self._task_group.start_soon(self._advance_batches, local)

    async def _advance_batches(self, local: LocalJob) -> None:
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

    def _note_item_change(self, local: LocalJob, *, has_ended: bool) -> None:
        if not local.running or local.is_stopping:
            self._next_look_at = 0.0
        self._wake_up.set()
        if has_ended:
            self._notify_change(local.record.id)

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
            claimed = await self._claim_for_job(local, places)
            free -= len(claimed)
            for item in claimed:
                local.running[item.seq] = None
                self._task_group.start_soon(self._items.run_item, local, item)

    async def _claim_for_job(self, local: LocalJob, places: int) -> list[ClaimedItem]:
        """Claim items of a job.

        Raises:
            StoreError: The database failed. What it may have claimed nevertheless is given back before the next claim.
        """
        job_id, worker = local.record.id, self._ledger.worker
        if local.has_failed_claim:
            await self._store.write(job_items.release_unknown_items, job_id, worker, tuple(local.running))
        local.has_failed_claim = True
        claimed = await self._store.write(job_items.claim_items, job_id, worker, places)
        local.has_failed_claim = False
        return claimed

    def _concurrency_of(self, model: str) -> AdaptiveConcurrency:
        if model not in self._concurrencies:
            self._concurrencies[model] = AdaptiveConcurrency(self._max_concurrent, self._cooldown_for(model))
        return self._concurrencies[model]

    def _free_places_for(self, model: str) -> int:
        running = sum(len(local.running) for local in self._jobs.values() if local.record.model == model)
        return self._concurrency_of(model).limit - running

    async def _close_if_finished(self, local: LocalJob) -> None:
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
            traceparents = await self._store.read(job_items.traceparents, job.id, MAX_LINKS)
            record_job_end(job, progress, end, now, traceparents)
        else:  # another process has closed it, and it may be open again
            self._next_look_at = 0.0
        self._remove_local_job(job.id)
        self._ended.set()
        self._ended = anyio.Event()
        self._notify_change(job.id)

    def _remove_local_job(self, job_id: str) -> None:
        """Keep nothing more about a job that is not open."""
        self._jobs.pop(job_id, None)
        if job_id in self._order:
            self._order.remove(job_id)
        self._batches.forget_job(job_id)

    async def _write_output(self, job: JobRecord) -> tuple[str, str]:
        """Write the output of a job. Returns its digest and why it could not be written, or empty texts."""
        try:
            return await self._work.write_output(job), ""
        except CallError as error:
            return "", f"The output could not be written: {error}"
        except Exception:  # noqa: BLE001 - logged; it must end neither the server nor the other jobs
            _log.exception("a bug ended the output of job %s", job.id)
            return "", "The output could not be written: a bug in mcp-server-claude, which its log describes."

    def _notify_change(self, job_id: str) -> None:
        self.on_change(job_id)
        self._changed.set()
        self._changed = anyio.Event()
