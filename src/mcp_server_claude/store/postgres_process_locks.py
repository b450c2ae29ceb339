"""Process locks on PostgreSQL, for servers that share a database: an advisory lock each, and a heartbeat.

The database releases the lock of a process when its connection ends. It keeps the lock of one that is stopped (SIGSTOP,
a frozen container), so each process also sends a statement at an interval, and one that has sent none for
`MAX_SILENCE_S` has its connection ended by the others. Both are decided by the database, and its clock alone. A process
that wakes up connects again. What others have taken over meanwhile is no longer its own: items of jobs have a fence
(`job_items`), threads the id of the call that holds them (`thread_messages`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcp_server_claude.store.process_locks import WORKER_ID_PREFIX, ProcessLocks
from mcp_server_claude.store.transaction import scalar

if TYPE_CHECKING:
    from collections.abc import Collection

    from mcp_server_claude.store.transaction import Transaction

HEARTBEAT_INTERVAL_S = 5.0
"""Seconds without a statement after which a process sends one."""
MAX_SILENCE_S = 30.0
"""Seconds without a statement after which a process counts as dead."""
MAX_STATEMENT_S = 90.0
"""Seconds of one statement after which a process counts as dead: three times the timeout of statements, since the
server cannot end one whose result is not read."""

_SESSIONS = """
select cast(classid as bigint) as high, cast(objid as bigint) as low, activity.pid as pid, case
    when activity.usename is distinct from current_user or activity.state_change is null then 0
    when clock_timestamp() - activity.state_change <= make_interval(secs => cast(
        case when activity.state = 'active' then :statement else :silence end as double precision)) then 0
    else 1 end as is_silent
from pg_locks left join pg_stat_activity as activity on activity.pid = pg_locks.pid
where locktype = 'advisory' and granted and objsubid = 1
and database = (select oid from pg_database where datname = current_database())
"""
"""Sessions that hold advisory locks, with the halves of the locks' keys. Those of other roles are never silent: a role
sees no activity of others, and cannot end their connections
(https://www.postgresql.org/docs/current/monitoring-stats.html)."""


class PostgresProcessLocks(ProcessLocks):
    """Advisory locks of sessions.

    The connection that writes holds a lock with the id of its process. The server releases it when the connection ends:
    at once when the process is killed, and within `DEAD_PEER_TIMEOUT_S` when its machine or network is gone. The ids
    are random, and locks are shared, so a reconnection never waits.
    """

    release_proves_death = False

    def hold(self, tx: Transaction) -> None:
        """Hold the lock of this process in the session of a transaction, until the session ends."""
        high, low = _lock_key(self.worker)
        tx.fetch_one(scalar, "select pg_advisory_lock_shared(:key) as locked", {"key": _signed(high << 32 | low)})

    def database_time(self, tx: Transaction) -> float:
        """Return the time in unix seconds by the server's clock."""
        sql = "select cast(extract(epoch from clock_timestamp()) as double precision) as now"
        return tx.fetch_one(scalar, sql) or 0.0

    def is_running(self, tx: Transaction, worker: str) -> bool:
        return worker in self.running_among(tx, [worker])

    def running_among(self, tx: Transaction, workers: Collection[str]) -> set[str]:
        """Return the ids of those processes that hold their lock and are not silent. Ends connections of silent ones.

        So what they had begun is rolled back, and what they do when they wake up begins with a new connection. The
        process that asks is running.
        """
        running = {self._worker}.intersection(workers)
        workers_by_key = {_lock_key(worker): worker for worker in workers if worker.startswith(WORKER_ID_PREFIX)}
        if not workers_by_key.keys() - map(_lock_key, running):
            return running
        limits = {"silence": MAX_SILENCE_S, "statement": MAX_STATEMENT_S}
        for high, low, pid, is_silent in tx.fetch_all(_session_row, _SESSIONS, limits):
            worker = workers_by_key.get((high, low))
            if worker is None:
                continue
            if is_silent:
                tx.fetch_one(scalar, "select pg_terminate_backend(:pid) as ended", {"pid": pid})
            else:
                running.add(worker)
        return running


def _session_row(high: int, low: int, pid: int | None, is_silent: int) -> tuple[int, int, int, bool]:
    return high, low, pid or 0, bool(is_silent)


def _lock_key(worker: str) -> tuple[int, int]:
    """Return the two halves of a lock's key, 32 bits each, as `pg_locks` shows them."""
    key = int(worker.removeprefix(WORKER_ID_PREFIX), 16)
    return key >> 32, key & 0xFFFF_FFFF


def _signed(key: int) -> int:
    return key - (1 << 64) if key >= 1 << 63 else key
