"""Jumps of the clock, which are not believed at once: what is deleted by its age is deleted by the time before a jump.

Nobody can tell whether a clock that stands far ahead of the last reading is wrong, or the store was not used for long.
So a jump only counts as time after `TRUST_AFTER_S`, in which a clock that is wrong can be set. Times are unix seconds.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from mcp_server_claude.store.transaction import scalar

if TYPE_CHECKING:
    from mcp_server_claude.store.process_locks import ProcessLocks
    from mcp_server_claude.store.transaction import Transaction

TRUST_AFTER_S = 3 * 86_400.0
"""Seconds after a jump from which the clock is believed."""
MIN_SET_BACK_S = 3_600.0
"""Seconds by which a clock is set back, at least, when a jump has ended. It is corrected by less at any time."""
READING_INTERVAL_S = 3_600.0
"""Seconds after which a reading is recorded anew."""
READING, JUMP, BEFORE_JUMP = "clock", "clock_jump", "clock_before_jump"
"""Names of rows: the last reading, the first one after a jump, and the last one before it."""
_READ = "select started_at from periodic_run where name = :name"
_RECORD = """
insert into periodic_run (name, started_at) values (:name, :now)
on conflict (name) do update set started_at = excluded.started_at
"""
_FORGET = "delete from periodic_run where name = :name and started_at > :latest"
_NEWEST_REQUEST = "select max(started_at) as newest from entry"


def trusted_time(tx: Transaction, locks: ProcessLocks, max_gap_s: float) -> float:
    """Return the time by which things may be deleted for their age, and record a reading of the clock.

    A jump is a reading more than `max_gap_s` seconds after the last one, or after the newest request where there is
    none. Where servers share a database, the earlier of its clock and this machine's is read.
    """
    now = min(time.time(), locks.database_time(tx))
    last: float | None = tx.fetch_one(scalar, _READ, {"name": READING})
    before: float | None = tx.fetch_one(scalar, _NEWEST_REQUEST) if last is None else last
    if last is None or not 0 <= now - last < READING_INTERVAL_S:
        tx.execute(_RECORD, {"name": READING, "now": now})
    tx.execute(_FORGET, {"name": JUMP, "latest": now + MIN_SET_BACK_S})
    if before is not None and now - before > max_gap_s:
        tx.execute(_RECORD, {"name": JUMP, "now": now})
        tx.execute(_RECORD, {"name": BEFORE_JUMP, "now": before})
    return min(now, time_before_jump(tx, now) or now)


def time_before_jump(tx: Transaction, now: float) -> float | None:
    """Return the last reading before a jump that is not believed yet, None without one.

    A jump that lies more than `MIN_SET_BACK_S` ahead ended when the clock was set back; the next reading deletes it.
    """
    jump: float | None = tx.fetch_one(scalar, _READ, {"name": JUMP})
    if jump is None or not -MIN_SET_BACK_S <= now - jump < TRUST_AFTER_S:
        return None
    return tx.fetch_one(scalar, _READ, {"name": BEFORE_JUMP})
