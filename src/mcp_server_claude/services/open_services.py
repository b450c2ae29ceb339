"""The open services. Imported on a thread, after the client has been answered.

The store is opened with them. The SDK and the prices, which weigh most, are imported by the first call that needs them.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from mcp_server_claude import telemetry
from mcp_server_claude.anthropic_api import system_keyring
from mcp_server_claude.anthropic_api.client import ClaudeClient
from mcp_server_claude.anthropic_api.models import ModelListCache, StaticModelList, fetch_model_list
from mcp_server_claude.anthropic_api.platforms import find_credential
from mcp_server_claude.calls.answer_feed import AnswerFeed
from mcp_server_claude.calls.conversation_threads import ConversationThreads
from mcp_server_claude.calls.pending_approvals import SpendingApprovals
from mcp_server_claude.calls.running_calls import CallRegistry
from mcp_server_claude.engine.engine import Engine, LedgerWriter
from mcp_server_claude.errors import ConfigurationError
from mcp_server_claude.files import FilePolicy, roots_for
from mcp_server_claude.jobs.background_jobs import BackgroundJobs
from mcp_server_claude.redaction import printable
from mcp_server_claude.services.periodic_cleanup import clean_up_periodically, take_over_periodically
from mcp_server_claude.services.shared_cooldowns import share_cooldowns
from mcp_server_claude.store import Store, StoreError, orphan_cleanup, shared_keys
from mcp_server_claude.users.tokens_and_sessions import UserDirectory

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from mcp_server_claude.calls.resource_updates import ResourceUpdates
    from mcp_server_claude.settings import Settings


MAX_PROJECT_CHARS = 100
FILE_CLOSE_TIMEOUT_S = 0.5
"""Seconds that an exit waits at most for another process's lock on the database file."""
SERVER_CLOSE_TIMEOUT_S = 5.0
"""Seconds that an exit waits at most until a database server has taken the last writes, for instance the cost of calls
that the exit cancels."""


class OpenServices:
    """The client, the store, the list of models and the room for calls, made once."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        file_policy: FilePolicy,
        task_group: TaskGroup,
        *,
        http: bool = False,
        shares_jobs: bool = True,
        resource_updates: ResourceUpdates | None = None,
    ) -> None:
        self.store = store
        self.claude = ClaudeClient(settings)
        self.models: ModelListCache | StaticModelList
        if "models" in self.claude.platform.unsupported:
            self.models = StaticModelList(
                self.claude.get_client, self.claude.platform_model_id, self.claude.platform.unsupported_for
            )
        else:
            self.models = ModelListCache(
                self._fetch_models,
                task_group,
                directory=settings.data_dir,
                origin=partial(_model_list_origin, settings),
                wait_s=settings.models_wait_s,
            )
        self.users = UserDirectory(settings, store)
        self.approvals = SpendingApprovals(store)
        self.ledger = LedgerWriter(store, project=project_name(settings, http=http))
        engine = Engine(settings, self.claude, self.models, self.ledger, file_policy)
        self.output_files = engine.output_files
        self.threads = ConversationThreads(settings, engine, store)
        self.calls = CallRegistry(settings, self.threads, store, self.ledger.worker, task_group)
        self.jobs = BackgroundJobs(
            settings,
            store,
            engine,
            self.threads,
            self.calls,
            self.ledger,
            task_group,
            file_policy=file_policy,
            writes_files=not http,
            shares_jobs=shares_jobs,
        )
        self.calls.set_job_adopter(self.jobs.adopt_call)
        if resource_updates is not None:
            self.calls.publish_ends(resource_updates.call_changed, resource_updates.list_changed)
            self.jobs.publish_changes(resource_updates.job_changed, resource_updates.list_changed)
            self.threads.publish_deletions(resource_updates.list_changed)
        self._startup_finished = anyio.Event()
        self.answer_feed = AnswerFeed(
            settings,
            self.calls,
            store,
            close_orphans=self.close_orphans,
            list_files=self.output_files.files_of_call,
            startup_finished=self._startup_finished,
            task_group=task_group,
        )
        task_group.start_soon(clean_up_periodically, settings, store, self.output_files)
        if store.is_shared:
            share_cooldowns(store, engine.cooldowns, self.calls)
            task_group.start_soon(take_over_periodically, self.close_orphans, self.resume_open_jobs)

    async def start(self, *, preload: bool) -> None:
        """Resume open jobs, and with `preload` import the SDK and get the list of models before anybody asks.

        Raises:
            CallError: There is no usable key or base URL.
        """
        try:
            if preload:
                await self.claude.get_client()
                await self.models.get_catalog()
        finally:
            self._startup_finished.set()
            await self.resume_open_jobs()

    async def resume_open_jobs(self) -> None:
        """Begin with the open jobs that other processes left or still run."""
        with suppress(StoreError):  # they are found the next time
            await self.jobs.resume_open_jobs()

    async def wait_until_started(self) -> None:
        """Wait for the end of `start`."""
        await self._startup_finished.wait()

    async def database_key(self, name: str) -> bytes | None:
        """Return the random key of a name that the servers on the database share, or None if it cannot be used now."""
        with suppress(StoreError):
            return bytes.fromhex(await self.store.write(shared_keys.get_or_create_key, name))
        return None

    async def close_orphans(self) -> None:
        """Close the ledger entries and calls that dead processes left open."""
        with suppress(StoreError):  # what cannot be written now is swept the next time
            await self.ledger.close_orphans()

    async def close_services(self) -> None:
        """Close everything, shielded. That takes under 80 ms, since the client may kill the process after 500 ms; only
        writes to a database server that answers slowly are waited for longer.
        """
        sent = telemetry.begin_flush()
        with anyio.move_on_after(0.08, shield=True):
            await self.claude.close()
        self.store.close_blocking(SERVER_CLOSE_TIMEOUT_S if self.store.is_shared else FILE_CLOSE_TIMEOUT_S)
        sent(0.05)

    async def _fetch_models(self) -> list[object]:
        return await fetch_model_list(await self.claude.get_client())


def open_blocking(settings: Settings, *, http: bool = False) -> tuple[Store, FilePolicy]:
    """Open the store, close orphaned calls, and find the files that may be read; blocks, so it runs on a thread.

    Neither the SDK nor the prices are imported: they take two thirds of the memory of a server that was never asked.
    """
    store = Store.open(settings.data_dir, settings.store_url, settings.database_connections)
    store.write_nowait(orphan_cleanup.close_orphans, store.locks, time.time())
    if settings.keyring and settings.api_key is None:
        with suppress(ConfigurationError):  # here, because a keyring may wait for its user; the first call says why
            system_keyring.cached_key(settings.keyring)
    return store, file_policy_for(settings, http=http)


def _model_list_origin(settings: Settings) -> str:
    """The origin of the list of models, since each base URL and credential has its own; empty without a key."""
    try:
        credential = find_credential(settings)
    except ConfigurationError:
        return ""
    return f"{credential.base_url} {credential.source}"


def project_name(settings: Settings, *, http: bool = False) -> str:
    """The project to which the requests of this process belong: its setting, else the name of the working directory.

    Empty over HTTP, where the working directory says nothing about the users' projects, and in a home directory.
    """
    if settings.project.strip() or http:
        return printable(settings.project.strip())
    directory = Path(settings.project_dir).expanduser() if settings.project_dir else _working_directory()
    return "" if directory == Path.home() else printable(directory.name[:MAX_PROJECT_CHARS])


def _working_directory() -> Path:
    try:
        return Path.cwd()
    except OSError:  # it was deleted
        return Path(os.devnull).parent.parent


def file_policy_for(settings: Settings, *, http: bool = False) -> FilePolicy:
    """The files that a call may read: over HTTP only those below the operator's roots, and of the Files API only those
    that were issued to the user, unless the operator allows others.
    """
    try:
        cwd = Path.cwd()
    except OSError:  # it was deleted
        cwd = Path(os.devnull)
    roots = roots_for(cwd=cwd, project_dir=settings.project_dir, operator_roots=settings.roots, http=http)
    return FilePolicy(
        roots=roots,
        allow_secret_names=settings.allow_files,
        max_files=settings.max_files,
        any_file_id=settings.allow_file_ids or not http,
    )
