"""Limits that servers on one database count together: the recent calls of each user, and waits after a rate limit.

Times are seconds of the database's clock, so the clocks of the servers do not matter. That clock can be set back, for
one when a standby takes over: what lies farther ahead than a limit reaches was recorded before, and does not count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcp_server_claude.frozen_dataclass import frozen_dataclass
from mcp_server_claude.store import process_locks

if TYPE_CHECKING:
    from mcp_server_claude.store.process_locks import ProcessLocks
    from mcp_server_claude.store.transaction import Transaction

MAX_COOLDOWN_S = 60.0
"""Seconds of a wait at most: servers share no longer ones (`engine.rate_limit_cooldown`)."""


@frozen_dataclass(kw_only=True)
class UserCall:
    """A recent call of a user: its start, and whether its process runs it still."""

    started_at: float
    is_running: bool


_LOCK_USER = "update member set name = name where name = :user"
_RECENT_CALLS = """
select started_at, case when is_running <> 0
    and exists (select 1 from process where process.id = user_call.worker) then 1 else 0 end as is_running
from user_call where "user" = :user and (
    (started_at > :since and started_at <= :until) or is_running <> 0
) order by started_at
"""
_DELETE_ENDED = """
delete from user_call where started_at <= :before and (
    is_running = 0 or not exists (select 1 from process where process.id = user_call.worker)
)
"""
_EXTEND = """
insert into cooldown (rate_limit, until) values (:rate_limit, :until)
on conflict (rate_limit) do update set until = case
    when cooldown.until < excluded.until or cooldown.until > :latest then excluded.until else cooldown.until end
"""


def lock_recent_calls(tx: Transaction, user: str, now: float, window_s: float) -> list[UserCall]:
    """Return a user's running calls and those of the last `window_s` seconds, by start, whichever server runs them.

    Other servers wait with the user's next call until the transaction ends.
    """
    tx.execute(_LOCK_USER, {"user": user})
    return tx.fetch_all(_user_call_row, _RECENT_CALLS, {"user": user, "since": now - window_s, "until": now + window_s})


def insert_user_call(tx: Transaction, call_id: str, user: str, worker: str, now: float) -> None:
    """Count a call that a process begins. It counts as running while its process does."""
    process_locks.register_process(tx, worker)
    tx.execute(
        'insert into user_call (id, "user", worker, started_at, is_running) values (:id, :user, :worker, :now, 1)',
        {"id": call_id, "user": user, "worker": worker, "now": now},
    )


def end_user_call(tx: Transaction, call_id: str) -> None:
    """Record that a call has ended. Its start still counts."""
    tx.execute("update user_call set is_running = 0 where id = :id", {"id": call_id})


def delete_ended_user_calls(tx: Transaction, before: float) -> int:
    """Delete calls that started before a time and do not run any more. Returns their number."""
    return tx.execute(_DELETE_ENDED, {"before": before})


def extend_cooldown(tx: Transaction, rate_limit: str, seconds: float, locks: ProcessLocks) -> None:
    """Record that no request should be sent under a rate limit of the API for `MAX_COOLDOWN_S` seconds at most."""
    now = locks.database_time(tx)
    row = {"rate_limit": rate_limit, "until": now + min(seconds, MAX_COOLDOWN_S), "latest": now + MAX_COOLDOWN_S}
    tx.execute(_EXTEND, row)


def cooldowns_left(tx: Transaction, locks: ProcessLocks) -> dict[str, float]:
    """Return the rate limits under which no request should be sent, with the seconds that are left."""
    now = locks.database_time(tx)
    sql = "select rate_limit, until from cooldown where until > :now and until <= :latest"
    rows = tx.fetch_all(_cooldown_row, sql, {"now": now, "latest": now + MAX_COOLDOWN_S})
    return {rate_limit: until - now for rate_limit, until in rows}


def _user_call_row(started_at: float, is_running: int) -> UserCall:
    return UserCall(started_at=started_at, is_running=bool(is_running))


def _cooldown_row(rate_limit: str, until: float) -> tuple[str, float]:
    return rate_limit, until
