"""Who is alive: a process that has open calls renews its lease; one whose lease has run out counts as dead.

No process ids: they are used again, and mean nothing in another container or on another machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcp_server_claude.store.transaction import scalar

if TYPE_CHECKING:
    from mcp_server_claude.store.transaction import Transaction

LEASE_TTL_S = 30.0
"""Seconds without a renewal after which a process is taken for dead."""
LEASE_RENEWAL_INTERVAL_S = 5.0
"""Seconds between two renewals, while there are open calls."""


def renew_lease(tx: Transaction, worker: str, now: float, ttl_s: float = LEASE_TTL_S) -> bool:
    """Keep a worker's lease for `ttl` seconds from `now`; False where it had run out, or is its first."""
    held = is_alive(tx, worker, now)
    tx.execute(
        "insert into worker (id, lease_until) values (:worker, :until) "
        "on conflict (id) do update set lease_until = excluded.lease_until",
        {"worker": worker, "until": now + ttl_s},
    )
    return held


def release_lease(tx: Transaction, worker: str) -> None:
    """Give the lease back, as a process does that ends and has closed what it had open."""
    tx.execute("delete from worker where id = :worker", {"worker": worker})


def is_alive(tx: Transaction, worker: str, now: float) -> bool:
    """Whether a worker's lease holds at `now`, in unix seconds."""
    params = {"worker": worker, "now": now}
    return (
        tx.fetch_one(scalar, "select 1 as yes from worker where id = :worker and lease_until > :now", params)
        is not None
    )
