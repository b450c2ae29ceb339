"""Work on a timer: the deletion of text, threads, jobs and files that are older than the retention."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import anyio

from mcp_server_claude.store import call_journal, job_records, thread_messages

if TYPE_CHECKING:
    from mcp_server_claude.engine.output_file_downloads import OutputFiles
    from mcp_server_claude.settings import Settings
    from mcp_server_claude.store import Store

CLEANUP_INTERVAL_S = 43_200.0
UNDELIVERED_RETENTION_DAYS = 1.0
"""Days for which an answer that was never delivered can be read, with a retention of 0."""
SECONDS_PER_DAY = 86_400


async def clean_up_periodically(settings: Settings, store: Store, output_files: OutputFiles) -> None:
    """Delete what has expired, at the start and then twice a day, until it is cancelled."""
    while True:
        now = time.time()
        days = max(settings.retention_days, UNDELIVERED_RETENTION_DAYS)
        text_before = now - days * SECONDS_PER_DAY
        store.write_nowait(call_journal.delete_old_text, text_before)
        threads_before = now - settings.retention_days * SECONDS_PER_DAY
        store.write_nowait(thread_messages.delete_inactive_threads, threads_before)
        store.write_nowait(job_records.delete_old_jobs, text_before)
        await output_files.delete_expired(text_before)
        await anyio.sleep(CLEANUP_INTERVAL_S)
