"""What a running server holds: opened once, closed once, and not before a client has been answered."""

from __future__ import annotations

import logging
import threading
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Self

import anyio
import anyio.to_thread

from mcp_server_claude.errors import Failure, Misconfigured

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from anyio.abc import TaskGroup

    from mcp_server_claude.anthropic_api.models import Catalogue
    from mcp_server_claude.calls.answer_feed import Streams
    from mcp_server_claude.calls.conversation_threads import Threads
    from mcp_server_claude.calls.running_calls import Jobs
    from mcp_server_claude.engine.output_file_downloads import Products
    from mcp_server_claude.files import Rules
    from mcp_server_claude.services.open_services import Opened
    from mcp_server_claude.settings import Settings
    from mcp_server_claude.store import Store
    from mcp_server_claude.users.tokens_and_sessions import Users

_log = logging.getLogger(__name__)

STDIO_PLACES, HTTP_PLACES = 8, 64
"""Calls that run at the same time unless `max_concurrent` says otherwise: one person's, or a team's."""


class Services:
    """The way to everything that tools need. Opening happens in the background, at `warm` or at the first use."""

    def __init__(self, settings: Settings, tasks: TaskGroup, *, http: bool = False) -> None:
        places = settings.max_concurrent or (HTTP_PLACES if http else STDIO_PLACES)
        self.settings = settings.model_copy(update={"max_concurrent": places})
        self._http = http
        self._tasks = tasks
        self._warming = False
        self._ended = threading.Event()
        self._ready = anyio.Event()
        self._opened: Opened | None = None

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings, *, http: bool = False) -> AsyncGenerator[Self]:
        """The services for as long as the block runs. Entering opens nothing yet, and so costs nothing.

        `http` says that others than whoever started the process will use them.
        """
        services: Self | None = None
        try:
            async with anyio.create_task_group() as tasks:
                services = cls(settings, tasks, http=http)
                try:
                    yield services
                finally:
                    tasks.cancel_scope.cancel()
        finally:  # after the tasks: a call that runs on in one of them still writes how far it came
            if services is not None:
                services._ended.set()
                if services._opened is not None:
                    await services._opened.close()

    def warm(self) -> None:
        """Begin to open what calls will need, on threads; harmless when it has begun already."""
        if not self._warming:
            self._warming = True
            self._tasks.start_soon(self._open)

    async def jobs(self) -> Jobs:
        """The room for calls: run, waited for, read again.

        Raises:
            Misconfigured: A setting could not be understood: nothing is spent on a guess.
        """
        if self.settings.problems:
            raise Misconfigured(" ".join(self.settings.problems), kind="settings")
        return (await self._once_open()).jobs

    async def streams(self) -> Streams:
        """Answers that are read while they are written.

        Raises:
            Misconfigured: See `jobs`.
        """
        await self.jobs()
        return (await self._once_open()).streams

    async def threads(self) -> Threads:
        """The conversations."""
        return (await self._once_open()).threads

    async def products(self) -> Products:
        """The files that code has made, each for its own user."""
        return (await self._once_open()).products

    async def users(self) -> Users:
        """Those who may ask over HTTP."""
        return (await self._once_open()).users

    async def store(self) -> Store:
        """The ledger and what else outlives the process."""
        return (await self._once_open()).store

    async def catalogue(self) -> Catalogue:
        """The models that can be asked."""
        return await (await self._once_open()).models.catalogue()

    async def sweep(self) -> None:
        """Close what dead processes left open, so that what is shown is true."""
        await (await self._once_open()).sweep()

    async def _once_open(self) -> Opened:
        self.warm()
        await self._ready.wait()
        assert self._opened is not None  # noqa: S101 - `_ready` is set after it, see `_open`
        return self._opened

    async def _open(self) -> None:
        # Not waited for when the server ends: the imports take a second, and a client that ends us waits for 100 ms.
        store, origin, rules = await anyio.to_thread.run_sync(
            partial(_prepare, self.settings, self._ended, http=self._http), abandon_on_cancel=True
        )
        from mcp_server_claude.services.open_services import Opened

        self._opened = Opened(self.settings, store, origin, rules, self._tasks)
        self._ready.set()
        try:
            await self._opened.warm()
        except Failure as failure:
            _log.warning("%s", failure)  # the tools say it too; the server stays up


def _prepare(settings: Settings, ended: threading.Event, *, http: bool) -> tuple[Store, str, Rules]:
    """Import what is heavy and open what blocks, on a thread. A server that has `ended` meanwhile needs it no more."""
    from mcp_server_claude.services.open_services import prepare

    prepared = prepare(settings, http=http)
    if ended.is_set():
        prepared[0].close_now()
    return prepared
