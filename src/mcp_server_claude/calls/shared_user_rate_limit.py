"""Rate limit for each user over all servers that share a database: calls started a minute, and calls at once."""

from __future__ import annotations

from collections import deque
from contextlib import asynccontextmanager
from secrets import token_hex
from typing import TYPE_CHECKING

from mcp_server_claude.calls.user_rate_limit import (
    WINDOW_S,
    UserRateLimiter,
    UserWindow,
    is_limited,
    raise_if_limited,
)
from mcp_server_claude.store import StoreError, shared_limits

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from mcp_server_claude.call_types import Call
    from mcp_server_claude.store import Store, Transaction


class SharedUserRateLimiter:
    """Admits calls by what all servers have admitted; by this server's own calls where servers share no database.

    A call costs one transaction before it and one write after it. While the database cannot be reached, each server
    counts for itself.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._local = UserRateLimiter()

    @asynccontextmanager
    async def admit_call(self, call: Call) -> AsyncGenerator[None]:
        """Count a call for as long as the block runs.

        Raises:
            TemporaryError: See `UserRateLimiter.admit_call`.
        """
        with self._local.admit_call(call):
            if not self._store.is_shared or not is_limited(call):
                yield
                return
            row_id = token_hex(8)
            try:
                await self._admit(call, row_id)
                yield
            finally:  # also if the caller was cancelled while it was admitted
                self._store.write_nowait(shared_limits.end_user_call, row_id)

    async def _admit(self, call: Call, row_id: str) -> None:
        try:
            await self._store.write(_admit_user_call, self._store, call, row_id)
        except StoreError:
            return


def _admit_user_call(tx: Transaction, store: Store, call: Call, row_id: str) -> None:
    now = store.locks.database_time(tx)
    recent = shared_limits.lock_recent_calls(tx, call.user, now, WINDOW_S)
    started_at = deque(each.started_at for each in recent if abs(now - each.started_at) < WINDOW_S)
    raise_if_limited(UserWindow(started_at, sum(each.is_running for each in recent)), call.limits, now)
    shared_limits.insert_user_call(tx, row_id, call.user, store.locks.worker, now)
