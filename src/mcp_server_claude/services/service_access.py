"""Access to the services of a running server, without the modules that they are built from.

Tools and routes depend on this module; it imports nothing heavy.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Self

import anyio

from mcp_server_claude.calls.resource_updates import ResourceUpdates
from mcp_server_claude.errors import CallError, ConfigurationError

CLIENT_LOAD_TIMEOUT_S = 30.0
"""Seconds that the start waits for the client; a cloud's credentials may come from a service that does not answer."""

_log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from mcp_server_claude.anthropic_api.models import ModelCatalog
    from mcp_server_claude.calls.answer_feed import AnswerFeed
    from mcp_server_claude.calls.conversation_threads import ConversationThreads
    from mcp_server_claude.calls.pending_approvals import SpendingApprovals
    from mcp_server_claude.calls.running_calls import CallRegistry
    from mcp_server_claude.engine.output_file_downloads import OutputFiles
    from mcp_server_claude.jobs.background_jobs import BackgroundJobs
    from mcp_server_claude.services.open_services import OpenServices
    from mcp_server_claude.settings import Settings
    from mcp_server_claude.store import Store
    from mcp_server_claude.users.tokens_and_sessions import UserDirectory


class ServiceAccess(ABC):
    """The services of a server. All but `settings` are there after `open`, which the dependencies await.

    `calls`, `jobs` and `answer_feed` raise a `ConfigurationError` if a setting is invalid: nothing is spent on a guess.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.resource_updates = ResourceUpdates()
        self._is_open = anyio.Event()
        self._opened: OpenServices | None = None

    @abstractmethod
    def start_opening(self) -> None:
        """Start to open the services in the background, unless that was done before."""

    async def open(self) -> Self:
        """Open the services unless they are, and wait until they can be used."""
        self.start_opening()
        await self._is_open.wait()
        return self

    @property
    def are_open(self) -> bool:
        """True once `open` does not wait."""
        return self._is_open.is_set()

    @property
    def calls(self) -> CallRegistry:
        """The running calls, and the journal of all."""
        self._check_settings()
        return self._services().calls

    @property
    def jobs(self) -> BackgroundJobs:
        """The jobs: work that outlives the request that started it."""
        self._check_settings()
        return self._services().jobs

    async def database_key(self, name: str) -> bytes | None:
        """Return the random key of a name that the servers on the database share, or None if it cannot be used now."""
        return await self._services().database_key(name)

    @property
    def answer_feed(self) -> AnswerFeed:
        """The answers that are read while they are written."""
        self._check_settings()
        return self._services().answer_feed

    @property
    def threads(self) -> ConversationThreads:
        """The conversations."""
        return self._services().threads

    @property
    def approvals(self) -> SpendingApprovals:
        """The questions whether a call may be sent."""
        return self._services().approvals

    @property
    def output_files(self) -> OutputFiles:
        """The files that code wrote."""
        return self._services().output_files

    @property
    def users(self) -> UserDirectory:
        """The users of the HTTP server."""
        return self._services().users

    @property
    def store(self) -> Store:
        """The database: ledger, journal, threads and users."""
        return self._services().store

    async def model_catalog(self) -> ModelCatalog:
        """The models that can be asked."""
        return await self._services().models.get_catalog()

    async def load_client(self) -> None:
        """Import and build the Messages API client.

        A server that accepts connections afterwards cannot fail at these imports for want of file descriptors.
        """
        try:
            with anyio.move_on_after(CLIENT_LOAD_TIMEOUT_S):
                await self._services().claude.get_client()
        except CallError:
            pass  # no usable key, proxy or certificates: it is logged at the start, and each call reports it
        except Exception:  # noqa: BLE001 - whatever it is, the server starts
            _log.exception("The client of the Messages API could not be built; each call tries again.")

    @property
    def has_client(self) -> bool:
        """True once the SDK is imported and its client is built; the first call waits for that."""
        return self._services().claude.is_built

    async def wait_until_started(self) -> None:
        """Wait until everything that happens at the start is done, preloading included."""
        await self._services().wait_until_started()

    async def close_orphans(self) -> None:
        """Close the calls and ledger entries that dead processes left open, before calls are listed."""
        await self._services().close_orphans()

    def _check_settings(self) -> None:
        if self.settings.problems:
            raise ConfigurationError(" ".join(self.settings.problems), kind="settings")

    def _services(self) -> OpenServices:
        assert self._opened is not None, "the services are used before `open`"  # noqa: S101 - a bug of this package
        return self._opened
