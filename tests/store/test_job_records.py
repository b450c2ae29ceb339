"""Jobs: found by their user, closed once, continued, deleted, and paid for."""

from __future__ import annotations

import math
import re
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from mcp_server_claude.call_types import new_call_id
from mcp_server_claude.jobs.batch_items import CUSTOM_ID, custom_id_of
from mcp_server_claude.store import (
    Store,
    budget_reservations,
    call_journal,
    job_items,
    job_records,
    message_batches,
    orphan_cleanup,
    process_locks,
    request_ledger,
)
from mcp_server_claude.store.budget_reservations import InsufficientBudget, Reservation
from mcp_server_claude.store.job_items import ClaimedItem
from mcp_server_claude.store.job_records import JobRecord
from mcp_server_claude.store.transaction import scalar
from mcp_server_claude.web.routes.chat import EVENT_ID

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mcp_server_claude.store import Transaction

JOB = JobRecord(
    id="j_1", created_at=100.0, worker="w_1", scope="s", title="Say it", spec={"prompt": "Say {item}."}, output="/o"
)


def create(tx: Transaction, job: JobRecord = JOB, items: int = 2) -> None:
    job_records.create_job(tx, job)
    job_records.add_items(tx, job.id, [(seq, f"{seq}") for seq in range(items)])
    job_records.open_job(tx, job.id)


def test_a_job_is_read_as_it_was_created_and_only_by_its_user(tx: Transaction) -> None:
    create(tx)
    assert job_records.find_job(tx, "j_1", "local") == replace(JOB, state="open")
    assert job_records.find_job(tx, "j_1", "ada") is None
    assert job_records.find_job_of_output(tx, "/o") == replace(JOB, state="open")


def finish_items(tx: Transaction, job_id: str) -> None:
    for item in job_items.claim_items(tx, job_id, "w_1", 9):
        job_items.finish_item(tx, item, job_items.ItemOutcome(state="done", text="yes"))


def test_the_newest_jobs_are_listed_first_with_their_progress(tx: Transaction) -> None:
    create(tx)
    create(tx, replace(JOB, id="j_2", created_at=200.0), items=3)
    create(tx, replace(JOB, id="j_3", created_at=300.0, user="ada"))
    assert [(job.id, progress.todo) for job, progress in job_records.recent_jobs(tx, "local", 10)] == [
        ("j_2", 3),
        ("j_1", 2),
    ]
    assert [job.id for job in job_records.open_jobs(tx, ["s"])] == ["j_1", "j_2", "j_3"]
    assert job_records.open_jobs(tx, ["another account"]) == []


def test_a_job_is_closed_exactly_once_and_its_unanswered_items_can_be_tried_again(tx: Transaction) -> None:
    create(tx, items=3)
    done, failed, running = job_items.claim_items(tx, "j_1", "w_1", 3)
    job_items.finish_item(tx, done, job_items.ItemOutcome(state="done", text="yes"))
    job_items.finish_item(tx, failed, job_items.ItemOutcome(state="failed", error={"message": "No."}))
    assert not job_records.close_job(tx, "j_1", end="incomplete", now=5.0)
    job_items.finish_item(tx, running, job_items.ItemOutcome(state="done", text="yes"))
    assert job_records.close_job(tx, "j_1", end="incomplete", now=5.0, reason="Why.", output_digest="abc")
    assert not job_records.close_job(tx, "j_1", end="complete", now=6.0)
    closed = job_records.find_job(tx, "j_1", "local")
    assert closed is not None
    assert (closed.end, closed.reason, closed.ended_at, closed.output_digest) == ("incomplete", "Why.", 5.0, "abc")
    assert job_records.reopen_job(tx, "j_1")
    assert not job_records.reopen_job(tx, "j_1")
    progress = job_records.job_progress(tx, "j_1")
    assert (progress.done, progress.todo, progress.failed) == (2, 1, 0)
    # A process that saw all items finished, and has written the output since, does not end what is asked again.
    assert not job_records.close_job(tx, "j_1", end="incomplete", now=7.0)
    reopened = job_records.find_job(tx, "j_1", "local")
    assert reopened is not None
    assert reopened.output_digest == "abc"


def test_the_cost_of_a_job_is_that_of_its_requests(tx: Transaction) -> None:
    create(tx)
    for n, cost in enumerate((3, 4, None)):
        entry = request_ledger.LedgerEntry(id=f"r_{n}", call_id="c", worker="w_1", started_at=1.0, job_id="j_1")
        request_ledger.open_entry(tx, entry)
        result = request_ledger.EntryResult(end="complete", ended_at=2.0, output_tokens=9, cost_micros=cost)
        request_ledger.close_entry(tx, f"r_{n}", result)
    progress = job_records.job_progress(tx, "j_1")
    assert (progress.cost_micros, progress.unpriced) == (7, 1)


def test_the_budget_of_a_job_holds_across_days(tx: Transaction) -> None:
    scopes = [(budget_reservations.job_scope("j_1"), 100)]
    assert budget_reservations.reserve_up_to(tx, scopes, "2026-11-20", 60, 60, "r_1") == Reservation(60)
    assert budget_reservations.settle(tx, "r_1", 50)
    assert budget_reservations.reserve_up_to(tx, scopes, "2026-11-21", 60, 60, "r_2") == InsufficientBudget(
        "job:j_1", 50
    )
    assert budget_reservations.reserve_up_to(tx, scopes, "2026-11-21", 10, 60, "r_2") == Reservation(50)


def test_calls_of_jobs_are_not_listed_among_the_calls(tx: Transaction) -> None:
    for n, job_id in enumerate((None, "j_1")):
        call_journal.open_call(tx, call_journal.JournaledCall(id=f"c_{n}", worker="w", started_at=1.0, job_id=job_id))
    assert [call.id for call in call_journal.recent_calls(tx, "local")] == ["c_0"]


def test_old_jobs_are_deleted_with_their_items_and_open_ones_stay(tx: Transaction) -> None:
    create(tx)
    create(tx, replace(JOB, id="j_2"))
    finish_items(tx, "j_1")
    job_records.close_job(tx, "j_1", end="complete", now=50.0)
    assert job_records.delete_old_jobs(tx, 50.0) == 0
    assert job_records.delete_old_jobs(tx, 51.0) == 1
    assert job_items.read_items(tx, "j_1") == []
    assert job_records.find_job(tx, "j_2", "local") is not None
    finish_items(tx, "j_2")
    job_records.close_job(tx, "j_2", end="complete", now=50.0)
    assert job_records.erase_jobs(tx, math.inf, "ada") == 0
    assert job_records.erase_jobs(tx, math.inf, "local") == 1


def test_the_budget_that_a_late_request_writes_for_a_deleted_job_is_deleted_too(tx: Transaction) -> None:
    create(tx)
    for scope in ("job:j_1", "job:j_gone", "user:job:j_gone", "total"):
        budget_reservations.add_spending(tx, [(scope, None)], "2026-11-20", 5)
    assert job_records.delete_old_jobs(tx, math.inf) == 0
    scopes = tx.fetch_all(scalar, "select scope from budget order by scope")
    assert scopes == ["job:j_1", "total", "user:job:j_gone"]


@pytest.mark.anyio
async def test_a_job_whose_items_were_never_all_written_is_deleted_once_its_process_is_dead(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "data")
    alive = replace(JOB, worker=store.locks.worker)
    await store.write(job_records.create_job, alive)
    await store.write(job_records.create_job, replace(JOB, id="j_2", worker="w_dead"))
    await store.write(orphan_cleanup.close_orphans, store.locks, time.time())
    assert await store.read(job_records.find_job, "j_1", "local") == alive
    assert await store.read(job_records.find_job, "j_2", "local") is None
    await store.write(process_locks.unregister_process, store.locks.worker)
    await store.close()


@pytest.mark.parametrize("new_id", [job_records.new_job_id, message_batches.new_batch_id, new_call_id])
def test_an_id_has_64_random_bits_after_its_time(new_id: Callable[[], str]) -> None:
    ids = {new_id() for _ in range(100)}
    assert len({each[-16:] for each in ids}) == 100
    assert all(re.fullmatch(r"[jbc]_[0-9a-f]{8}[0-9a-f]{16}", each) for each in ids)


@pytest.mark.parametrize("digits", [16, 24])
def test_ids_of_older_versions_are_recognized(digits: int) -> None:
    item = ClaimedItem(job_id=f"j_{'0' * digits}", seq=7, fence=2, attempts=1, input="{}")
    assert CUSTOM_ID.fullmatch(custom_id_of(item))
    assert len(custom_id_of(replace(item, seq=99_999, fence=99_999))) <= 64
    assert EVENT_ID.fullmatch(f"c_{'0' * digits}:5")
