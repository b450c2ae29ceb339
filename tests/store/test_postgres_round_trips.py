"""The number of times that a server waits for PostgreSQL, counted in the protocol's messages."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from mcp_server_claude.call_types import Call
from mcp_server_claude.calls.thread_transcripts import ThreadTranscript, lock_and_add_question, store_answer_and_unlock
from mcp_server_claude.engine import ledger_writer
from mcp_server_claude.engine.spending_limit import ReservationRequest
from mcp_server_claude.store import (
    Store,
    StoreError,
    budget_reservations,
    call_journal,
    job_items,
    job_records,
    postgres_backend,
    process_locks,
    request_ledger,
)
from mcp_server_claude.store.transaction import scalar
from support.cuttable_socket import CuttableSocket

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from mcp_server_claude.store import Transaction

pytestmark = pytest.mark.anyio

P = ParamSpec("P")
T = TypeVar("T")

DAY = "2026-11-20"
ANSWER: list[dict[str, object]] = [{"type": "text", "text": "An answer."}]
ENTRY = request_ledger.LedgerEntry(id="r_1", call_id="c_1", worker="w_1", started_at=time.time())


class CountedStore:
    """A store, and the number of times that it waited for the database in each write or read."""

    def __init__(self, store: Store, network: CuttableSocket) -> None:
        self.store, self._network = store, network

    async def write(self, waits: int, operation: Callable[..., T], *args: object, **kwargs: object) -> T:
        """Write, and check the number of waits."""
        before = self._network.waits
        result = await self.store.write(operation, *args, **kwargs)
        assert self._network.waits - before == waits
        return result

    async def read(self, waits: int, operation: Callable[..., T], *args: object) -> T:
        """Read, and check the number of waits."""
        before = self._network.waits
        result = await self.store.read(operation, *args)
        assert self._network.waits - before == waits
        return result


@pytest.fixture
async def counted(
    postgres_url: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[CountedStore]:
    """A store with its connections open."""
    monkeypatch.setattr(postgres_backend, "HEARTBEAT_INTERVAL_S", 3600.0)
    network = CuttableSocket(tmp_path_factory.mktemp("s"), str(conninfo_to_dict(postgres_url)["host"]))
    store = Store.open(network.directory, make_conninfo(postgres_url, host=str(network.directory)))
    await store.write(process_locks.register_process, store.locks.worker)
    await store.read(_one)
    yield CountedStore(store, network)
    await store.close()
    network.cut()


def _one(tx: Transaction) -> int | None:
    return tx.fetch_one(scalar, "select 1 as one")


def _nothing(tx: Transaction) -> None:
    del tx


async def test_a_transaction_begins_with_its_first_statement(counted: CountedStore) -> None:
    await counted.read(2, _one)
    await counted.write(2, _one)
    await counted.write(2, process_locks.register_process, "w_1")
    await counted.write(1, _nothing)


async def test_a_thread_is_begun_and_continued_in_few_round_trips_however_many_servers_there_are(
    counted: CountedStore, postgres_url: str, tmp_path: Path
) -> None:
    others = [Store.open(tmp_path, postgres_url) for _ in range(3)]
    for other in others:
        await other.write(process_locks.register_process, other.locks.worker)
    locks = counted.store.locks
    first, second = (Call(id=call_id, prompt="A question.", thread="t_1", user="ada") for call_id in ("c_1", "c_2"))
    await counted.write(2, lock_and_add_question, first, locks, 1.0, new=True)
    await counted.write(2, store_answer_and_unlock, first, ANSWER, None)
    transcript = await counted.write(6, lock_and_add_question, second, locks, 2.0, new=False)
    assert isinstance(transcript, ThreadTranscript)
    assert [turn.role for turn in transcript.turns] == ["user", "assistant"]
    for other in others:
        await other.close()


async def test_a_request_is_recorded_in_few_round_trips(counted: CountedStore) -> None:
    request = ReservationRequest(scopes=(("total", 1000), ("user:ada", 1000)), day=DAY, min_micros=1, max_micros=10)
    await counted.write(2, ledger_writer.reserve_and_open_entry, ENTRY, request)
    result = request_ledger.EntryResult(end="complete", ended_at=time.time(), cost_micros=7)
    assert await counted.write(2, request_ledger.close_entry, "r_1", result, 7)
    assert await counted.store.read(budget_reservations.remaining_micros, "total", DAY, 1000) == 993


async def test_a_call_is_journaled_in_few_round_trips(counted: CountedStore) -> None:
    call = call_journal.JournaledCall(id="c_1", worker=counted.store.locks.worker, started_at=1.0)
    await counted.write(2, call_journal.open_call, call)

    def append_and_close(tx: Transaction) -> bool:
        call_journal.append_text(tx, [("c_1", 0, "An "), ("c_1", 3, "answer.")])
        return call_journal.close_call(tx, "c_1", end="complete", ended_at=2.0)

    assert await counted.write(2, append_and_close)
    assert await counted.store.read(call_journal.answer_text, "c_1") == "An answer."


async def test_an_item_is_claimed_and_finished_in_few_round_trips(counted: CountedStore) -> None:
    worker = counted.store.locks.worker
    await counted.store.write(job_records.create_job, job_records.JobRecord(id="j_1", created_at=1.0, worker=worker))
    await counted.store.write(job_records.add_items, "j_1", [(0, "{}")])
    await counted.store.write(job_records.open_job, "j_1")
    (item,) = await counted.write(2, job_items.claim_items, "j_1", worker, 1)
    outcome = job_items.ItemOutcome(state="done", call_id="c_1", text="An answer.")
    assert await counted.write(2, job_items.finish_item, item, outcome)


async def test_an_error_of_a_statement_that_was_sent_with_the_commit_is_raised_and_nothing_is_committed(
    counted: CountedStore,
) -> None:
    def write(tx: Transaction) -> None:
        _one(tx)
        tx.execute_all([(process_locks.registration("w_lost")), ("insert into process (id) values (null)", {})])

    with pytest.raises(StoreError, match="NotNullViolation"):
        await counted.store.write(write)
    registered = await counted.store.read(lambda tx: tx.fetch_all(scalar, "select id from process"))
    assert registered == [counted.store.locks.worker]
    await counted.store.write(process_locks.register_process, "w_next")
