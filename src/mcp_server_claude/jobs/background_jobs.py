"""Jobs as MCP, HTTP and the shell use them: start, list, read, wait for, stop, and read the output."""

from __future__ import annotations

import hashlib
import json
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from mcp_server_claude.errors import CallError, UnknownIdError
from mcp_server_claude.jobs.call_spec import call_from_spec, spec_of_call
from mcp_server_claude.jobs.job_runner import JobRunner
from mcp_server_claude.jobs.job_snapshot import MAP_TOOL, JobSnapshot
from mcp_server_claude.jobs.map_jobs import MapJobs
from mcp_server_claude.jobs.map_pricing import MapPricing
from mcp_server_claude.jobs.output_lines import encode_lines
from mcp_server_claude.store import job_items, job_records, store_errors_as, thread_messages

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from anyio.abc import TaskGroup

    from mcp_server_claude.call_types import Call
    from mcp_server_claude.calls.conversation_threads import ConversationThreads
    from mcp_server_claude.calls.running_call import RunningCall
    from mcp_server_claude.calls.running_calls import CallRegistry
    from mcp_server_claude.engine.engine import Engine
    from mcp_server_claude.engine.ledger_writer import LedgerWriter
    from mcp_server_claude.files import FilePolicy
    from mcp_server_claude.jobs.map_estimates import MapEstimates
    from mcp_server_claude.jobs.map_jobs import MapRequest
    from mcp_server_claude.settings import Settings
    from mcp_server_claude.store import Store, Transaction
    from mcp_server_claude.store.job_items import ClaimedItem, ItemRecord
    from mcp_server_claude.store.job_records import JobProgress, JobRecord

P = ParamSpec("P")
T = TypeVar("T")

MAX_LATEST_JOBS = 10
WAIT_POLL_INTERVAL_S = 0.5
"""Seconds between two looks at a job that another process runs."""


class BackgroundJobs:
    """The jobs of all users, and those that run in this process."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        engine: Engine,
        threads: ConversationThreads,
        calls: CallRegistry,
        ledger: LedgerWriter,
        task_group: TaskGroup,
        *,
        file_policy: FilePolicy,
        writes_files: bool,
        shares_jobs: bool = True,
    ) -> None:
        """Without `writes_files` the output of jobs is kept in the database only.

        Without `shares_jobs` this process runs only jobs that it has started, resumed or waited for.
        """
        self._settings = settings
        self._shares_jobs = shares_jobs
        self._store = store
        self._engine = engine
        self._threads = threads
        self._calls = calls
        self._ledger = ledger
        self._file_scope = _file_scope(file_policy.roots)
        self._maps = MapJobs(store, engine, ledger, file_policy, writes_files=writes_files)
        self._pricing = MapPricing(engine, self._maps)
        self._on_create: Callable[[str], None] | None = None
        self._runner = JobRunner(
            store,
            ledger,
            calls,
            engine.cooldown_for,
            self,
            task_group,
            batch_calls=engine.batch_calls,
            scopes=self._scopes,
            max_concurrent=settings.max_concurrent_items or settings.max_concurrent,
            shares_jobs=shares_jobs,
        )

    async def start_ask(self, call: Call) -> JobSnapshot:
        """Have a question answered in the background.

        Raises:
            CallError: The call cannot be sent like this, or the job could not be saved.
        """
        async with self._calls.admit_job(call):
            call = await self._threads.check_call(call)
            if call.batch:  # an answer that may take a day begins no conversation
                call = replace(call, thread="", starts_thread=False)
            job = self._new_job(
                call, spec_of_call(call, self._ledger.project), reads_files=bool(call.files) or "read" in call.tools
            )
            await self._write(_create_and_open, job, [(0, "{}")])
        self._runner.wake(job.id)
        self._publish_job(call.user)
        return await self.read_job(job.id, call.user)

    async def start_map(self, request: MapRequest) -> JobSnapshot:
        """Start a job that answers one prompt for many items, or resume the one that the same request created before.

        Raises:
            CallError: An item cannot be sent like this, or the job could not be saved. Nothing was sent.
        """
        template = request.template
        async with self._calls.admit_job(template):
            await self._engine.open_client()
            job_id = await self._maps.create(request, (self._scope(), self._scope(reads_files=True)))
        self._runner.wake(job_id)
        self._publish_job(template.user)
        return await self.read_job(job_id, template.user)

    async def estimate_map(self, request: MapRequest) -> MapEstimates:
        """Estimate the cost of one prompt over many items. Some items are counted; nothing is generated.

        Raises:
            CallError: An item cannot be sent like this.
        """
        return await self._pricing.estimate_items(request)

    async def output_pages(self, job_id: str, user: str, *, as_csv: bool = False) -> AsyncGenerator[bytes]:
        """The output of a user's job as it stands now, some lines at a time.

        Raises:
            RequestError: There is no such job.
            ConfigurationError: It could not be read.
        """
        await self.read_job(job_id, user)
        async for page in self._maps.output_pages(job_id, as_csv=as_csv):
            yield page

    async def adopt_call(self, running: RunningCall) -> str:
        """Make a job of a call that runs in this process, so that it survives its request and the process.

        Returns the job's id.

        Raises:
            CallError: The job could not be saved.
        """
        await self._engine.open_client()  # a job belongs to an account
        call = running.call
        reads_files = bool(call.files) or "read" in call.tools
        job = self._new_job(call, spec_of_call(call, self._ledger.project), reads_files=reads_files)
        try:
            item = await self._write(_create_for_running_call, job, call.id, self._ledger.worker)
        except BaseException:  # cancelled, or the commit can have succeeded unnoticed: nobody would end the job
            self._store.write_nowait(_delete_job_of_running_call, job.id, call.id)
            raise
        self._runner.adopt(replace(job, state="open"), item, running)
        self._publish_job(call.user)
        return job.id

    async def resume_open_jobs(self) -> None:
        """Begin with the open jobs that other processes left or still run. For the start of a server.

        Raises:
            StoreError: The database could not be read.
        """
        if self._shares_jobs and self._store.durable and await self._store.read(job_records.count_open_jobs):
            with suppress(CallError):  # without a key nothing can be asked, and the tools say why
                await self._engine.open_client()
            self._runner.wake()

    async def latest_jobs(self, user: str, limit: int = MAX_LATEST_JOBS) -> list[JobSnapshot]:
        """A user's newest jobs.

        Raises:
            ConfigurationError: They could not be read.
        """
        return await self._write(_read_recent, user, limit)

    async def read_job(self, job_id: str, user: str) -> JobSnapshot:
        """A user's job as it stands now.

        Raises:
            RequestError: There is none of that id.
            ConfigurationError: It could not be read.
        """
        snapshot = await self._write(_read_snapshot, job_id, user)
        if snapshot is None:
            raise UnknownIdError("job")
        if not snapshot.is_closed:
            self._runner.ensure_running()
        return snapshot

    async def wait_for_job(
        self, job_id: str, user: str, seconds: float, report: Callable[[JobSnapshot], None] | None = None
    ) -> JobSnapshot:
        """Wait until a user's job is closed, at most so many seconds. `report` gets each new state.

        Raises:
            RequestError: There is none of that id.
            ConfigurationError: It could not be read.
        """
        deadline = time.monotonic() + seconds
        with suppress(CallError):  # without a key another process must answer
            await self._engine.open_client()
        snapshot = await self.read_job(job_id, user)
        if not snapshot.is_closed:
            self._runner.wake(job_id)
        while True:
            if report is not None:
                report(snapshot)
            left = deadline - time.monotonic()
            if snapshot.is_closed or left <= 0:
                return snapshot
            await self._runner.wait_for_change(min(left, WAIT_POLL_INTERVAL_S))
            snapshot = await self.read_job(job_id, user)

    async def watch_job(self, job_id: str, user: str, interval_s: float) -> AsyncGenerator[JobSnapshot]:
        """A user's job again and again until it is closed: every `interval_s` seconds, and at once when it is closed.

        Raises:
            RequestError: There is none of that id.
            ConfigurationError: It could not be read.
        """
        while True:
            snapshot = await self.read_job(job_id, user)
            yield snapshot
            if snapshot.is_closed:
                return
            await self._runner.wait_for_end(interval_s)

    async def wait_at_most(self, seconds: float) -> None:
        """Wait until any job has ended in this process, at most so many seconds."""
        await self._runner.wait_for_end(seconds)

    async def stop_job(self, job_id: str, user: str) -> bool:
        """Stop a user's job: here at once, in other processes within a second or two. False if it was not running.

        Raises:
            ConfigurationError: It could not be written.
        """
        stopped = await self._write(job_records.request_job_stop, job_id, user)
        if stopped:
            self._runner.stop_locally(job_id)
            self._runner.wake(job_id)
        return stopped

    async def resume_job(self, job_id: str, user: str) -> JobSnapshot:
        """Ask again for what a user's job lacks: items that failed, were stopped, or are incomplete.

        A complete or running job stays as it is.

        Raises:
            RequestError: There is none of that id.
            ConfigurationError: There is no key, or it could not be written.
        """
        snapshot = await self.read_job(job_id, user)
        if snapshot.is_closed and snapshot.state != "complete":
            await self._engine.open_client()
            await self._write(job_records.reopen_job, job_id)
        self._runner.wake(job_id)
        return await self.read_job(job_id, user)

    def publish_changes(self, on_change: Callable[[str], None], on_create: Callable[[str], None]) -> None:
        """Call `on_change` with the id of a job when an item of it, or the job, has ended in this process.

        `on_create` is called with the user of each job that is created.
        """
        self._runner.on_change = on_change
        self._on_create = on_create

    def can_run(self, job: JobRecord) -> bool:
        """True if this process may answer the items of a job: it has its account, and the files that it reads."""
        return job.scope in self._scopes()

    def running_call(self, job_id: str) -> RunningCall | None:
        """The call that answers a job of a single question, if it runs in this process."""
        return self._runner.running_call(job_id)

    async def read_items(self, job_id: str, user: str, first: int = 0, limit: int = 100) -> list[ItemRecord]:
        """Items of a user's job with their answers, in their order.

        Raises:
            RequestError: There is no such job.
            ConfigurationError: It could not be read.
        """
        await self.read_job(job_id, user)
        return await self._write(job_items.read_items, job_id, first, limit)

    async def read_output(self, job_id: str, user: str, first: int, limit: int) -> str:
        """Lines of the output of a user's job, as JSON, for the items from number `first` on.

        Raises:
            RequestError: There is no such job.
            ConfigurationError: It could not be read.
        """
        items = await self.read_items(job_id, user, first, limit)
        return encode_lines(items, as_csv=False).decode()

    async def failed_items(self, job_id: str, user: str, limit: int) -> list[ItemRecord]:
        """The first items of a user's job that failed or are incomplete.

        Raises:
            RequestError: There is no such job.
            ConfigurationError: It could not be read.
        """
        await self.read_job(job_id, user)
        return await self._write(job_items.failed_items, job_id, limit)

    def call_of_item(self, job: JobRecord, item: ClaimedItem) -> Call:
        """The call of an item; see `BatchWork`. It is in a batch if its job is, whatever the job began with."""
        call = self._maps.make_item_call(job, item) if job.tool == MAP_TOOL else call_from_spec(job.spec, job_id=job.id)
        return replace(call, batch=job.batch)

    async def build_call(self, job: JobRecord, item: ClaimedItem) -> RunningCall:
        """The call of an item; see `JobWork`."""
        call = self.call_of_item(job, item)
        if job.tool == MAP_TOOL:
            return self._calls.register_job_call(call)
        if call.thread:
            is_new = await self._write(_prepare_thread, call, item.call_id)
            call = replace(call, starts_thread=is_new)
        return self._calls.register_job_call(call)

    async def write_output(self, job: JobRecord) -> str:
        """The output file of a job with many items; see `JobWork`. The answer of a single question has none."""
        return await self._maps.write_output(job) if job.tool == MAP_TOOL else ""

    def _publish_job(self, user: str) -> None:
        if self._on_create is not None:
            self._on_create(user)

    def _scopes(self) -> tuple[str, ...]:
        """The scopes whose jobs this process may run: its account, also with the files that it reads."""
        return (self._scope(), self._scope(reads_files=True)) if self._engine.account else ()

    def _scope(self, *, reads_files: bool = False) -> str:
        account = self._engine.account
        return f"{account} {self._file_scope}" if reads_files else account

    def _new_job(self, call: Call, spec: dict[str, object], *, reads_files: bool) -> JobRecord:
        return job_records.JobRecord(
            id=job_records.new_job_id(),
            created_at=time.time(),
            worker=self._ledger.worker,
            scope=self._scope(reads_files=reads_files),
            user=call.user,
            client=call.client,
            source=call.source,
            tool=call.tool,
            model=call.model,
            title=" ".join(call.prompt[:400].split()),
            spec=spec,
            batch=call.batch,
            digest=hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest(),
        )

    async def _write(self, operation: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run an operation after all writes before it.

        Raises:
            ConfigurationError: It failed.
        """
        with store_errors_as("The jobs could not be read"):
            return await self._store.write(operation, *args, **kwargs)


def _file_scope(roots: Sequence[object]) -> str:
    """A short identifier of the directories whose files may be read."""
    return hashlib.sha256("\n".join(map(str, roots)).encode()).hexdigest()[:16]


def _create_and_open(tx: Transaction, job: JobRecord, items: Sequence[tuple[int, str]]) -> None:
    job_records.create_job(tx, job)
    job_records.add_items(tx, job.id, items)
    job_records.open_job(tx, job.id)


def _create_for_running_call(tx: Transaction, job: JobRecord, call_id: str, worker: str) -> ClaimedItem:
    _create_and_open(tx, job, [(0, "{}")])
    (item,) = job_items.claim_items(tx, job.id, worker, 1)
    job_items.save_item_progress(tx, item, call_id=call_id)
    job_records.assign_call(tx, job.id, call_id)
    return item


def _delete_job_of_running_call(tx: Transaction, job_id: str, call_id: str) -> None:
    job_records.delete_job(tx, job_id)
    job_records.assign_call(tx, None, call_id)


def _read_snapshot(tx: Transaction, job_id: str, user: str) -> JobSnapshot | None:
    record = job_records.find_job(tx, job_id, user)
    return None if record is None else _snapshot(tx, record, job_records.job_progress(tx, record.id))


def _read_recent(tx: Transaction, user: str, limit: int) -> list[JobSnapshot]:
    return [_snapshot(tx, record, progress) for record, progress in job_records.recent_jobs(tx, user, limit)]


def _snapshot(tx: Transaction, record: JobRecord, progress: JobProgress) -> JobSnapshot:
    first = job_items.read_items(tx, record.id, 0, 1) if progress.items == 1 else []
    return JobSnapshot(record=record, progress=progress, call_id=first[0].call_id if first else "")


def _prepare_thread(tx: Transaction, call: Call, interrupted_call_id: str) -> bool:
    """Remove the question of an attempt that was interrupted. Returns True if the thread has to be begun."""
    if interrupted_call_id:
        thread_messages.remove_interrupted_turn(tx, call.thread, interrupted_call_id)
    return call.starts_thread and thread_messages.find_thread(tx, call.thread, call.user) is None
