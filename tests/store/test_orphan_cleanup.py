from __future__ import annotations

from typing import TYPE_CHECKING

from mcp_server_claude.call_types import Usage
from mcp_server_claude.store import call_journal, process_locks, request_ledger
from mcp_server_claude.store.call_journal import JournaledCall
from mcp_server_claude.store.orphan_cleanup import close_orphans
from mcp_server_claude.store.process_locks import ProcessLocks
from mcp_server_claude.store.request_ledger import EntryResult, LedgerEntry

if TYPE_CHECKING:
    from mcp_server_claude.store import Transaction

DEAD = "w_00000000000000de"


def test_a_call_whose_process_died_has_the_usage_of_its_requests(tx: Transaction) -> None:
    process_locks.register_process(tx, DEAD)
    call_journal.open_call(tx, JournaledCall(id="c_1", worker=DEAD, started_at=1.0))
    for attempt in (1, 2):
        entry = LedgerEntry(
            id=f"r_{attempt}", call_id="c_1", worker=DEAD, started_at=1.0, attempt=attempt, thread="t_1"
        )
        request_ledger.open_entry(tx, entry)
        request_ledger.record_entry_progress(tx, entry.id, model="claude-sonnet-5-5", input_tokens=100, cost_micros=300)
    request_ledger.close_entry(tx, "r_1", EntryResult(end="failed", ended_at=2.0, input_tokens=100, cost_micros=300))
    close_orphans(tx, ProcessLocks(), 3.0)
    record = call_journal.find_call(tx, "c_1", "local")
    assert record is not None
    assert record.usage is not None
    usage = Usage.from_json(record.usage)
    assert (record.end, usage.model, usage.input_tokens, usage.attempts) == ("interrupted", "claude-sonnet-5-5", 200, 2)
    assert (usage.cost_usd, usage.estimated, usage.complete, usage.thread) == (0.0006, True, False, "t_1")


def test_a_call_without_requests_has_no_usage(tx: Transaction) -> None:
    process_locks.register_process(tx, DEAD)
    call_journal.open_call(tx, JournaledCall(id="c_1", worker=DEAD, started_at=1.0))
    close_orphans(tx, ProcessLocks(), 3.0)
    record = call_journal.find_call(tx, "c_1", "local")
    assert record is not None
    assert (record.end, record.usage) == ("interrupted", None)
