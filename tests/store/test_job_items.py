"""The leases of items: each answer counts once, whatever process dies, freezes or resumes."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

import anyio
import pytest

from mcp_server_claude.store import Store, job_items, job_records, process_locks
from mcp_server_claude.store.job_items import ClaimedItem, ItemOutcome
from mcp_server_claude.store.job_records import JobRecord

if TYPE_CHECKING:
    from pathlib import Path

    from mcp_server_claude.store import Transaction
    from support.spawned_python import SpawnPython

JOB = JobRecord(id="j_1", created_at=100.0, worker="w_1", spec={"prompt": "Say {item}."})
DONE = ItemOutcome(state="done", text="yes", call_id="c_1", usage={"model": "x"})


def create(tx: Transaction, items: int, job: JobRecord = JOB) -> None:
    job_records.create_job(tx, job)
    job_records.add_items(tx, job.id, [(seq, json.dumps(f"item {seq}")) for seq in range(items)])
    job_records.open_job(tx, job.id)


def test_items_are_claimed_in_their_order_and_each_by_one_process(tx: Transaction) -> None:
    create(tx, 5)
    first = job_items.claim_items(tx, "j_1", "w_1", 2)
    second = job_items.claim_items(tx, "j_1", "w_2", 9)
    assert [(item.seq, json.loads(item.input)) for item in first] == [(0, "item 0"), (1, "item 1")]
    assert [item.seq for item in second] == [2, 3, 4]
    assert job_items.claim_items(tx, "j_1", "w_3", 9) == []
    assert not job_items.has_claimable_items(tx, "j_1")


def test_an_outcome_is_read_as_it_was_written_and_counts_once(tx: Transaction) -> None:
    create(tx, 2)
    one, _ = job_items.claim_items(tx, "j_1", "w_1", 2)
    assert job_items.finish_item(tx, one, DONE)
    assert not job_items.finish_item(tx, one, ItemOutcome(state="failed"))
    stored = job_items.read_items(tx, "j_1")[0]
    assert (stored.state, stored.text, stored.call_id, stored.usage) == ("done", "yes", "c_1", {"model": "x"})
    progress = job_records.job_progress(tx, "j_1")
    assert (progress.done, progress.running, progress.items, progress.finished) == (1, 1, 2, 1)


def test_an_item_of_a_dead_process_is_claimed_again_and_its_late_answer_changes_nothing(tx: Transaction) -> None:
    create(tx, 1)
    (before,) = job_items.claim_items(tx, "j_1", "w_1", 1)
    process_locks.unregister_process(tx, "w_1")
    assert job_items.has_claimable_items(tx, "j_1")
    (after,) = job_items.claim_items(tx, "j_1", "w_2", 1)
    assert (after.seq, after.fence, after.attempts) == (0, before.fence + 1, 2)
    assert not job_items.is_held(tx, before)
    assert not job_items.finish_item(tx, before, DONE)
    assert not job_items.save_item_progress(tx, before, call_id="c_9")
    job_items.release_item(tx, before)
    assert job_items.finish_item(tx, after, ItemOutcome(state="done", text="the second"))
    assert job_items.read_items(tx, "j_1")[0].text == "the second"
    assert job_records.job_progress(tx, "j_1").interruptions == 1


def test_the_saved_state_of_an_attempt_is_there_for_the_next_one(tx: Transaction) -> None:
    create(tx, 1)
    (before,) = job_items.claim_items(tx, "j_1", "w_1", 1)
    assert job_items.save_item_progress(tx, before, call_id="c_1", progress="batch msgbatch_1")
    process_locks.unregister_process(tx, "w_1")
    (after,) = job_items.claim_items(tx, "j_1", "w_2", 1)
    assert (after.call_id, after.progress) == ("c_1", "batch msgbatch_1")


def test_an_item_during_which_processes_die_again_and_again_fails(tx: Transaction) -> None:
    create(tx, 2)
    for n in range(job_items.MAX_ATTEMPTS):
        worker = f"w_{n}"
        assert [item.seq for item in job_items.claim_items(tx, "j_1", worker, 1)] == [0]
        process_locks.unregister_process(tx, worker)
    assert [item.seq for item in job_items.claim_items(tx, "j_1", "w_9", 1)] == [1]
    parked = job_items.failed_items(tx, "j_1", 10)
    assert [(item.seq, item.error) for item in parked] == [(0, job_items.TOO_MANY_ATTEMPTS)]


def test_released_items_are_pending_again_and_the_attempt_does_not_count(tx: Transaction) -> None:
    create(tx, 3)
    one, *_ = job_items.claim_items(tx, "j_1", "w_1", 3)
    job_items.release_item(tx, one)
    assert job_items.release_items(tx, "w_1") == 2
    again = job_items.claim_items(tx, "j_1", "w_2", 3)
    assert [(item.seq, item.attempts) for item in again] == [(0, 1), (1, 1), (2, 1)]
    assert job_records.job_progress(tx, "j_1").interruptions == 0


def test_items_of_a_stopped_job_are_not_claimed(tx: Transaction) -> None:
    create(tx, 3)
    job_items.claim_items(tx, "j_1", "w_1", 1)
    assert not job_records.request_job_stop(tx, "j_1", "somebody else")
    assert job_records.request_job_stop(tx, "j_1", "local")
    process_locks.unregister_process(tx, "w_1")
    assert job_items.claim_items(tx, "j_1", "w_2", 9) == []
    assert job_records.job_progress(tx, "j_1").cancelled == 3


def test_items_that_are_released_or_left_after_a_stop_are_cancelled(tx: Transaction) -> None:
    create(tx, 3)
    given_back, *_ = job_items.claim_items(tx, "j_1", "w_1", 1)
    job_items.claim_items(tx, "j_1", "w_2", 1)
    job_items.claim_items(tx, "j_1", "w_3", 1)
    job_records.request_job_stop(tx, "j_1", "local", "the budget is used up.")
    job_items.release_item(tx, given_back)
    process_locks.unregister_process(tx, "w_2")
    assert job_items.cancel_unclaimed_items(tx, "j_1") == 2
    progress = job_records.job_progress(tx, "j_1")
    assert (progress.cancelled, progress.running, progress.todo) == (2, 1, 0)


def test_items_and_the_first_failures_are_read_in_pages(tx: Transaction) -> None:
    create(tx, 5)
    items: list[ClaimedItem] = job_items.claim_items(tx, "j_1", "w_1", 5)
    job_items.finish_item(tx, items[1], ItemOutcome(state="failed", error={"message": "No."}))
    job_items.finish_item(tx, items[3], ItemOutcome(state="done", text="x", note="it was cut."))
    assert [item.seq for item in job_items.read_items(tx, "j_1", 2, 2)] == [2, 3]
    assert [item.seq for item in job_items.failed_items(tx, "j_1", 10)] == [1, 3]


WORK_FOREVER = """
import asyncio, os, signal, sys, time
from pathlib import Path
from mcp_server_claude.store import Store, job_items, process_locks

async def main():
    store = Store.open(Path(sys.argv[1]), os.environ["TEST_DATABASE_URL"])
    def claim(tx):
        process_locks.remove_dead_processes(tx, store.locks)
        return job_items.claim_items(tx, "j_1", store.locks.worker, 4)
    while items := await store.write(claim):
        for item in items:
            if await store.write(job_items.finish_item, item, job_items.ItemOutcome(state="done", text=str(item.seq))):
                print(item.seq, flush=True)
                if sys.argv[2:]:
                    os.kill(os.getpid(), signal.SIGSTOP)  # between two transactions: a stopped one would hold the lock
    await store.close()

asyncio.run(main())
"""


@pytest.mark.anyio
async def test_kills_of_processes_that_share_a_job_lose_and_duplicate_nothing(
    tmp_path: Path, spawn: SpawnPython, store: Store
) -> None:
    items = 400
    await store.write(create, items)
    finished: list[int] = []
    for acknowledged in (20, 35, 50):
        killed = spawn(WORK_FOREVER, tmp_path / "data")
        assert killed.stdout
        finished += [int(killed.stdout.readline()) for _ in range(acknowledged)]
        killed.kill()
        finished += [int(line) for line in killed.stdout if line.endswith("\n")]
    both = [spawn(WORK_FOREVER, tmp_path / "data") for _ in range(2)]
    finished += [int(line) for process in both for line in process.communicate()[0].split()]
    stored = await store.read(job_items.read_items, "j_1", 0, items)
    assert [item.text for item in stored] == [str(seq) for seq in range(items)]
    assert len(finished) == len(set(finished))
    assert len(finished) > items - 3 * 4  # a kill can fall between a commit and the line that reports it
    progress = await store.read(job_records.job_progress, "j_1")
    assert progress.done == items
    assert progress.interruptions <= 3 * 4


@pytest.mark.anyio
@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
async def test_a_stopped_process_keeps_its_items(tmp_path: Path, spawn: SpawnPython, store: Store) -> None:
    await store.write(create, 1_000)
    frozen = spawn(WORK_FOREVER, tmp_path / "data", "stop")
    _, status = await anyio.to_thread.run_sync(os.waitpid, frozen.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    await store.write(process_locks.remove_dead_processes, store.locks)
    held = (await store.read(job_records.job_progress, "j_1")).running
    claimed = await store.write(job_items.claim_items, "j_1", store.locks.worker, 1_000)
    progress = await store.read(job_records.job_progress, "j_1")
    assert progress.interruptions == 0
    assert progress.running == len(claimed) + held
