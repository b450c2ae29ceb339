"""The readiness check behind `/readyz`: whether the server can answer calls now."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from mcp_server_claude.anthropic_api.platforms import find_credential
from mcp_server_claude.errors import ConfigurationError
from mcp_server_claude.store import StoreError, process_locks, request_ledger, user_rows

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from mcp_server_claude.services.service_access import ServiceAccess
    from mcp_server_claude.settings import Settings
    from mcp_server_claude.store import Store, Transaction

CACHE_TTL_S = 1.0
"""Seconds for which a result is reused, however many requests ask."""
PROBE_TIMEOUT_S = 2.0
"""Seconds that opening the services and writing to the store may take."""
PROBE_PROCESS = "readyz"


class ReadinessCheck:
    """Checks settings, credential and store, at most once a second."""

    def __init__(self, services: ServiceAccess) -> None:
        self._services = services
        self._reasons: list[str] = []
        self._valid_until = -math.inf
        self._check_lock = anyio.Lock()

    async def failure_reasons(self) -> list[str]:
        """One word for each failed check: `settings`, `credential`, `opening`, `store`."""
        async with self._check_lock:
            if time.monotonic() >= self._valid_until:
                self._reasons = [reason async for reason in self._run_checks()]
                self._valid_until = time.monotonic() + CACHE_TTL_S
            return self._reasons

    async def _run_checks(self) -> AsyncGenerator[str]:
        if self._services.settings.problems:
            yield "settings"
        if not await anyio.to_thread.run_sync(_has_credential, self._services.settings):
            yield "credential"
        store: Store | None = None
        with anyio.move_on_after(PROBE_TIMEOUT_S):
            store = (await self._services.open()).store
        if store is None:
            yield "opening"
        elif not await _is_store_usable(store):
            yield "store"


def _has_credential(settings: Settings) -> bool:
    try:
        find_credential(settings)
    except ConfigurationError:
        return False
    return True


async def _is_store_usable(store: Store) -> bool:
    """True if what a call writes can be committed to the file that the next process will open, and be read from it."""
    if not await anyio.to_thread.run_sync(store.is_current):
        return False
    try:
        with anyio.fail_after(PROBE_TIMEOUT_S):
            await store.write(_write_probe)
            await store.read(_read_probe)
    except (StoreError, TimeoutError):
        return False
    return True


def _write_probe(tx: Transaction) -> None:
    process_locks.register_process(tx, PROBE_PROCESS)
    process_locks.unregister_process(tx, PROBE_PROCESS)
    request_ledger.check_writable(tx)


def _read_probe(tx: Transaction) -> None:
    """Read what the admission of each request reads."""
    user_rows.count_users(tx)
