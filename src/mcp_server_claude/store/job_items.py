"""The items of jobs, as leases: claim, finish, release.

An item belongs to the process that claimed it for as long as that process lives (`process_locks`). Each claim
increases the item's `fence`, and only the holder of the newest fence can finish it. So an answer counts exactly once,
even if a process that was taken for dead comes back. An item with a `batch_id` belongs to no process: it is answered in
a message batch, which any process may read (`message_batches`).
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from mcp_server_claude.frozen_dataclass import frozen_dataclass
from mcp_server_claude.store import process_locks
from mcp_server_claude.store.transaction import scalar

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mcp_server_claude.store.transaction import Transaction

ItemState: TypeAlias = Literal["todo", "running", "done", "failed", "cancelled"]
FinalItemState: TypeAlias = Literal["done", "failed", "cancelled"]

MAX_ATTEMPTS = 5
"""Deaths of a process while it answered an item after which the item counts as failed; it may be what kills them."""
TOO_MANY_ATTEMPTS = {
    "message": f"The server ended {MAX_ATTEMPTS} times while this was being answered.",
    "kind": "interrupted",
}


@frozen_dataclass(kw_only=True)
class ClaimedItem:
    """An item that this process answers. `input` is JSON, `progress` the JSON of an earlier attempt, or empty."""

    job_id: str
    seq: int
    fence: int
    attempts: int
    input: str
    call_id: str = ""
    progress: str = ""


@frozen_dataclass(kw_only=True)
class ItemOutcome:
    """What became of an item.

    `text` is the answer, or as much as there is of a cancelled one; `is_json` says that it is the value of a schema.
    `note` is the reason why an answer is incomplete. `usage`, `error` and `annotations` are JSON values; an error has a
    `message`, and the fields of `CallError.as_json`. Annotations are the `notes` and `citations` of an answer, and the
    `traceparent` of its call's span.
    """

    state: FinalItemState
    call_id: str = ""
    text: str = ""
    is_json: bool = False
    note: str = ""
    usage: Mapping[str, object] | None = None
    error: Mapping[str, object] | None = None
    annotations: Mapping[str, object] | None = None


@frozen_dataclass(kw_only=True)
class ItemRecord:
    """An item as it can be read: its input as JSON, its state, and its outcome if it has one."""

    seq: int
    state: ItemState
    input: str
    call_id: str = ""
    text: str = ""
    is_json: bool = False
    note: str = ""
    usage: Mapping[str, object] | None = None
    error: Mapping[str, object] | None = None
    annotations: Mapping[str, object] | None = None


_IS_ORPHANED = """
state = 'running' and batch_id = '' and not exists (select 1 from process where process.id = job_item.owner)
"""
_PARK = f"""
update job_item set state = 'failed', owner = '', error = :error, interruptions = interruptions + 1
where job_id = :job and attempts >= :most and {_IS_ORPHANED}
"""  # noqa: S608 - constants
_LOCK_JOB = "update job set state = state where id = :job"
"""Makes the claims of other processes wait until the transaction ends, so that each sees those of the others."""
_CANCEL_ORPHANED_ITEMS = f"""
update job_item set state = 'cancelled', owner = '', interruptions = interruptions + 1
where job_id = :job and {_IS_ORPHANED}
"""  # noqa: S608
_CANCEL_ORPHANED_ITEMS_OF_STOPPED_JOB = f"""{_CANCEL_ORPHANED_ITEMS}
and exists (select 1 from job where job.id = job_item.job_id and job.stop_requested <> 0 and job.reason = '')
"""  # noqa: S608
_CLAIM = f"""
update job_item set interruptions = interruptions + case when state = 'running' then 1 else 0 end,
state = 'running', owner = :worker, fence = fence + 1, attempts = attempts + 1
where job_id = :job and seq in (
    select seq from (
        select seq from job_item where job_id = :job and {_IS_ORPHANED}
        union all
        select seq from (
            select seq from job_item where job_id = :job and state = 'todo' order by seq limit :limit
        ) as due
    ) as claimable order by seq limit :limit
)
returning job_id, seq, fence, attempts, input, call_id, progress
"""  # noqa: S608
_OWN_RUNNING_ITEM = "job_id = :job and seq = :seq and fence = :fence and state = 'running'"
_FINISH = f"""
update job_item set state = :state, owner = '', batch_id = '', call_id = :call_id, text = :text, is_json = :is_json,
note = :note, usage = :usage, error = :error, annotations = :annotations, progress = '' where {_OWN_RUNNING_ITEM}
"""  # noqa: S608
_RELEASE = f"""
update job_item set state = 'todo', owner = '', attempts = attempts - 1 where {_OWN_RUNNING_ITEM} and batch_id = ''
"""  # noqa: S608
_RELEASE_ALL = """
update job_item set state = 'todo', owner = '', attempts = attempts - 1 where owner = :worker and state = 'running'
"""
_RELEASE_UNKNOWN = f"""
{_RELEASE_ALL} and job_id = :job and batch_id = '' and seq not in ({{known}})
"""
_SAVE = f"update job_item set call_id = :call_id, progress = :progress where {_OWN_RUNNING_ITEM}"  # noqa: S608
_COLUMNS = "seq, state, input, call_id, text, is_json, note, usage, error, annotations"
_PAGE = f"select {_COLUMNS} from job_item where job_id = :job and seq >= :first order by seq limit :limit"  # noqa: S608
_FAILED = f"""
select {_COLUMNS} from job_item where job_id = :job and (state = 'failed' or (state = 'done' and note <> ''))
order by seq limit :limit
"""  # noqa: S608


def claim_items(tx: Transaction, job_id: str, worker: str, limit: int) -> list[ClaimedItem]:
    """Claim at most `limit` items of a job, in their order: those to do, and those of dead processes.

    Belongs after `process_locks.remove_dead_processes` in the same transaction. Items during which a process has died
    `MAX_ATTEMPTS` times become failed instead.
    """
    tx.execute_all(
        [
            process_locks.registration(worker),
            (_LOCK_JOB, {"job": job_id}),
            (_PARK, {"job": job_id, "error": json.dumps(TOO_MANY_ATTEMPTS), "most": MAX_ATTEMPTS}),
            (_CANCEL_ORPHANED_ITEMS_OF_STOPPED_JOB, {"job": job_id}),
        ]
    )
    claimed = tx.fetch_all(ClaimedItem, _CLAIM, {"job": job_id, "worker": worker, "limit": limit})
    return sorted(claimed, key=lambda item: item.seq)


def cancel_unclaimed_items(tx: Transaction, job_id: str) -> int:
    """Cancel the items of a stopped job that no running process answers. Returns their number.

    Belongs after `process_locks.remove_dead_processes` in the same transaction or an earlier one.
    """
    waiting = tx.execute(
        "update job_item set state = 'cancelled' where job_id = :job and state = 'todo'", {"job": job_id}
    )
    return waiting + tx.execute(_CANCEL_ORPHANED_ITEMS, {"job": job_id})


def finish_item(tx: Transaction, item: ClaimedItem, outcome: ItemOutcome) -> bool:
    """Finish an item. Returns False, and changes nothing, if another process has claimed it since.

    Belongs in one transaction with `request_ledger.close_entry` of the item's last request.
    """
    row = {
        "job": item.job_id,
        "seq": item.seq,
        "fence": item.fence,
        "state": outcome.state,
        "call_id": outcome.call_id,
        "text": outcome.text,
        "is_json": int(outcome.is_json),
        "note": outcome.note,
        "usage": _json_text(outcome.usage),
        "error": _json_text(outcome.error),
        "annotations": _json_text(outcome.annotations),
    }
    return tx.execute(_FINISH, row) == 1


def save_item_progress(tx: Transaction, item: ClaimedItem, *, call_id: str, progress: str = "") -> bool:
    """Save the call that answers an item, and what another process needs to continue. Returns False as
    `finish_item`.
    """
    row = {"job": item.job_id, "seq": item.seq, "fence": item.fence, "call_id": call_id, "progress": progress}
    return tx.execute(_SAVE, row) == 1


def release_item(tx: Transaction, item: ClaimedItem) -> None:
    """Give an item back, to be done later. The attempt does not count."""
    tx.execute(_RELEASE, {"job": item.job_id, "seq": item.seq, "fence": item.fence})


def release_items(tx: Transaction, worker: str) -> int:
    """Give back all items of a process that ends. Returns their number."""
    return tx.execute(_RELEASE_ALL, {"worker": worker})


def release_unknown_items(tx: Transaction, job_id: str, worker: str, known: Iterable[int] = ()) -> int:
    """Give back a process's items of a job except those that it knows of, by number. Returns their number.

    For a process whose claim failed: the database can have committed it without the connection to say so.
    """
    numbers = ", ".join(str(int(seq)) for seq in (*known, -1))
    return tx.execute(_RELEASE_UNKNOWN.format(known=numbers), {"job": job_id, "worker": worker})


def is_held(tx: Transaction, item: ClaimedItem) -> bool:
    """Return True if no other process has claimed the item since."""
    row = {"job": item.job_id, "seq": item.seq, "fence": item.fence}
    return tx.fetch_one(scalar, f"select count(*) as n from job_item where {_OWN_RUNNING_ITEM}", row) == 1  # noqa: S608


def read_items(tx: Transaction, job_id: str, first: int = 0, limit: int = 100) -> list[ItemRecord]:
    """Return a job's items from number `first` on, in their order."""
    return tx.fetch_all(_item_row, _PAGE, {"job": job_id, "first": first, "limit": limit})


def failed_items(tx: Transaction, job_id: str, limit: int) -> list[ItemRecord]:
    """Return a job's first items that failed or whose answer is incomplete."""
    return tx.fetch_all(_item_row, _FAILED, {"job": job_id, "limit": limit})


def has_claimable_items(tx: Transaction, job_id: str) -> bool:
    """Return True if `claim_items` would find something."""
    sql = f"select 1 as one from job_item where job_id = :job and (state = 'todo' or ({_IS_ORPHANED})) limit 1"  # noqa: S608
    return tx.fetch_one(scalar, sql, {"job": job_id}) is not None


def traceparents(tx: Transaction, job_id: str, limit: int) -> list[str]:
    """Return the `traceparent` of the spans of a job's first calls that were traced."""
    sql = "select annotations from job_item where job_id = :job and annotations like :pattern order by seq limit :limit"
    rows: list[str] = tx.fetch_all(scalar, sql, {"job": job_id, "pattern": '%"traceparent"%', "limit": limit})
    return [str(json.loads(row)["traceparent"]) for row in rows]


def _json_text(value: Mapping[str, object] | None) -> str | None:
    return None if value is None else json.dumps(dict(value))


def _item_row(*, is_json: int, usage: str | None, error: str | None, annotations: str | None, **row: Any) -> ItemRecord:
    record = ItemRecord(is_json=bool(is_json), **row)
    return replace(
        record,
        usage=None if usage is None else json.loads(usage),
        error=None if error is None else json.loads(error),
        annotations=None if annotations is None else json.loads(annotations),
    )
