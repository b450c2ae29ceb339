"""Cleanup after dead processes: their open requests and calls are closed as interrupted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcp_server_claude.store import call_journal, job_records, process_locks, request_ledger

if TYPE_CHECKING:
    from mcp_server_claude.store.process_locks import ProcessLocks
    from mcp_server_claude.store.transaction import Transaction


def close_orphans(tx: Transaction, locks: ProcessLocks, now: float) -> None:
    """Close the requests and calls that dead processes left open, at `now` in unix seconds.

    Their jobs are not closed: another process claims the items. Only jobs that were not yet complete are deleted.
    """
    process_locks.remove_dead_processes(tx, locks)
    request_ledger.close_orphaned_entries(tx, now)
    call_journal.close_orphaned_calls(tx, now)
    job_records.delete_unfinished_jobs(tx)
