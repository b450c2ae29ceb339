"""Services of a running server, opened once in the background after the handshake, and closed once."""

from __future__ import annotations

import logging
import threading
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Self

import anyio
import anyio.to_thread

from mcp_server_claude.errors import CallError, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from anyio.abc import TaskGroup

    from mcp_server_claude.anthropic_api.models import ModelCatalog
    from mcp_server_claude.calls.answer_feed import AnswerFeed
    from mcp_server_claude.calls.conversation_threads import ConversationThreads
    from mcp_server_claude.calls.running_calls import CallRegistry
    from mcp_server_claude.engine.output_file_downloads import OutputFiles
    from mcp_server_claude.files import FilePolicy
    from mcp_server_claude.jobs.background_jobs import BackgroundJobs
    from mcp_server_claude.services.open_services import OpenServices
    from mcp_server_claude.settings import Settings
    from mcp_server_claude.store import Store
    from mcp_server_claude.users.tokens_and_sessions import UserDirectory

_log = logging.getLogger(__name__)

MAX_CONCURRENT_STDIO, MAX_CONCURRENT_HTTP = 8, 64
"""Calls that run at the same time unless `max_concurrent` says otherwise: one person's, or a team's."""


class Services:
    """The way to everything that tools need. Opening happens in the background, at `warm` or at the first use."""

    def __init__(self, settings: Settings, task_group: TaskGroup, *, http: bool = False) -> None:
        places = settings.max_concurrent or (MAX_CONCURRENT_HTTP if http else MAX_CONCURRENT_STDIO)
        self.settings = settings.model_copy(update={"max_concurrent": places})
        self._http = http
        self._task_group = task_group
        self._is_opening = False
        self._has_ended = threading.Event()
        self._is_open = anyio.Event()
        self._opened: OpenServices | None = None

    @classmethod
    @asynccontextmanager
    async def lifespan(cls, settings: Settings, *, http: bool = False) -> AsyncGenerator[Self]:
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
                services._has_ended.set()
                if services._opened is not None:
                    await services._opened.close_services()

    def start_opening(self) -> None:
        """Begin to open what calls will need, on threads; harmless when it has begun already."""
        if not self._is_opening:
            self._is_opening = True
            self._task_group.start_soon(self._open_in_background)

    async def calls(self) -> CallRegistry:
        """The room for calls: run, waited for, read again.

        Raises:
            ConfigurationError: A setting could not be understood: nothing is spent on a guess.
        """
        if self.settings.problems:
            raise ConfigurationError(" ".join(self.settings.problems), kind="settings")
        return (await self._wait_until_open()).calls

    async def jobs(self) -> BackgroundJobs:
        """The jobs: work that outlives the request that started it.

        Raises:
            ConfigurationError: A setting could not be understood: nothing is spent on a guess.
        """
        await self.calls()
        return (await self._wait_until_open()).jobs

    async def answer_feed(self) -> AnswerFeed:
        """Answers that are read while they are written.

        Raises:
            ConfigurationError: See `jobs`.
        """
        await self.calls()
        return (await self._wait_until_open()).answer_feed

    async def threads(self) -> ConversationThreads:
        """The conversations."""
        return (await self._wait_until_open()).threads

    async def output_files(self) -> OutputFiles:
        """The files that code has made, each for its own user."""
        return (await self._wait_until_open()).output_files

    async def users(self) -> UserDirectory:
        """Those who may ask over HTTP."""
        return (await self._wait_until_open()).users

    async def store(self) -> Store:
        """The ledger and what else outlives the process."""
        return (await self._wait_until_open()).store

    async def model_catalog(self) -> ModelCatalog:
        """The models that can be asked."""
        return await (await self._wait_until_open()).models.get_catalog()

    async def load_client(self) -> None:
        """Import and build the Messages API client. A server that admits connections afterwards cannot fail at these
        imports for want of file descriptors.
        """
        with suppress(CallError):  # no usable key: `preload` logs it, and the tools say it
            await (await self._wait_until_open()).claude.get_client()

    async def close_orphans(self) -> None:
        """Close what dead processes left open, so that what is shown is true."""
        await (await self._wait_until_open()).close_orphans()

    async def _wait_until_open(self) -> OpenServices:
        self.start_opening()
        await self._is_open.wait()
        assert self._opened is not None  # noqa: S101 - `_ready` is set after it, see `_open`
        return self._opened

    async def _open_in_background(self) -> None:
        # Not waited for when the server ends: the imports take a second, and a client that ends us waits for 100 ms.
        store, origin, rules = await anyio.to_thread.run_sync(
            partial(_open_on_thread, self.settings, self._has_ended, http=self._http), abandon_on_cancel=True
        )
        from mcp_server_claude.services.open_services import OpenServices

        self._opened = OpenServices(self.settings, store, origin, rules, self._task_group)
        self._is_open.set()
        try:
            await self._opened.preload()
        except CallError as failure:
            _log.warning("%s", failure)  # the tools say it too; the server stays up


def _open_on_thread(settings: Settings, ended: threading.Event, *, http: bool) -> tuple[Store, str, FilePolicy]:
    """Import what is heavy and open what blocks, on a thread. A server that has `ended` meanwhile needs it no more."""
    from mcp_server_claude.services.open_services import open_blocking

    prepared = open_blocking(settings, http=http)
    if ended.is_set():
        prepared[0].close_blocking()
    return prepared
