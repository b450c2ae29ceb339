"""Runs jobs in message batches: takes the steps of each batch that are due now.

Nothing is remembered here that another process would need: what is known of a batch is in its row, and each step can be
taken by any process with the same account.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from mcp_server_claude.errors import CallError, RequestError
from mcp_server_claude.jobs.batch_collection import BatchCollection
from mcp_server_claude.jobs.batch_items import MAX_POLL_DELAY_S, BatchItems, postpone_after_error, postpone_batch
from mcp_server_claude.jobs.batch_submission import BatchSubmission
from mcp_server_claude.store import message_batches

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcp_server_claude.engine.batch_calls import BatchCalls
    from mcp_server_claude.jobs.batch_items import BatchWork
    from mcp_server_claude.store import Store
    from mcp_server_claude.store.job_records import JobRecord
    from mcp_server_claude.store.message_batches import BatchRecord


class BatchRunner:
    """Advances the batches of jobs; one task a job at a time in each process."""

    def __init__(
        self, store: Store, worker: str, batch_calls: BatchCalls, work: BatchWork, on_change: Callable[[str], object]
    ) -> None:
        """`on_change` is called with the id of a job when items of it have ended."""
        self._store = store
        self._worker = worker
        self._items = BatchItems(store, worker, batch_calls, work, on_change)
        self._submission = BatchSubmission(store, worker, batch_calls, self._items)
        self._collection = BatchCollection(store, batch_calls, self._items)

    def forget_job(self, job_id: str) -> None:
        """Keep nothing more about a job that is closed, or runs elsewhere."""
        self._submission.forget_job(job_id)

    async def advance_job(self, job: JobRecord) -> None:
        """Take the steps of a job's batches that are due now, and submit what waits.

        Raises:
            StoreError: The database could not be read or written. What was sent is found again.
        """
        stops = job.stop_requested and not job.reason
        after = ""
        while True:
            batch = await self._store.write(
                message_batches.claim_batch,
                job.id,
                self._worker,
                now=time.time(),
                max_delay_s=MAX_POLL_DELAY_S,
                after=after,
                stops=stops,
            )
            if batch is None:
                break
            after = batch.id
            try:
                await self._advance_batch(job, batch, stops=stops)
            except CallError as error:
                await postpone_after_error(self._store, batch, error)
            except Exception:  # a bug, which the caller logs; it must not hold up the batches after it
                await postpone_batch(self._store, batch)
                raise
        if not job.stop_requested:
            await self._submission.submit_waiting_items(job)

    async def _advance_batch(self, job: JobRecord, batch: BatchRecord, *, stops: bool) -> None:
        match batch.state:
            case "filling" if job.stop_requested:
                stopped = RequestError("It was stopped before it was sent.", kind="cancelled")
                await self._items.close_items(job, batch, stopped)
            case "filling":
                requests = await self._submission.rebuild_requests(job, batch)
                await self._submission.submit_batch(job, batch, requests)
            case "submitting":
                await self._submission.find_submission(job, batch)
            case "submitted":
                if await self._collection.poll(job, batch, stops=stops):
                    self._submission.resume_after_batch(job.id)
            case "collected":
                pass
