"""The cellar: what must outlive the process. A ledger of requests, leases, a journal of answers, budgets.

A store operation is a synchronous function whose first argument is a transaction, `ledger.begin(tx, entry)`, and is
handed to `Store.write` or `Store.read`. Several belong in one job when they must happen together.
"""

from mcp_server_claude.store import budgets, journal, leases, ledger, produced, threads, users
from mcp_server_claude.store.sqlite import Store
from mcp_server_claude.store.transactions import StoreError, Trouble, Tx

__all__ = [
    "Store",
    "StoreError",
    "Trouble",
    "Tx",
    "budgets",
    "journal",
    "leases",
    "ledger",
    "produced",
    "threads",
    "users",
]
