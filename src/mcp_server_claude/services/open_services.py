"""What the services consist of once they are open. Imported on a thread, after the client has been answered.

Everything that is heavy to import or slow to open hangs below this module: the SDK, the store, the prices.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from mcp_server_claude import pricing, telemetry
from mcp_server_claude.anthropic_api import Claude, find
from mcp_server_claude.anthropic_api.models import Listed, Models, fetch_with
from mcp_server_claude.calls.answer_feed import Streams
from mcp_server_claude.calls.conversation_threads import Threads
from mcp_server_claude.calls.running_calls import Jobs
from mcp_server_claude.engine.engine import Book, Engine
from mcp_server_claude.errors import Misconfigured
from mcp_server_claude.files import Rules, roots_for
from mcp_server_claude.store import Store, StoreError, call_journal, request_ledger, thread_messages
from mcp_server_claude.users.tokens_and_sessions import Users

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from mcp_server_claude.settings import Settings

UNDELIVERED_DAYS = 1.0
"""With a retention of 0 an answer goes when it is delivered; one that never was can be fetched for a day."""
TIDY_S = 43_200.0


class Opened:
    """The client, the store, the list of models and the room for calls, made once."""

    def __init__(self, settings: Settings, store: Store, origin: str, rules: Rules, tasks: TaskGroup) -> None:
        self._settings = settings
        self.store = store
        self.claude = Claude(settings)
        self.models: Models | Listed
        if "models" in self.claude.platform.lacks:
            self.models = Listed(self.claude.ready, self.claude.call_it, self.claude.platform.missing)
        else:
            self.models = Models(
                self._fetch_models,
                tasks,
                directory=settings.data_dir,
                origin=origin,
                wait_s=settings.models_wait_s,
            )
        self.users = Users(settings, store)
        self.book = Book(store)
        engine = Engine(settings, self.claude, self.models, self.book, rules)
        self.products = engine.products
        self.threads = Threads(settings, engine, store, self.book.worker)
        self.jobs = Jobs(settings, self.threads, store, self.book.worker, tasks)
        self._warmed = anyio.Event()
        self.streams = Streams(
            settings, self.jobs, store, sweep=self.sweep, made=self.products.of, warmed=self._warmed, tasks=tasks
        )
        tasks.start_soon(self.book.keep)
        tasks.start_soon(self._tidy)

    async def warm(self) -> None:
        """Import the SDK and get the list of models before anybody asks.

        Raises:
            Failure: There is no usable key or base URL.
        """
        try:
            await self.claude.ready()
            await self.models.catalogue()
        finally:
            self._warmed.set()

    async def sweep(self) -> None:
        """Close the lines and calls that dead processes left open, so that what is shown is true."""
        with suppress(StoreError):  # what cannot be written now is swept the next time
            await self.book.sweep()

    async def close(self) -> None:
        """Close everything. The client may kill the process after 500 ms, so this takes under 80 ms and is shielded."""
        sent = telemetry.flush()
        with anyio.move_on_after(0.08, shield=True):
            await self.claude.close()
        self.store.close_now(wait_s=0.5)
        sent(0.05)

    async def _fetch_models(self) -> list[object]:
        return await fetch_with(await self.claude.ready())

    async def _tidy(self) -> None:
        """Forget the text of calls that are older than the retention says, at the start and then twice a day."""
        while True:
            days = max(self._settings.retention_days, UNDELIVERED_DAYS)
            self.store.post(call_journal.forget, time.time() - days * 86_400)
            self.store.post(thread_messages.forget, time.time() - self._settings.retention_days * 86_400)
            await self.products.forget(time.time() - days * 86_400)
            await anyio.sleep(TIDY_S)


def prepare(settings: Settings, *, http: bool = False) -> tuple[Store, str, Rules]:
    """What blocks, on a thread: open the store, close what the dead left open, load the prices, look for a key.

    Returns the store; whose list of models it is to be, since each base URL and credential has its own; and what
    files may be read.
    """
    store = Store.open(settings.data_dir)
    store.post(request_ledger.interrupted, time.time())
    store.post(call_journal.interrupted, time.time())
    pricing.rates("claude")
    try:
        credential = find(settings)
    except Misconfigured:
        return store, "", rules_of(settings, http=http)
    return store, f"{credential.base_url} {credential.source}", rules_of(settings, http=http)


def rules_of(settings: Settings, *, http: bool = False) -> Rules:
    """What a call may read of this machine: over HTTP only what the operator named."""
    try:
        cwd = Path.cwd()
    except OSError:  # it was deleted
        cwd = Path(os.devnull)
    roots = roots_for(cwd=cwd, project_dir=settings.project_dir, named=settings.roots, http=http)
    return Rules(roots=roots, allow_secret_names=settings.allow_files, max_files=settings.max_files)
