"""Cleanup after dead processes: their open requests and calls are closed as interrupted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcp_server_claude.call_types import Usage
from mcp_server_claude.store import call_journal, job_records, process_locks, request_ledger, shared_limits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcp_server_claude.store.process_locks import ProcessLocks
    from mcp_server_claude.store.request_ledger import LedgerEntry
    from mcp_server_claude.store.transaction import Transaction

USER_CALL_RETENTION_S = 3_600.0
"""Seconds for which the start of a user's call is kept; limits count those of a minute."""


def close_orphans(tx: Transaction, locks: ProcessLocks, now: float) -> None:
    """Close the requests and calls that dead processes left open, at `now` in unix seconds.

    Their jobs are not closed: another process claims the items. Only jobs that were not yet complete are deleted.
    A process that only seems dead may still be spending, so what it has reserved counts as spent until it says better.
    """
    tx.require_own_transaction()  # it changes rows of many kinds
    process_locks.remove_dead_processes(tx, locks)
    request_ledger.close_orphaned_entries(tx, now, spends_reservations=not locks.release_proves_death)
    for call_id in call_journal.close_orphaned_calls(tx, now):
        if entries := request_ledger.entries_of_call(tx, call_id):
            call_journal.record_usage(tx, call_id, _usage_of_entries(entries).as_json())
    job_records.delete_unfinished_jobs(tx)
    if not locks.release_proves_death:  # servers on several machines, which count the calls of users together
        shared_limits.delete_ended_user_calls(tx, locks.database_time(tx) - USER_CALL_RETENTION_S)


def _usage_of_entries(entries: Sequence[LedgerEntry]) -> Usage:
    """The usage of a call whose process died, from its requests in the ledger."""
    first, last = entries[0], entries[-1]
    costs = [entry.cost_micros for entry in entries if entry.cost_micros is not None]
    return Usage(
        input_tokens=sum(entry.input_tokens for entry in entries),
        cache_read_input_tokens=sum(entry.cache_read_input_tokens for entry in entries),
        cache_creation_input_tokens=sum(entry.cache_creation_input_tokens for entry in entries),
        output_tokens=sum(entry.output_tokens for entry in entries),
        thinking_tokens=sum(entry.thinking_tokens for entry in entries),
        web_searches=sum(entry.web_searches for entry in entries),
        model=last.model,
        cost_usd=sum(costs) / 1e6 if costs else None,
        pricing_as_of=last.pricing_as_of,
        estimated=True,
        request_ids=tuple(entry.request_id for entry in entries if entry.request_id),
        attempts=len(entries),
        retries=len(entries) - 1,
        ttft_s=None if first.ttft_ms is None else first.ttft_ms / 1000,
        thread=last.thread,
        call_id=last.call_id,
        user=last.user,
        trace_id=last.trace_id,
        inference_geo=last.inference_geo,
    )
