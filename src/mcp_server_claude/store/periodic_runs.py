"""Work on a timer that one of the servers on a database does: the first one whose interval is over.

Times are seconds of the database's clock, so the clocks of the servers do not matter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mcp_server_claude.store.process_locks import ProcessLocks
    from mcp_server_claude.store.transaction import Transaction

_START = """
insert into periodic_run (name, started_at) values (:name, :now)
on conflict (name) do update set started_at = excluded.started_at where periodic_run.started_at <= :before
or periodic_run.started_at > :after
"""


def start_run(tx: Transaction, locks: ProcessLocks, name: str, interval_s: float) -> bool:
    """Record that this process does some work now. Returns False if another one began it within `interval_s` seconds.

    A run whose process dies is not repeated before the interval is over. One that lies farther ahead than an interval
    was recorded before the clock was set back, and does not count.
    """
    now = locks.database_time(tx)
    row = {"name": name, "now": now, "before": now - interval_s, "after": now + interval_s}
    return tx.execute(_START, row) == 1
