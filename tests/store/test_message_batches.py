"""Message batches as rows: each is held by one process at a time, and its items by none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mcp_server_claude.store import job_items, job_records, message_batches, process_locks, request_ledger
from mcp_server_claude.store.job_items import ItemOutcome
from mcp_server_claude.store.job_records import JobRecord
from mcp_server_claude.store.request_ledger import LedgerEntry

if TYPE_CHECKING:
    from mcp_server_claude.store import Transaction
    from mcp_server_claude.store.message_batches import BatchRecord

JOB = JobRecord(id="j_1", created_at=100.0, worker="w_1", batch=True)


def fill_batch(tx: Transaction, items: int = 3) -> BatchRecord:
    job_records.create_job(tx, JOB)
    job_records.add_items(tx, "j_1", [(seq, "{}") for seq in range(items)])
    job_records.open_job(tx, "j_1")
    batch = message_batches.create_batch(tx, "j_1", "w_1", 100.0)
    for item in job_items.claim_items(tx, "j_1", "w_1", items):
        assert message_batches.add_batch_item(tx, batch, item, '{"entry_id": "r_1"}')
    return batch


def test_items_of_a_batch_belong_to_no_process(tx: Transaction) -> None:
    batch = fill_batch(tx)
    process_locks.unregister_process(tx, "w_1")
    assert job_items.claim_items(tx, "j_1", "w_2", 9) == []
    assert job_items.cancel_unclaimed_items(tx, "j_1") == 0
    assert job_records.job_progress(tx, "j_1").running == 3
    items = message_batches.items_of_batch(tx, batch.id)
    assert [(item.seq, item.progress) for item in items] == [(seq, '{"entry_id": "r_1"}') for seq in range(3)]
    assert [item.seq for item in message_batches.items_of_batch(tx, batch.id, first=1, limit=1)] == [1]


def test_an_item_is_answered_once_and_leaves_its_batch(tx: Transaction) -> None:
    batch = fill_batch(tx)
    found = message_batches.find_batch_item(tx, batch.id, 1, 1)
    assert found is not None
    assert message_batches.find_batch_item(tx, batch.id, 1, 2) is None
    assert message_batches.find_batch_item(tx, "b_other", 1, 1) is None
    assert job_items.finish_item(tx, found, ItemOutcome(state="done", text="yes"))
    assert not job_items.finish_item(tx, found, ItemOutcome(state="done", text="again"))
    assert message_batches.find_batch_item(tx, batch.id, 1, 1) is None
    assert [item.seq for item in message_batches.items_of_batch(tx, batch.id)] == [0, 2]


def test_an_item_that_was_lost_is_not_added(tx: Transaction) -> None:
    batch = fill_batch(tx, 1)
    job_records.add_items(tx, "j_1", [(1, "{}")])
    (item,) = job_items.claim_items(tx, "j_1", "w_1", 1)
    process_locks.unregister_process(tx, "w_1")
    job_items.claim_items(tx, "j_1", "w_2", 1)
    assert not message_batches.add_batch_item(tx, batch, item, "")
    message_batches.claim_batch(tx, "j_1", "w_2", now=200.0)
    (again,) = message_batches.items_of_batch(tx, batch.id)
    assert again.seq == 0


def test_a_batch_is_held_by_one_process_until_it_releases_it_or_dies(tx: Transaction) -> None:
    batch = fill_batch(tx)
    assert message_batches.claim_batch(tx, "j_1", "w_2", now=200.0) is None
    assert message_batches.update_batch(tx, batch, state="submitted", upstream_id="msgbatch_1", owner="")
    second = message_batches.claim_batch(tx, "j_1", "w_2", now=200.0)
    assert second is not None
    assert (second.state, second.upstream_id, second.owner) == ("submitted", "msgbatch_1", "w_2")
    assert not message_batches.update_batch(tx, batch, state="collected")
    assert message_batches.claim_batch(tx, "j_1", "w_1", now=200.0) is None
    process_locks.unregister_process(tx, "w_2")
    third = message_batches.claim_batch(tx, "j_1", "w_1", now=200.0)
    assert third is not None
    assert third.fence == second.fence + 1


def test_a_batch_is_due_at_its_time_or_when_its_job_is_stopped(tx: Transaction) -> None:
    batch = fill_batch(tx)
    message_batches.update_batch(tx, batch, state="submitted", owner="", next_poll_at=500.0)
    assert message_batches.claim_batch(tx, "j_1", "w_1", now=499.0) is None
    stopped = message_batches.claim_batch(tx, "j_1", "w_1", now=499.0, stops=True)
    assert stopped is not None
    message_batches.update_batch(tx, stopped, cancel_requested=1, owner="")
    assert message_batches.claim_batch(tx, "j_1", "w_1", now=499.0, stops=True) is None
    assert message_batches.claim_batch(tx, "j_1", "w_1", now=500.0, after=batch.id) is None
    assert message_batches.claim_batch(tx, "j_1", "w_1", now=500.0) is not None


def test_a_batch_that_is_due_later_than_any_delay_reaches_is_due_since_the_clock_was_set_back(tx: Transaction) -> None:
    batch = fill_batch(tx)
    message_batches.update_batch(tx, batch, owner="", next_poll_at=5_000.0)
    assert message_batches.claim_batch(tx, "j_1", "w_2", now=4_000.0, max_delay_s=1_000.0) is None
    assert message_batches.claim_batch(tx, "j_1", "w_2", now=3_999.0, max_delay_s=1_000.0) is not None


def test_a_collected_batch_is_never_due_and_its_id_stays_known(tx: Transaction) -> None:
    batch = fill_batch(tx)
    assert message_batches.has_open_batches(tx, "j_1")
    message_batches.update_batch(tx, batch, state="collected", owner="", upstream_id="msgbatch_1")
    assert not message_batches.has_open_batches(tx, "j_1")
    assert message_batches.claim_batch(tx, "j_1", "w_1", now=1e12, stops=True) is None
    assert message_batches.known_upstream_ids(tx) == {"msgbatch_1"}
    assert [each.state for each in message_batches.batches_of_job(tx, "j_1")] == ["collected"]
    job_records.delete_job(tx, "j_1")
    assert message_batches.batches_of_job(tx, "j_1") == []


def test_only_columns_that_change_can_be_changed(tx: Transaction) -> None:
    batch = fill_batch(tx)
    with pytest.raises(TypeError, match="fence"):
        message_batches.update_batch(tx, batch, fence=9)


def test_an_entry_of_a_batch_stays_open_when_processes_die(tx: Transaction) -> None:
    batch = fill_batch(tx)
    process_locks.register_process(tx, "w_1")
    for name, worker in (("r_1", batch.id), ("r_2", "w_1")):
        request_ledger.open_entry(tx, LedgerEntry(id=name, call_id=f"c_{name}", worker=worker, started_at=100.0))
    process_locks.unregister_process(tx, "w_1")
    assert request_ledger.close_orphaned_entries(tx, 200.0) == ["r_2"]
    job_records.delete_job(tx, "j_1")
    assert request_ledger.close_orphaned_entries(tx, 300.0) == ["r_1"]
