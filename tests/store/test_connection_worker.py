"""The writer's thread: order, isolation, cancellation, and the errors that callers get when the database fails."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

import anyio
import pytest
from anyio.lowlevel import checkpoint

from mcp_server_claude.store import Store, StoreError, call_journal, process_locks
from mcp_server_claude.store.connection_worker import MAX_BATCH_OPERATIONS, ConnectionWorker
from mcp_server_claude.store.operations import Operation
from mcp_server_claude.store.sqlite_backend import open_sqlite
from mcp_server_claude.store.transaction import scalar

if TYPE_CHECKING:
    from pathlib import Path

    from mcp_server_claude.store import Transaction
    from mcp_server_claude.store.database_connection import DatabaseConnection

pytestmark = pytest.mark.anyio


def workers(tx: Transaction) -> list[str]:
    return tx.fetch_all(scalar, "select id from process order by id")


def fail(tx: Transaction, worker: str, error: BaseException) -> None:
    process_locks.register_process(tx, worker)
    raise error


def nothing(tx: Transaction) -> None:
    del tx


async def test_a_failing_operation_rolls_back_itself_and_no_other_one(store: Store) -> None:
    gate = threading.Event()
    store.write_nowait(lambda _tx: gate.wait())  # while it waits, the others gather into one batch
    errors = {3: ValueError("mine"), 5: StopIteration(), 7: KeyboardInterrupt()}
    caught: dict[int, BaseException] = {}

    async def write(n: int) -> None:
        try:
            await (
                store.write(fail, str(n), errors[n])
                if n in errors
                else store.write(process_locks.register_process, str(n))
            )
        except BaseException as error:  # noqa: BLE001 - the test looks at what came
            caught[n] = error

    async with anyio.create_task_group() as tasks:
        for n in range(10):
            tasks.start_soon(write, n)
        await checkpoint()
        gate.set()
    assert await store.read(workers) == ["0", "1", "2", "4", "6", "8", "9"]
    assert (caught[3], caught[7]) == (errors[3], errors[7])
    assert isinstance(caught[5], StoreError)


async def test_a_statement_that_sqlite_rejects_is_a_store_error_with_its_cause(sqlite_store: Store) -> None:
    with pytest.raises(StoreError) as caught:
        await sqlite_store.write(lambda tx: tx.execute("insert into worker (id) values (:id)", {"id": "w"}))
    assert caught.value.kind == "bug"
    assert "IntegrityError" in str(caught.value)
    assert caught.value.__cause__ is not None
    assert "IntegrityError" in sqlite_store.last_error
    await sqlite_store.write(nothing)
    assert sqlite_store.last_error == ""


async def test_an_operation_that_swallows_the_loss_of_its_transaction_affects_no_other(store: Store) -> None:
    gate = threading.Event()
    store.write_nowait(lambda _tx: gate.wait())
    tasks = [asyncio.ensure_future(store.write(process_locks.register_process, "before"))]
    lost = asyncio.ensure_future(store.write(lambda tx: tx.execute("rollback")))
    tasks.append(asyncio.ensure_future(store.write(process_locks.register_process, "after")))
    await checkpoint()
    gate.set()
    with pytest.raises(StoreError):
        await lost
    await asyncio.gather(*tasks)
    assert await store.read(workers) == ["after", "before"]


async def test_a_write_whose_caller_is_cancelled_is_still_committed(store: Store) -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        await store.write(process_locks.register_process, "cancelled")
    assert scope.cancelled_caught
    await store.write(nothing)
    assert await store.read(workers) == ["cancelled"]


async def test_a_read_sees_every_write_that_was_awaited_before(store: Store) -> None:
    for n in range(100):
        await store.write(process_locks.register_process, f"{n:03}")
        assert len(await store.read(workers)) == n + 1


async def test_writes_are_executed_in_the_order_of_their_calls(store: Store) -> None:
    seen: list[int] = []

    def see(tx: Transaction, n: int) -> None:
        del tx
        seen.append(n)

    for n in range(3 * MAX_BATCH_OPERATIONS):
        store.write_nowait(see, n)
    await store.write(nothing)
    assert seen == list(range(3 * MAX_BATCH_OPERATIONS))


async def test_what_a_task_posts_is_committed_with_what_it_then_awaits(tmp_path: Path) -> None:
    backend, commits = open_sqlite(tmp_path / "data"), list[int]()

    def connect() -> DatabaseConnection:
        connection = backend.connect_writer()

        def commit() -> None:
            commits.append(1)
            connection.commit()

        return replace(connection, commit=commit)

    store = Store(replace(backend, connect_writer=connect))
    store.write_nowait(process_locks.register_process, "a")
    store.write_nowait(process_locks.register_process, "b")
    await store.write(process_locks.register_process, "c")
    assert len(commits) == 1
    assert await store.read(workers) == ["a", "b", "c"]
    store.write_nowait(process_locks.register_process, "d")
    with anyio.fail_after(30):
        while await store.read(workers) != ["a", "b", "c", "d"]:
            await checkpoint()
    await store.close()


async def test_callers_may_run_in_several_event_loops(store: Store) -> None:
    async def write(name: str) -> None:
        await asyncio.gather(*(store.write(process_locks.register_process, f"{name}{n}") for n in range(50)))

    threads = [threading.Thread(target=asyncio.run, args=(write(name),)) for name in "abc"]
    for thread in threads:
        thread.start()
    await write("d")
    for thread in threads:
        thread.join()
    assert len(await store.read(workers)) == 200


async def test_a_loop_that_closed_while_its_write_was_queued_blocks_no_other(store: Store) -> None:
    gate = threading.Event()
    store.write_nowait(lambda _tx: gate.wait())

    async def leave() -> None:
        task = asyncio.ensure_future(store.write(process_locks.register_process, "left"))
        await checkpoint()
        task.cancel()

    await asyncio.to_thread(asyncio.run, leave())
    gate.set()
    await store.write(nothing)
    assert await store.read(workers) == ["left"]


async def test_an_operation_that_only_reads_cannot_write(store: Store) -> None:
    with pytest.raises(StoreError):
        await store.read(process_locks.register_process, "w")
    assert await store.read(workers) == []


async def test_closing_finishes_the_queue_and_rejects_later_operations(sqlite_store: Store, tmp_path: Path) -> None:
    for n in range(500):
        sqlite_store.write_nowait(process_locks.register_process, str(n))
    await sqlite_store.close()
    with pytest.raises(StoreError, match=r"^The ledger is closed\.$"):
        await sqlite_store.write(nothing)
    sqlite_store.write_nowait(nothing)
    assert sqlite_store.lost_writes == 1
    await sqlite_store.close()  # twice does no harm
    again = Store.open(tmp_path / "data")
    assert len(await again.read(workers)) == 500
    await again.close()


async def test_a_posted_write_that_fails_is_counted_and_logged_once(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    for n in range(3):
        store.write_nowait(fail, str(n), ValueError("no such luck"))
    await store.write(nothing)
    assert store.lost_writes == 3
    assert [record.getMessage() for record in caplog.records] == ["A write was lost: no such luck"]


async def test_a_write_whose_caller_has_given_up_is_not_reported_as_lost(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    gate = threading.Event()
    store.write_nowait(lambda _tx: gate.wait())
    given_up = asyncio.ensure_future(store.write(fail, "w", ValueError("no such luck")))
    await checkpoint()
    given_up.cancel()
    gate.set()
    await store.write(nothing)
    assert given_up.cancelled()
    assert store.lost_writes == 0
    assert caplog.records == []


async def test_a_full_disk_is_reported_and_small_writes_reads_and_later_writes_still_succeed(
    sqlite_store: Store,
) -> None:
    await sqlite_store.write(call_journal.open_call, call_journal.JournaledCall(id="c", worker="w", started_at=0.0))
    await sqlite_store.write(lambda tx: tx.execute("pragma max_page_count = 1"))  # SQLite makes it the present size
    gate = threading.Event()
    sqlite_store.write_nowait(lambda _tx: gate.wait())
    small = asyncio.ensure_future(sqlite_store.write(process_locks.register_process, "fits"))
    big = asyncio.ensure_future(sqlite_store.write(call_journal.append_text, [("c", 0, "x" * 1_000_000)]))
    await checkpoint()
    gate.set()
    with pytest.raises(StoreError, match=r"^The ledger could not be used: its disk is full\.$") as caught:
        await big
    await small
    assert caught.value.kind == "full"
    assert sqlite_store.last_error == str(caught.value)
    assert await sqlite_store.read(workers) == ["fits"]
    await sqlite_store.write(lambda tx: tx.execute("pragma max_page_count = 1000000"))
    await sqlite_store.write(call_journal.append_text, [("c", 0, "x" * 1_000_000)])
    assert len(await sqlite_store.read(call_journal.answer_text, "c")) == 1_000_000
    assert sqlite_store.last_error == ""


async def test_what_is_posted_on_a_full_disk_is_written_in_its_order_when_there_is_room_again(
    sqlite_store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    await sqlite_store.write(lambda tx: tx.execute("pragma max_page_count = 1"))
    text = "x" * 100_000
    sqlite_store.write_nowait(call_journal.append_text, [("none", 0, "small")])
    sqlite_store.write_nowait(
        call_journal.open_call, call_journal.JournaledCall(id="c", worker=text, started_at=0.0, prompt_head="x")
    )
    sqlite_store.write_nowait(call_journal.append_text, [("c", 0, text)])
    with pytest.raises(StoreError) as caught:
        await sqlite_store.write_surely(call_journal.close_call, "c", end="complete", ended_at=1.0)
    assert caught.value.kind == "full"
    assert await sqlite_store.read(call_journal.find_call, "c", "local") is None
    await sqlite_store.write(lambda tx: tx.execute("pragma max_page_count = 1000000"))
    with anyio.fail_after(30):
        while (call := await sqlite_store.read(call_journal.find_call, "c", "local")) is None or call.state == "open":
            await sqlite_store.write(nothing)
    assert (call.end, call.chars) == ("complete", len(text))
    assert await sqlite_store.read(call_journal.answer_text, "c") == text
    assert sqlite_store.lost_writes == 0
    begun, ended = [record.getMessage() for record in caplog.records]
    assert begun.startswith(
        "The ledger could not be used: its disk is full. What running calls write is kept in memory"
    )
    assert ended == "The ledger can be written again, and has what was kept in memory."


async def test_characters_that_a_database_cannot_store_are_replaced_one_for_one(store: Store) -> None:
    await store.write(
        call_journal.open_call, call_journal.JournaledCall(id="c", worker="w", started_at=0.0, prompt_head="\udc80?")
    )
    await store.write(call_journal.append_text, [("c", 0, "a\ud800b"), ("c", 3, "\x00é")])
    nul = "\x00" if store.path is not None else "\N{REPLACEMENT CHARACTER}"  # PostgreSQL has no NUL in a text
    assert await store.read(call_journal.answer_text, "c") == f"a?b{nul}é"


async def test_an_operation_that_runs_alone_has_its_own_transaction_where_rows_are_locked() -> None:
    worker = ConnectionWorker("test", _never_connect, locks_rows=True)
    own, alone = Operation(lambda _: None), Operation(lambda _: None, runs_alone=True)
    batch = [own, own, alone, alone, own]
    assert worker._split_batch(batch) == [[own, own], [alone], [alone], [own]]  # pyright: ignore[reportPrivateUsage]
    worker.begin_shutdown()
    whole = ConnectionWorker("test", _never_connect)
    assert whole._split_batch(batch) == [batch]  # pyright: ignore[reportPrivateUsage]
    whole.begin_shutdown()


def _never_connect() -> NoReturn:
    raise AssertionError("no operation was submitted")
