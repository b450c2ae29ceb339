"""Waits after a rate limit of the API, shared by the servers on one database: they ask with the same key.

A pause costs one write. A server reads the pauses of all before its first call, and once a second while it has calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcp_server_claude.store import shared_limits

if TYPE_CHECKING:
    from mcp_server_claude.calls.running_calls import CallRegistry
    from mcp_server_claude.engine.rate_limit_cooldown import RateLimitCooldowns
    from mcp_server_claude.store import Store


def share_cooldowns(store: Store, cooldowns: RateLimitCooldowns, calls: CallRegistry) -> None:
    """Write each pause to the database, and have the pauses of other servers read while there are calls."""

    def publish(rate_limit: str, seconds: float) -> None:
        store.write_nowait(shared_limits.extend_cooldown, rate_limit, seconds, store.locks)

    async def read() -> None:
        cooldowns.extend_pauses(await store.read(shared_limits.cooldowns_left, store.locks))

    cooldowns.publish_to(publish)
    calls.set_cooldown_reader(read)
