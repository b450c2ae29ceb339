"""Message batches of jobs, as rows that any process can continue: claim, submit, poll, collect.

A batch is `filling` until its items are chosen, `submitting` from just before its request until its id is saved,
`submitted` until its results are read, and then `collected`. A process that dies leaves it in one of these states for
another: in the first nothing was sent; in the second nobody knows, so it is looked for before it is sent again.
Each claim increases the `fence`, and only the holder of the newest one can write.
"""

from __future__ import annotations

import math
import time
from dataclasses import fields
from secrets import token_hex
from typing import TYPE_CHECKING, Literal, TypeAlias

from mcp_server_claude.frozen_dataclass import frozen_dataclass
from mcp_server_claude.store import process_locks
from mcp_server_claude.store.job_items import ClaimedItem
from mcp_server_claude.store.transaction import scalar

if TYPE_CHECKING:
    from mcp_server_claude.store.transaction import SqlValue, Transaction

BatchState: TypeAlias = Literal["filling", "submitting", "submitted", "collected"]
BATCH_ID_PREFIX = "b_"


@frozen_dataclass(kw_only=True)
class BatchRecord:
    """A batch. Times are unix seconds.

    `upstream_id` is the API's id of it, `requests` the number of its items when it was sent. It is looked at again at
    `next_poll_at`; `polls` and `failures` count the looks and the errors since something changed.
    """

    id: str
    job_id: str
    state: BatchState
    owner: str
    fence: int
    upstream_id: str
    requests: int
    created_at: float
    submitted_at: float
    next_poll_at: float
    polls: int
    failures: int
    cancel_requested: int


_COLUMNS = tuple(each.name for each in fields(BatchRecord))
_CHANGEABLE = frozenset(_COLUMNS) - {"id", "job_id", "fence", "created_at"}
_NAMES = ", ".join(_COLUMNS)
_BOUND = ", ".join(f":{name}" for name in _COLUMNS)
_INSERT = f"insert into message_batch ({_NAMES}) values ({_BOUND})"  # noqa: S608 - constants, as below
_LOCK_JOB = "update job set state = state where id = :job"
"""Makes the claims of other processes wait until the transaction ends."""
_CLAIM = f"""
update message_batch set owner = :worker, fence = fence + 1 where id in (
    select id from message_batch where job_id = :job and id > :after and state <> 'collected'
    and (owner in ('', :worker) or not exists (select 1 from process where process.id = message_batch.owner))
    and (
        next_poll_at <= :now or next_poll_at > :latest
        or (:stops = 1 and cancel_requested = 0 and state <> 'submitting')
    )
    order by id limit 1
)
returning {_NAMES}
"""  # noqa: S608
_ADD_ITEM = """
update job_item set owner = '', batch_id = :batch, progress = :progress
where job_id = :job and seq = :seq and fence = :fence and state = 'running' and batch_id = ''
and exists (select 1 from message_batch where id = :batch and fence = :batch_fence and state = 'filling')
"""
_ITEMS = """
select job_id, seq, fence, attempts, input, call_id, progress from job_item
where batch_id = :batch and state = 'running'
"""


def new_batch_id() -> str:
    """A new batch id: time in seconds first, so that ids sort by age."""
    return f"{BATCH_ID_PREFIX}{int(time.time()):08x}{token_hex(8)}"


def create_batch(tx: Transaction, job_id: str, worker: str, now: float) -> BatchRecord:
    """Begin a batch, claimed by a process, to which items are then added."""
    process_locks.register_process(tx, worker)
    batch = BatchRecord(
        id=new_batch_id(),
        job_id=job_id,
        state="filling",
        owner=worker,
        fence=1,
        upstream_id="",
        requests=0,
        created_at=now,
        submitted_at=0.0,
        next_poll_at=0.0,
        polls=0,
        failures=0,
        cancel_requested=0,
    )
    tx.execute(_INSERT, {name: getattr(batch, name) for name in _COLUMNS})
    return batch


def add_batch_item(tx: Transaction, batch: BatchRecord, item: ClaimedItem, progress: str) -> bool:
    """Move a claimed item from its process to a batch. Returns False, and changes nothing, if one of them is lost."""
    row = {
        "batch": batch.id,
        "batch_fence": batch.fence,
        "job": item.job_id,
        "seq": item.seq,
        "fence": item.fence,
        "progress": progress,
    }
    return tx.execute(_ADD_ITEM, row) == 1


def claim_batch(
    tx: Transaction,
    job_id: str,
    worker: str,
    *,
    now: float,
    max_delay_s: float = math.inf,
    after: str = "",
    stops: bool = False,
) -> BatchRecord | None:
    """Claim the next batch of a job, by id, that is due and that no other running process holds.

    One that is due more than `max_delay_s` from now is due at once: the clock was set back since. With `stops` those
    that are not being canceled are due too. Belongs after `process_locks.remove_dead_processes`.
    """
    process_locks.register_process(tx, worker)
    tx.execute(_LOCK_JOB, {"job": job_id})
    row: dict[str, SqlValue] = {"job": job_id, "worker": worker, "now": now, "after": after, "stops": int(stops)}
    row["latest"] = now + max_delay_s
    return tx.fetch_one(BatchRecord, _CLAIM, row)


def update_batch(tx: Transaction, batch: BatchRecord, **changes: SqlValue) -> bool:
    """Change columns of a claimed batch. Returns False, and changes nothing, if another process has claimed it since.

    Raises:
        TypeError: A name is not one of a column that changes.
    """
    if unknown := changes.keys() - _CHANGEABLE:
        message = f"a batch has no {sorted(unknown)} to change"
        raise TypeError(message)
    assignments = ", ".join(f"{name} = :{name}" for name in changes)
    row = changes | {"id": batch.id, "claimed": batch.fence}
    return tx.execute(f"update message_batch set {assignments} where id = :id and fence = :claimed", row) == 1  # noqa: S608


def items_of_batch(tx: Transaction, batch_id: str, first: int = 0, limit: int = 100) -> list[ClaimedItem]:
    """Return the items of a batch without an outcome, from number `first` on, in their order."""
    sql = f"{_ITEMS} and seq >= :first order by seq limit :limit"
    return tx.fetch_all(ClaimedItem, sql, {"batch": batch_id, "first": first, "limit": limit})


def find_batch_item(tx: Transaction, batch_id: str, seq: int, fence: int) -> ClaimedItem | None:
    """Return an item of a batch, or None if it has an outcome already or was never part of it."""
    sql = f"{_ITEMS} and seq = :seq and fence = :fence"
    return tx.fetch_one(ClaimedItem, sql, {"batch": batch_id, "seq": seq, "fence": fence})


def has_open_batches(tx: Transaction, job_id: str) -> bool:
    """Return True if a job has batches whose results are still to come."""
    sql = "select 1 as one from message_batch where job_id = :job and state <> 'collected' limit 1"
    return tx.fetch_one(scalar, sql, {"job": job_id}) is not None


def known_upstream_ids(tx: Transaction) -> set[str]:
    """Return the API's ids of all batches that are assigned to a row."""
    ids: list[str] = tx.fetch_all(scalar, "select upstream_id from message_batch where upstream_id <> ''")
    return set(ids)


def batches_of_job(tx: Transaction, job_id: str) -> list[BatchRecord]:
    """Return the batches of a job, the oldest first."""
    sql = f"select {_NAMES} from message_batch where job_id = :job order by created_at, id"  # noqa: S608
    return tx.fetch_all(BatchRecord, sql, {"job": job_id})
