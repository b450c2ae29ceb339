"""The cellar: what must outlive the process. A ledger of requests, leases, a journal of answers, budgets.

A store operation is a synchronous function whose first argument is a transaction, `ledger.begin(tx, entry)`, and is
handed to `Store.write` or `Store.read`. Several belong in one job when they must happen together.
"""

from mcp_server_claude.store import (
    budget_reservations,
    call_journal,
    output_file_records,
    process_leases,
    request_ledger,
    thread_messages,
    user_rows,
)
from mcp_server_claude.store.database import Store
from mcp_server_claude.store.transaction import StoreError, StoreErrorKind, Transaction

__all__ = [
    "Store",
    "StoreError",
    "StoreErrorKind",
    "Transaction",
    "budget_reservations",
    "call_journal",
    "output_file_records",
    "process_leases",
    "request_ledger",
    "thread_messages",
    "user_rows",
]
