"""Jobs: work that outlives the request that started it, as rows that any process with the same database can continue.

A job has one or more items (`job_items`). Its cost is the sum of the ledger's entries with its id, and its progress is
counted from its items, so neither can differ from the ledger and the items.
"""

from __future__ import annotations

import json
import time
from dataclasses import field, fields
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

from mcp_server_claude.frozen_dataclass import frozen_dataclass
from mcp_server_claude.store import process_locks
from mcp_server_claude.store.transaction import scalar

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mcp_server_claude.store.transaction import Transaction

JobState: TypeAlias = Literal["new", "open", "closed"]
"""`new` while its items are being written, `open` while there is something left to do."""
JobEnd: TypeAlias = Literal["complete", "incomplete", "cancelled"]
"""End of a closed job. `incomplete`: items failed, or it stopped before all of them were answered."""

JOB_ID_PREFIX = "j_"
MAX_TITLE_CHARS = 200


@frozen_dataclass(kw_only=True)
class JobRecord:
    """A job. Times are unix seconds.

    `scope` names the account and, if files are read, the roots: only processes of the same scope may run its items.
    `spec` is what all items have in common, as JSON values. `digest` identifies the spec and the items, so that the
    same request continues the job. `output` is the path of the output file, or empty, and `output_digest` the SHA-256
    of what was written there. `title` is the beginning of the prompt.
    """

    id: str
    created_at: float
    worker: str
    scope: str = ""
    user: str = "local"
    client: str = ""
    source: str = ""
    tool: str = ""
    model: str = ""
    title: str = ""
    spec: Mapping[str, object] = field(default_factory=dict[str, object])
    digest: str = ""
    output: str = ""
    output_digest: str = ""
    batch: bool = False
    state: JobState = "new"
    end: JobEnd | None = None
    reason: str = ""
    stop_requested: bool = False
    ended_at: float | None = None


@frozen_dataclass(kw_only=True)
class JobProgress:
    """Numbers of a job's items by state, and its cost so far in micro-dollars.

    `incomplete` of the `done` ones were cut. `interruptions` is how often a process died while it answered an item;
    what it had received by then was lost, and the item was asked again. `unpriced` requests have no known price.
    """

    todo: int = 0
    running: int = 0
    done: int = 0
    failed: int = 0
    cancelled: int = 0
    incomplete: int = 0
    interruptions: int = 0
    cost_micros: int = 0
    unpriced: int = 0

    @property
    def items(self) -> int:
        """All items."""
        return self.todo + self.running + self.finished

    @property
    def finished(self) -> int:
        """Items that need nothing more."""
        return self.done + self.failed + self.cancelled


_COLUMNS = tuple(each.name for each in fields(JobRecord))
_QUOTED = ", ".join(f'"{name}"' for name in _COLUMNS)
_BOUND = ", ".join(f":{name}" for name in _COLUMNS)
# The names in these statements are the fields above. Every value is bound.
_INSERT = f"insert into job ({_QUOTED}) values ({_BOUND})"  # noqa: S608
_SELECT = f"select {_QUOTED} from job"  # noqa: S608
_COUNTS = """
select count(*) filter (where state = 'todo') as todo,
count(*) filter (where state = 'running') as running,
count(*) filter (where state = 'done') as done,
count(*) filter (where state = 'failed') as failed,
count(*) filter (where state = 'cancelled') as cancelled,
count(*) filter (where state = 'done' and note <> '') as incomplete,
cast(coalesce(sum(interruptions), 0) as bigint) as interruptions
from job_item where job_id = :id
"""
_COST = """
select cast(coalesce(sum(cost_micros), 0) as bigint) as cost_micros,
count(*) filter (where state = 'closed' and cost_micros is null and input_tokens + output_tokens > 0) as unpriced
from entry where job_id = :id
"""
_CANCEL_UNSTARTED_ITEMS = "update job_item set state = 'cancelled' where job_id = :id and state = 'todo'"
_CLOSE = """
update job set state = 'closed', "end" = :end, reason = :reason, ended_at = :now,
output_digest = case when :digest = '' then output_digest else :digest end where id = :id and state = 'open'
and not exists (select 1 from job_item where job_id = :id and job_item.state in ('todo', 'running'))
"""
_LOCK = "update job set state = state where id = :id"
_REOPEN = """
update job set state = 'open', "end" = null, reason = '', ended_at = null, stop_requested = 0
where id = :id and state = 'closed'
"""
_RETRY_ITEMS = """
update job_item set state = 'todo', attempts = 0, error = null, note = ''
where job_id = :id and state in ('failed', 'cancelled')
"""


def new_job_id() -> str:
    """A new job id: time in seconds first, so that ids sort by age."""
    return f"{JOB_ID_PREFIX}{int(time.time()):08x}{token_hex(8)}"


def create_job(tx: Transaction, job: JobRecord) -> None:
    """Write a job whose items are still to be added."""
    process_locks.register_process(tx, job.worker)
    row = {name: getattr(job, name) for name in _COLUMNS}
    row |= {
        "title": job.title[:MAX_TITLE_CHARS],
        "spec": json.dumps(dict(job.spec)),
        "batch": int(job.batch),
        "stop_requested": int(job.stop_requested),
    }
    tx.execute(_INSERT, row)


def add_items(tx: Transaction, job_id: str, items: Iterable[tuple[int, str]]) -> None:
    """Add items to a new job: their number, from 0 on, and their input as JSON."""
    for seq, content in items:
        tx.execute(
            "insert into job_item (job_id, seq, input) values (:id, :seq, :input)",
            {"id": job_id, "seq": seq, "input": content},
        )


def open_job(tx: Transaction, job_id: str, digest: str = "") -> None:
    """Make a new job claimable, once all of its items are there and so its digest is known."""
    sql = "update job set state = 'open', digest = case when :digest = '' then digest else :digest end "
    tx.execute(f"{sql}where id = :id and state = 'new'", {"id": job_id, "digest": digest})


def find_job_of_digest(tx: Transaction, user: str, digest: str) -> JobRecord | None:
    """Return a user's newest job with a digest: the same request, made before."""
    sql = f"{_SELECT} where \"user\" = :user and digest = :digest and state <> 'new' order by created_at desc limit 1"
    return tx.fetch_one(_job_row, sql, {"user": user, "digest": digest})


def delete_job(tx: Transaction, job_id: str, *, only_new: bool = False) -> None:
    """Delete a job with its items, with `only_new` unless it is open already. The ledger is kept."""
    _delete_jobs(tx, "id = :id and state = 'new'" if only_new else "id = :id", {"id": job_id})


def update_spec(tx: Transaction, job_id: str, spec: Mapping[str, object], *, batch: bool = False) -> None:
    """Replace the spec of a job that is continued: with another limit, or now with or without a `batch`."""
    row = {"id": job_id, "spec": json.dumps(dict(spec)), "batch": int(batch)}
    tx.execute("update job set spec = :spec, batch = :batch where id = :id", row)


def assign_call(tx: Transaction, job_id: str | None, call_id: str) -> None:
    """Count a call that runs already, and its requests, as a job's, or with None as nobody's."""
    tx.execute("update call set job_id = :job where id = :call", {"job": job_id, "call": call_id})
    tx.execute("update entry set job_id = :job where call_id = :call", {"job": job_id, "call": call_id})


def find_job(tx: Transaction, job_id: str, user: str) -> JobRecord | None:
    """Return a user's job, or None if this user has none of that id."""
    return tx.fetch_one(_job_row, f'{_SELECT} where id = :id and "user" = :user', {"id": job_id, "user": user})


def find_job_of_output(tx: Transaction, output: str, except_id: str = "") -> JobRecord | None:
    """Return the newest other job that writes a path, of any user."""
    sql = f"{_SELECT} where output = :output and id <> :except_id order by created_at desc, id desc limit 1"
    return tx.fetch_one(_job_row, sql, {"output": output, "except_id": except_id})


def recent_jobs(tx: Transaction, user: str, limit: int) -> list[tuple[JobRecord, JobProgress]]:
    """Return a user's newest jobs with their progress."""
    sql = f"{_SELECT} where \"user\" = :user and state <> 'new' order by created_at desc, id desc limit :limit"
    jobs = tx.fetch_all(_job_row, sql, {"user": user, "limit": limit})
    return [(job, job_progress(tx, job.id)) for job in jobs]


def open_jobs(tx: Transaction, scopes: Sequence[str]) -> list[JobRecord]:
    """Return the open jobs of some scopes, the oldest first."""
    jobs = tx.fetch_all(_job_row, f"{_SELECT} where state = 'open' order by created_at, id")
    return [job for job in jobs if job.scope in scopes]


def job_progress(tx: Transaction, job_id: str) -> JobProgress:
    """Count a job's items, and add up its cost."""
    counts = tx.fetch_one(dict[str, int], _COUNTS, {"id": job_id}) or {}
    cost = tx.fetch_one(dict[str, int], _COST, {"id": job_id}) or {}
    return JobProgress(**counts, **cost)


def request_job_stop(tx: Transaction, job_id: str, user: str, reason: str = "") -> bool:
    """Cancel what is not yet running of a user's job. Returns False if it is not open.

    What runs is to be stopped too, unless there is a `reason` why the server itself starts nothing more of the job.
    """
    sql = "update job set stop_requested = 1, reason = :reason where id = :id and \"user\" = :user and state = 'open'"
    stopped = tx.execute(sql, {"id": job_id, "user": user, "reason": reason})
    if stopped:
        tx.execute(_CANCEL_UNSTARTED_ITEMS, {"id": job_id})
    return stopped == 1


def close_job(
    tx: Transaction, job_id: str, *, end: JobEnd, now: float, reason: str = "", output_digest: str = ""
) -> bool:
    """Close a job whose items are all finished. Returns True exactly once, also if several processes try.

    One that was closed and opened again since, with items to do, stays open.
    """
    row = {"id": job_id, "end": end, "now": now, "reason": reason, "digest": output_digest}
    tx.execute_all([(_LOCK, {"id": job_id})])  # so the next statement sees what another one has changed
    return tx.execute(_CLOSE, row) == 1


def reopen_job(tx: Transaction, job_id: str) -> bool:
    """Open a closed job again, with its failed and cancelled items to do. Returns False if it was not closed."""
    reopened = tx.execute(_REOPEN, {"id": job_id}) == 1
    if reopened:
        tx.execute(_RETRY_ITEMS, {"id": job_id})
    return reopened


def delete_old_jobs(tx: Transaction, before: float) -> int:
    """Delete closed jobs that ended before a time in unix seconds. The ledger is kept. Returns their number.

    Budgets of jobs that are gone are deleted too: a request that ends after its job was deleted may write one anew.
    """
    deleted = _delete_jobs(tx, "state = 'closed' and ended_at < :before", {"before": before})
    tx.execute("delete from budget where scope like 'job:%' and substr(scope, 5) not in (select id from job)")
    return deleted


def delete_unfinished_jobs(tx: Transaction) -> int:
    """Delete jobs whose process died before all of their items were written. Returns their number.

    Belongs after `process_locks.remove_dead_processes`.
    """
    orphaned = "state = 'new' and not exists (select 1 from process where process.id = job.worker)"
    return _delete_jobs(tx, orphaned, {})


def erase_jobs(tx: Transaction, before: float, user: str | None = None) -> int:
    """Delete the jobs of a user, or of all, that ended before a time in unix seconds. Returns their number."""
    condition = "" if user is None else ' and "user" = :user'
    return _delete_jobs(
        tx,
        f"state = 'closed' and ended_at < :before{condition}",
        {"before": before} if user is None else {"before": before, "user": user},
    )


def _delete_jobs(tx: Transaction, condition: str, params: Mapping[str, str | float]) -> int:
    for table in ("job_item", "message_batch"):
        tx.execute(f"delete from {table} where job_id in (select id from job where {condition})", params)  # noqa: S608 - constants
    for table in ("hold", "budget"):
        tx.execute(f"delete from {table} where scope in (select 'job:' || id from job where {condition})", params)  # noqa: S608
    return tx.execute(f"delete from job where {condition}", params)  # noqa: S608


def count_open_jobs(tx: Transaction) -> int:
    """Return the number of jobs that are not closed."""
    return tx.fetch_one(scalar, "select count(*) as n from job where state <> 'closed'") or 0


def _decode_spec(text: str) -> dict[str, object]:
    """The spec of a job; empty if its row is damaged, so that its items fail and other jobs go on."""
    try:
        spec: object = json.loads(text)
    except ValueError:
        return {}
    return cast("dict[str, object]", spec) if isinstance(spec, dict) else {}


def _job_row(*, spec: str, batch: int, stop_requested: int, **row: Any) -> JobRecord:
    return JobRecord(spec=_decode_spec(spec), batch=bool(batch), stop_requested=bool(stop_requested), **row)
