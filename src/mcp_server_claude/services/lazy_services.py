"""Services of a running server, opened once in the background after the handshake, and closed once."""

from __future__ import annotations

import logging
import threading
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Self

import anyio
import anyio.to_thread

from mcp_server_claude.errors import CallError
from mcp_server_claude.services.service_access import ServiceAccess

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from anyio.abc import TaskGroup

    from mcp_server_claude.files import FilePolicy
    from mcp_server_claude.settings import Settings
    from mcp_server_claude.store import Store

_log = logging.getLogger(__name__)

MAX_CONCURRENT_STDIO, MAX_CONCURRENT_HTTP = 8, 64
"""Calls that run at the same time unless `max_concurrent` says otherwise: one person's, or a team's."""


class Services(ServiceAccess):
    """Services that open in the background, at `start_opening` or at the first use."""

    def __init__(
        self, settings: Settings, task_group: TaskGroup, *, http: bool = False, shares_jobs: bool = True
    ) -> None:
        places = settings.max_concurrent or (MAX_CONCURRENT_HTTP if http else MAX_CONCURRENT_STDIO)
        super().__init__(settings.model_copy(update={"max_concurrent": places}))
        self._http = http
        self._shares_jobs = shares_jobs
        self._task_group = task_group
        self._is_opening = False
        self._has_ended = threading.Event()

    @classmethod
    @asynccontextmanager
    async def lifespan(
        cls, settings: Settings, *, http: bool = False, shares_jobs: bool = True
    ) -> AsyncGenerator[Self]:
        """The services for as long as the block runs. Entering opens nothing yet, and so costs nothing.

        `http`: users other than the one who started the process will use them. Without `shares_jobs` this process runs
        only the jobs that it is asked for, not those that other processes left.
        """
        services: Self | None = None
        try:
            async with anyio.create_task_group() as tasks:
                services = cls(settings, tasks, http=http, shares_jobs=shares_jobs)
                try:
                    yield services
                finally:
                    tasks.cancel_scope.cancel()
        finally:  # after the tasks: a call that runs on in one of them still writes how far it came
            if services is not None:
                services._has_ended.set()
                if services._opened is not None:
                    await services._opened.close_services()

    def start_opening(self) -> None:
        """Start to open the services, on threads, unless that was done before."""
        if not self._is_opening:
            self._is_opening = True
            self._task_group.start_soon(self._open_in_background)

    async def _open_in_background(self) -> None:
        # Not waited for when the server ends: the imports take a second, and a client that ends us waits for 100 ms.
        store, rules = await anyio.to_thread.run_sync(
            partial(_open_on_thread, self.settings, self._has_ended, http=self._http), abandon_on_cancel=True
        )
        from mcp_server_claude.services.open_services import OpenServices

        self._opened = OpenServices(
            self.settings,
            store,
            rules,
            self._task_group,
            http=self._http,
            shares_jobs=self._shares_jobs,
            resource_updates=self.resource_updates,
        )
        self._is_open.set()
        try:
            await self._opened.start(preload=self._http or self.settings.preload)
        except CallError as failure:
            _log.warning("%s", failure)  # the tools say it too; the server stays up


def _open_on_thread(settings: Settings, ended: threading.Event, *, http: bool) -> tuple[Store, FilePolicy]:
    """Import the heavy modules and open the store, on a thread. Closed at once if the server has `ended` meanwhile."""
    from mcp_server_claude.services.open_services import open_blocking

    prepared = open_blocking(settings, http=http)
    if ended.is_set():
        prepared[0].close_blocking()
    return prepared
