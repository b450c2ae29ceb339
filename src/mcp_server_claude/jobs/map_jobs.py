"""One prompt over many items: the job is created from its items, and each item becomes a call."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, cast

import anyio.to_thread

from mcp_server_claude.engine.sent_batch_call import MIN_WARM_UP_CHARS
from mcp_server_claude.errors import RequestError
from mcp_server_claude.files.item_sources import is_item_source, item_text, map_files, read_item_source
from mcp_server_claude.files.output_files import OutputWriter, check_output_path
from mcp_server_claude.frozen_dataclass import frozen_dataclass
from mcp_server_claude.jobs import map_prompt, output_lines
from mcp_server_claude.jobs.call_spec import call_from_spec, spec_of_call
from mcp_server_claude.lone_surrogates import without_lone_surrogates
from mcp_server_claude.store import job_items, job_records, store_errors_as

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence

    from mcp_server_claude.call_types import Call
    from mcp_server_claude.engine.engine import Engine
    from mcp_server_claude.engine.ledger_writer import LedgerWriter
    from mcp_server_claude.files import FilePolicy
    from mcp_server_claude.store import Store, Transaction
    from mcp_server_claude.store.job_items import ClaimedItem
    from mcp_server_claude.store.job_records import JobRecord

MAX_ITEMS = 100_000
ITEMS_PER_TRANSACTION = 500
OUTPUT_PAGE_ITEMS = 200

Item = dict[str, object]


@frozen_dataclass(kw_only=True)
class MapRequest:
    """One prompt over many items.

    Args:
        template: The call of every item, with `{item}` or `{field}` in its prompt.
        items: Texts, numbers or objects; or a single glob or path of a table.
        files: Paths of files below the roots, each an item, instead of `items`.
        output: The path of the output file; empty for a new one in the first root; None for none.
        max_usd: What all items may cost together in US dollars; 0 for no limit.
    """

    template: Call
    items: Sequence[object] = ()
    files: Sequence[str] = ()
    output: str | None = ""
    max_usd: float = 0.0


class MapJobs:
    """Creates jobs of many items, and makes their calls and their output."""

    def __init__(
        self, store: Store, engine: Engine, ledger: LedgerWriter, file_policy: FilePolicy, *, writes_files: bool
    ) -> None:
        """Without `writes_files` the output is in the database only: over HTTP a user has no path on this machine."""
        self._store = store
        self._engine = engine
        self._ledger = ledger
        self._file_policy = file_policy
        self._writes_files = writes_files

    async def create(self, request: MapRequest, scopes: tuple[str, str]) -> str:
        """Create the job, or continue the one that the same request has created before. Returns its id.

        `scopes` are those of this process, without and with the files that it reads.

        Raises:
            CallError: An item cannot be sent like this, or the output file is a different one. Nothing was sent.
        """
        output, present = await self._check_output(request.output)
        items = await anyio.to_thread.run_sync(self.items_of, request)
        first = await anyio.to_thread.run_sync(partial(next, items, None))
        if first is None:
            raise RequestError("There are no items.")
        map_prompt.check_template(request.template.prompt, first)
        job = await self._new_job(request, first, output, scopes)
        try:
            digest = await self._add_items(job, request, first, items)
            with store_errors_as("The job could not be saved"):
                opened = await self._store.write(_open_or_continue, job, digest, present)
        except BaseException:
            self._store.write_nowait(_delete_if_new, job.id)
            raise
        if isinstance(opened, RequestError):
            raise opened
        return opened

    def make_item_call(self, job: JobRecord, item: ClaimedItem) -> Call:
        """The call that answers an item.

        Raises:
            RequestError: A row lacks a field that the prompt names.
        """
        return item_call(call_from_spec(job.spec), json.loads(item.input), job_id=job.id, max_usd=_max_usd(job.spec))

    async def write_output(self, job: JobRecord) -> str:
        """Write the output file of a job. Returns its SHA-256; empty if the job has none.

        Raises:
            CallError: It could not be written, or a different file is there by now.
        """
        if not job.output:
            return ""
        as_csv = job.output.lower().endswith(".csv")
        try:
            open_writer = partial(OutputWriter, job.output, self._file_policy, job.output_digest)
            writer = await anyio.to_thread.run_sync(open_writer)
            try:
                async for page in self.output_pages(job.id, as_csv=as_csv):
                    await anyio.to_thread.run_sync(writer.write, page)
                return await anyio.to_thread.run_sync(writer.commit)
            finally:
                writer.close()
        except OSError as error:
            raise RequestError(f"{job.output}: {error.strerror or error}.") from None

    async def output_pages(self, job_id: str, *, as_csv: bool = False) -> AsyncGenerator[bytes]:
        """The lines of a job's output, some at a time, so that any number of items takes little memory.

        Raises:
            ConfigurationError: They could not be read.
        """
        first = 0
        while True:
            with store_errors_as("The answers could not be read"):
                page = await self._store.read(job_items.read_items, job_id, first, OUTPUT_PAGE_ITEMS)
            if not page:
                return
            yield output_lines.encode_lines(page, as_csv=as_csv, with_header=first == 0)
            first = page[-1].seq + 1

    def items_of(self, request: MapRequest) -> Iterator[Item]:
        """The items that a request names. Blocks on the disk: run it on a thread.

        Raises:
            RequestError: They cannot be read.
        """
        if request.files:
            return map_files(request.files, self._file_policy)
        match request.items:
            case [str() as source] if is_item_source(source):
                return map(_replace_surrogates, read_item_source(source.strip(), self._file_policy))
            case items:
                return map(_item_of_entry, items)

    async def _check_output(self, output: str | None) -> tuple[str, str]:
        """The path of the output and the digest of what is there; both empty if no path was given."""
        if not output or not output.strip():
            return "", ""
        if not self._writes_files:
            raise RequestError(
                "output is a path on the server's machine, which this server does not write. Leave it out: the answers "
                "are a resource and a download."
            )
        return await anyio.to_thread.run_sync(check_output_path, output.strip(), self._file_policy)

    async def _new_job(self, request: MapRequest, first: Item, output: str, scopes: tuple[str, str]) -> JobRecord:
        """The job, after its first item has been checked as far as that goes without sending it."""
        template = request.template
        prepared = await self._engine.prepare_call(item_call(template, first))
        template = replace(template, model=prepared.model.id)
        job_id = job_records.new_job_id()
        if not output and request.output is not None and self._writes_files and self._file_policy.roots:
            output = str(self._file_policy.roots[0] / f"claude_map_{job_id}.jsonl")
        uses_files = bool(output) or "file" in first
        is_shared = bool(map_prompt.shared_prefix(template.prompt)) and "file" not in first
        shared_chars = (
            len(template.system) if "file" in first else map_prompt.cached_chars(template.prompt, template.system)
        )
        spec = spec_of_call(template, self._ledger.project) | {
            "job_max_usd": request.max_usd,
            "warm": is_shared or len(template.system) >= map_prompt.MIN_CACHED_SYSTEM_CHARS,
            "batch_warm_up": shared_chars >= MIN_WARM_UP_CHARS,
        }
        return job_records.JobRecord(
            id=job_id,
            created_at=time.time(),
            worker=self._ledger.worker,
            scope=scopes[1] if uses_files else scopes[0],
            user=template.user,
            client=template.client,
            source=template.source,
            tool=template.tool,
            model=template.model,
            title=" ".join(template.prompt[:400].split()),
            spec=spec,
            batch=template.batch,
            output=output,
        )

    async def _add_items(self, job: JobRecord, request: MapRequest, first: Item, rest: Iterator[Item]) -> str:
        """Write the job and its items. Returns the digest of the request."""
        output = request.output and request.output.strip()
        digest = hashlib.sha256(json.dumps([_spec_for_digest(job.spec), output]).encode())
        with store_errors_as("The job could not be saved"):
            await self._store.write(job_records.create_job, job)
            items, seq = [first], 0
            while items:
                encoded = [json.dumps(item) for item in items]
                for each in encoded:
                    digest.update(each.encode())
                if seq + len(items) > MAX_ITEMS:
                    raise RequestError(f"There are more than {MAX_ITEMS:,} items.", kind="too_large")
                await self._store.write(job_records.add_items, job.id, list(enumerate(encoded, seq)))
                seq += len(items)
                items = await anyio.to_thread.run_sync(lambda: list(islice(rest, ITEMS_PER_TRANSACTION)))
        return digest.hexdigest()


def item_call(template: Call, item: Mapping[str, object], *, job_id: str = "", max_usd: float = 0.0) -> Call:
    """The call of one item. What all items share comes first, as a block of its own that the prompt cache keeps.

    Raises:
        RequestError: A row lacks a field that the prompt names.
    """
    prompt = map_prompt.render_prompt(template.prompt, item)
    call = replace(template, job_id=job_id, job_max_usd=max_usd, caches_prompt=False)
    if isinstance(file := item.get("file"), str):
        return replace(call, prompt=prompt, files=(file,), caches_attachments=False)
    prefix = map_prompt.shared_prefix(template.prompt)
    if prefix and prompt[len(prefix) :].strip():
        block = {"type": "text", "text": prefix}
        return replace(call, prompt=prompt[len(prefix) :], attachments=(block,))
    return replace(call, prompt=prompt)


def _item_of_entry(entry: object) -> Item:
    return _replace_surrogates({"row": entry} if isinstance(entry, dict) else {"item": item_text(entry)})


def _replace_surrogates(item: Item) -> Item:
    """The item as a request can carry it. The path of a file stays as it is on the disk."""
    return item if "file" in item else cast("Item", without_lone_surrogates(item))


def _max_usd(spec: Mapping[str, object]) -> float:
    value = spec.get("job_max_usd")
    return float(value) if isinstance(value, int | float) else 0.0


def _spec_for_digest(spec: Mapping[str, object]) -> dict[str, object]:
    """The part of a spec that decides on the answers. Another limit or client continues the same job."""
    irrelevant = {"batch_warm_up", "job_max_usd", "trace_id", "project", "client", "source", "limits", "batch"}
    return {name: value for name, value in sorted(spec.items()) if name not in irrelevant}


def _open_or_continue(tx: Transaction, job: JobRecord, digest: str, present: str) -> str | RequestError:
    """Open a new job, unless the same request was made before: then that job is continued. Returns its id."""
    earlier = job_records.find_job_of_digest(tx, job.user, digest)
    other = job_records.find_job_of_output(tx, job.output, job.id) if job.output else None
    if present and (earlier is None or earlier.output_digest != present):
        job_records.delete_job(tx, job.id)
        return _taken_output_error(other if other is not None and other.user == job.user else None, present)
    if other is not None and other.state != "closed" and (earlier is None or other.id != earlier.id):
        job_records.delete_job(tx, job.id)
        return RequestError(f"Job {other.id} is writing that output file. Name another file.")
    if earlier is None:
        job_records.open_job(tx, job.id, digest)
        return job.id
    job_records.delete_job(tx, job.id)
    if earlier.end in {"incomplete", "cancelled"}:
        job_records.update_spec(tx, earlier.id, job.spec, batch=job.batch)
        job_records.reopen_job(tx, earlier.id)
    return earlier.id


def _taken_output_error(job: JobRecord | None, present: str) -> RequestError:
    """The error for an output file that exists and is not that of the request; `job` wrote to its path before."""
    if job is None:
        reason = "The output file exists and belongs to something else."
    elif job.output_digest == present:
        reason = f"The output file has the answers of job {job.id}, whose items, prompt or arguments are not the same."
    else:
        reason = f"The output file of job {job.id} was changed after it was written."
    return RequestError(f"{reason} Name another file, or move it away.")


def _delete_if_new(tx: Transaction, job_id: str) -> None:
    job_records.delete_job(tx, job_id, only_new=True)
