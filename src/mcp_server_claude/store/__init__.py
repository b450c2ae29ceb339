"""The database: a ledger of requests, a journal of calls, budgets, threads, users, jobs, and the locks of processes.

A store operation is a synchronous function whose first argument is a transaction, for instance
`request_ledger.open_entry(tx, entry)`. It is passed to `Store.write` or `Store.read`. Operations that must happen
together are called by one function.
"""

from mcp_server_claude.store import (
    budget_reservations,
    call_journal,
    job_items,
    job_records,
    orphan_cleanup,
    output_file_records,
    process_locks,
    request_ledger,
    thread_messages,
    user_rows,
)
from mcp_server_claude.store.database import Store
from mcp_server_claude.store.error_translation import store_errors_as
from mcp_server_claude.store.transaction import StoreError, StoreErrorKind, Transaction

__all__ = [
    "Store",
    "StoreError",
    "StoreErrorKind",
    "Transaction",
    "budget_reservations",
    "call_journal",
    "job_items",
    "job_records",
    "orphan_cleanup",
    "output_file_records",
    "process_locks",
    "request_ledger",
    "store_errors_as",
    "thread_messages",
    "user_rows",
]
