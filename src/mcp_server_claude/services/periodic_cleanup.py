"""Work on a timer: the deletion of what is older than the retention, and the takeover of what dead servers left."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio

from mcp_server_claude.store import StoreError, call_journal, clock_jumps, job_records, periodic_runs, thread_messages

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mcp_server_claude.engine.output_file_downloads import OutputFiles
    from mcp_server_claude.settings import Settings
    from mcp_server_claude.store import Store

CLEANUP_INTERVAL_S = 43_200.0
MIN_CLEANUP_INTERVAL_S = CLEANUP_INTERVAL_S / 2
"""Seconds after which another server on the same database may begin."""
MIN_CLOCK_JUMP_S = 4 * 86_400.0
"""Seconds between two readings of the clock that are no jump, however short the retention is: a long weekend."""
CLEANUP_RUN = "cleanup"
TAKEOVER_INTERVAL_S = 10.0
"""Seconds between two looks for dead servers, with a handful of short queries each."""
SECONDS_PER_DAY = 86_400

_log = logging.getLogger(__name__)


async def clean_up_periodically(settings: Settings, store: Store, output_files: OutputFiles) -> None:
    """Delete what has expired, at the start and then twice a day, until it is cancelled."""
    while True:
        with suppress(StoreError):  # the next time will do
            await delete_expired(settings, store, output_files)
        await anyio.sleep(CLEANUP_INTERVAL_S)


async def delete_expired(settings: Settings, store: Store, output_files: OutputFiles) -> bool:
    """Delete what has expired. Returns False if another server on the database has just begun to.

    A clock that went forward by half the retention, and by four days or more, is not believed at once, see
    `clock_jumps`.

    Raises:
        StoreError: The database that servers share cannot be used.
    """
    if store.is_shared and not await store.write(
        periodic_runs.start_run, store.locks, CLEANUP_RUN, MIN_CLEANUP_INTERVAL_S
    ):
        return False
    max_gap_s = max(settings.text_retention_days * SECONDS_PER_DAY / 2, MIN_CLOCK_JUMP_S)
    now = await store.write(clock_jumps.trusted_time, store.locks, max_gap_s)
    if now < time.time() - max_gap_s:
        days = round((time.time() - now) / SECONDS_PER_DAY)
        _log.warning(
            "The clock is %d days ahead of the last time that this store was used. If it is wrong, set it within three "
            "days: what has expired by it is deleted then",
            days,
        )
    text_before = now - settings.text_retention_days * SECONDS_PER_DAY
    store.write_nowait(call_journal.delete_old_text, text_before)
    threads_before = now - settings.retention_days * SECONDS_PER_DAY
    store.write_nowait(thread_messages.delete_inactive_threads, threads_before)
    store.write_nowait(job_records.delete_old_jobs, text_before)
    await output_files.delete_expired(text_before)
    return True


async def take_over_periodically(
    close_orphans: Callable[[], Awaitable[None]], resume_open_jobs: Callable[[], Awaitable[None]]
) -> None:
    """Close the calls of dead servers and resume open jobs, even without requests, until it is cancelled.

    For servers that share a database: one that has died may never start again.
    """
    while True:
        await anyio.sleep(TAKEOVER_INTERVAL_S)
        await close_orphans()
        await resume_open_jobs()
