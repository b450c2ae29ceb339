"""Operations that share a transaction: one commit for many callers, and rows of all servers locked in one order."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

import pytest
from anyio.lowlevel import checkpoint

from mcp_server_claude.engine import ledger_writer
from mcp_server_claude.engine.spending_limit import ReservationRequest
from mcp_server_claude.store import Store, budget_reservations, request_ledger
from mcp_server_claude.store.budget_reservations import InsufficientBudget, Reservation
from mcp_server_claude.store.request_ledger import EntryResult, LedgerEntry
from mcp_server_claude.store.sqlite_connection import SqliteTransaction, open_in_memory
from mcp_server_claude.store.transaction import SharedTransactionError, Transaction, scalar
from mcp_server_claude.store.usage import daily_rollups

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.anyio

DAY = "2026-11-20"
USERS = ("ada", "bob", "cleo")


def new_entry(number: int) -> LedgerEntry:
    user = USERS[number % len(USERS)]
    return LedgerEntry(id=f"r_{number}", call_id=f"c_{number}", worker="w_1", started_at=time.time(), user=user)


def request_for(entry: LedgerEntry, micros: int, cap: int) -> ReservationRequest:
    scopes = (("total", cap), (f"user:{entry.user}", cap))
    return ReservationRequest(scopes=scopes, day=DAY, min_micros=micros, max_micros=micros)


def open_entry(tx: Transaction, number: int, micros: int = 10, cap: int = 1000) -> Reservation | InsufficientBudget:
    entry = new_entry(number)
    return ledger_writer.reserve_and_open_entry(tx, entry, request_for(entry, micros, cap))


def close_entry(tx: Transaction, number: int, spent: int = 7) -> bool:
    result = EntryResult(end="complete", ended_at=time.time(), cost_micros=spent, ttft_ms=20.0 + number)
    return request_ledger.close_entry(tx, f"r_{number}", result, spent)


def budgets(tx: Transaction) -> list[tuple[str, int, int]]:
    def row(scope: str, spent: int, held: int) -> tuple[str, int, int]:
        return scope, spent, held

    return tx.fetch_all(row, "select scope, spent, held from budget order by scope")


def in_one_batch(store: Store, *operations: Callable[[Transaction], object]) -> list[asyncio.Task[object]]:
    """Start operations that wait together for the one before them."""
    gate = threading.Event()
    store.write_nowait(lambda _tx: gate.wait())
    tasks = [asyncio.ensure_future(store.write_together(operation)) for operation in operations]
    asyncio.get_running_loop().call_soon(gate.set)  # after each task has submitted its operation
    return tasks


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
async def test_callers_that_wait_together_share_one_commit(store: Store) -> None:
    await store.write(open_entry, 99)  # creates the rows of the budgets
    await asyncio.gather(*in_one_batch(store, *(partial(open_entry, number=n) for n in range(0, 30, 3))))
    commits = "select count(distinct cast(xmin as text)) as n from entry where id <> 'r_99'"
    assert await store.read(lambda tx: tx.fetch_one(scalar, commits)) == 1
    assert await store.read(budgets) == [("total", 0, 110), ("user:ada", 0, 110)]


async def test_a_reservation_that_is_refused_leaves_the_others_of_its_batch_alone(store: Store) -> None:
    outcomes = await asyncio.gather(
        *in_one_batch(store, *(partial(open_entry, number=n, micros=40, cap=100) for n in range(4)))
    )
    assert outcomes[:2] == [Reservation(40), Reservation(40)]
    assert outcomes[2:] == [InsufficientBudget("total", 20), InsufficientBudget("total", 20)]
    rows = "select id from entry order by id"
    assert await store.read(lambda tx: tx.fetch_all(scalar, rows)) == ["r_0", "r_1"]
    assert [row for row in await store.read(budgets) if row[0] == "total"] == [("total", 0, 80)]
    holds = "select entry_id from hold where scope = 'total' order by entry_id"
    assert await store.read(lambda tx: tx.fetch_all(scalar, holds)) == ["r_0", "r_1"]


async def test_requests_that_open_and_close_together_are_counted_in_budgets_and_sums(store: Store) -> None:
    for number in range(6):
        await store.write(open_entry, number)
    await asyncio.gather(
        *in_one_batch(
            store,
            *(partial(close_entry, number=n) for n in range(6)),
            *(partial(open_entry, number=n) for n in range(6, 12)),
            partial(close_entry, number=0),  # twice
        )
    )
    assert (await store.read(budgets))[0] == ("total", 42, 60)
    assert await store.read(daily_rollups.days_that_differ) == []


async def test_a_correction_of_an_interrupted_request_runs_in_a_transaction_of_its_own(store: Store) -> None:
    for number in range(3):
        await store.write(open_entry, number)
    await store.write(request_ledger.close_orphaned_entries, 0.0)
    closed = await asyncio.gather(*in_one_batch(store, *(partial(close_entry, number=n) for n in range(3))))
    assert closed == [True, True, True]
    assert (await store.read(budgets))[0] == ("total", 21, 0)
    assert await store.read(daily_rollups.days_that_differ) == []


async def test_two_servers_that_open_and_close_requests_of_many_users_stay_within_the_budget(
    postgres_url: str, tmp_path: Path
) -> None:
    stores = [Store.open(tmp_path, postgres_url) for _ in range(2)]

    async def use(store: Store, first: int) -> int:
        granted = await store.write_together(open_entry, first, 10, 600)
        await checkpoint()
        if isinstance(granted, InsufficientBudget):
            return 0
        await store.write_together(close_entry, first, 9)
        return 1

    done = sum(await asyncio.gather(*(use(stores[number % 2], number) for number in range(100))))
    (total, *_) = await stores[0].read(budgets)
    assert total == ("total", 9 * done, 0)
    assert 60 <= done <= 66
    assert await stores[0].read(daily_rollups.days_that_differ) == []
    for store in stores:
        await store.close()


def test_rows_of_all_servers_are_locked_after_all_others_and_in_one_order() -> None:
    with closing(open_in_memory()) as connection:
        tx = SqliteTransaction(connection)
        connection.execute("begin")
        for number in (1, 2, 3):
            open_entry(tx, number)
        changed: list[str] = []
        connection.set_trace_callback(changed.append)
        tx.run_together([partial(close_entry, number=n) for n in (3, 2, 1)])
        connection.set_trace_callback(None)
        statements = [sql.strip().lower() for sql in changed if not sql.startswith("--")]
        tables = [sql.split()[2] if sql.startswith(("insert", "delete")) else sql.split()[1] for sql in statements]
        assert set(tables[:6]) == {"entry", "hold"}
        assert tables[6:12] == ["budget"] * 6
        scopes = [sql.partition("scope = '")[2].partition("'")[0] for sql in statements[6:12]]
        assert scopes == ["user:ada", "user:bob", "user:cleo", "total", "total", "total"]
        assert tables[12:] == sorted(tables[12:], key=list(dict.fromkeys(tables[12:])).index)
        connection.execute("rollback")


def test_an_operation_that_reads_a_budget_first_cannot_share_a_transaction() -> None:
    with closing(open_in_memory()) as connection:
        tx = SqliteTransaction(connection)

        def reserve(tx: Transaction) -> object:
            return budget_reservations.reserve_up_to(tx, [("total", 5)], DAY, 1, 5, "r_1")

        with pytest.raises(SharedTransactionError):
            tx.run_together([reserve])
        assert reserve(tx) == Reservation(5)
