"""Threads: the pages of a user's list, and the lock of a thread."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING

import pytest

from mcp_server_claude.store import process_locks, request_ledger, thread_messages
from mcp_server_claude.store.thread_messages import Thread
from mcp_server_claude.store.transaction import scalar

if TYPE_CHECKING:
    from mcp_server_claude.store import Transaction


def create(tx: Transaction, thread_id: str, at: float, user: str = "ada") -> None:
    thread_messages.create_thread(
        tx, Thread(id=thread_id, user=user, head="", system="", model="", started_at=at, touched_at=at)
    )


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8])
def test_the_pages_of_a_list_hold_every_thread_once_and_in_order(tx: Transaction, limit: int) -> None:
    expected = ["t_9", "t_8", "t_1", "t_2", "t_3", "t_7", "t_0"]  # threads of the same moment are sorted by id
    for thread_id, at in zip(expected, [90.0, 80.0, 50.0, 50.0, 50.0, 40.0, 10.0], strict=True):
        create(tx, thread_id, at)
    create(tx, "t_bob", 60.0, user="bob")
    request_ledger.open_entry(
        tx, request_ledger.LedgerEntry(id="r", call_id="c", worker="w", started_at=1.0, thread="t_2", cost_micros=70)
    )
    found: list[tuple[str, int]] = []
    cursor: thread_messages.ThreadCursor | None = None
    while page := thread_messages.threads_with_cost(tx, "ada", limit, cursor):
        assert len(page) <= limit
        found += [(thread.id, cost) for thread, cost in page]
        last, _ = page[-1]
        cursor = last.touched_at, last.id
    assert found == [(thread_id, 70 if thread_id == "t_2" else 0) for thread_id in expected]


def test_a_thread_is_locked_by_one_running_process_at_a_time(tx: Transaction) -> None:
    create(tx, "t_1", 1.0)
    for worker in ("w_1", "w_2"):
        process_locks.register_process(tx, worker)
    assert thread_messages.lock_thread(tx, "t_1", call_id="c_1", worker="w_1", now=2.0) is not None
    assert thread_messages.lock_thread(tx, "t_1", call_id="c_2", worker="w_2", now=1e9) is None
    thread_messages.unlock_thread(tx, "t_1", "c_1")
    assert thread_messages.lock_thread(tx, "t_1", call_id="c_2", worker="w_2", now=3.0) is not None
    process_locks.unregister_process(tx, "w_2")
    assert thread_messages.lock_thread(tx, "t_1", call_id="c_3", worker="w_1", now=4.0) is not None


def test_a_thread_whose_only_question_was_never_answered_can_be_locked_and_continued(tx: Transaction) -> None:
    create(tx, "t_1", 1.0)
    process_locks.register_process(tx, "w_1")
    assert thread_messages.lock_thread(tx, "t_1", call_id="c_1", worker="w_1", now=2.0) is not None
    thread_messages.append_message(tx, "t_1", question("c_1"))
    process_locks.unregister_process(tx, "w_1")  # it died before its answer began
    process_locks.register_process(tx, "w_2")
    assert thread_messages.lock_thread(tx, "t_1", call_id="c_2", worker="w_2", now=3.0) is not None
    thread_messages.append_message(tx, "t_1", question("c_2"))
    assert [turn.call_id for turn in thread_messages.thread_history(tx, "t_1")] == ["c_2"]


LONG_TEXT = "é" * (2 * thread_messages.MAX_INLINE_CHARS) + "the end"


def test_a_long_text_is_stored_in_short_rows_and_read_whole(tx: Transaction) -> None:
    content: list[dict[str, object]] = [
        {"type": "thinking", "thinking": "hm"},
        {"type": "text", "text": "é"},
        {"type": "text", "text": LONG_TEXT},
    ]
    create(tx, "t_1", 1.0)
    for call_id in ("c_1", "c_2"):
        thread_messages.append_message(tx, "t_1", question(call_id))
        answer = thread_messages.ThreadMessage(role="assistant", content=content, model="m", call_id=call_id)
        thread_messages.append_message(tx, "t_1", answer)
    history = thread_messages.thread_history(tx, "t_1")
    assert [turn.content for turn in history] == [[{"type": "text", "text": "?"}], content] * 2
    assert stored_rests(tx) == 4
    thread_messages.replace_question(tx, "t_1", "c_2", content[1:])
    thread_messages.replace_contents(tx, "t_1", {1: content[::-1], 3: content[:2]})
    history = thread_messages.thread_history(tx, "t_1")
    assert [turn.content for turn in history] == [history[0].content, content[::-1], content[1:], content[:2]]
    assert stored_rests(tx) == 4
    thread_messages.remove_interrupted_turn(tx, "t_1", "c_2")
    assert [turn.content for turn in thread_messages.thread_history(tx, "t_1")] == [history[0].content, content[::-1]]
    assert stored_rests(tx) == 2
    assert thread_messages.delete_thread(tx, "t_1", "ada")
    assert stored_rests(tx) == 0


def test_a_long_text_takes_little_memory_while_it_is_stored(tx: Transaction) -> None:
    text = LONG_TEXT * 20
    create(tx, "t_1", 1.0)
    answer = thread_messages.ThreadMessage(
        role="assistant", content=[{"type": "text", "text": text}], model="m", call_id="c"
    )
    tracemalloc.start()
    try:
        thread_messages.append_message(tx, "t_1", answer)
        assert tracemalloc.get_traced_memory()[1] < len(text) / 2
    finally:
        tracemalloc.stop()


def stored_rests(tx: Transaction) -> int:
    """The number of rows with the rest of a text."""
    return tx.fetch_one(scalar, "select count(*) as n from turn_text") or 0


def question(call_id: str) -> thread_messages.ThreadMessage:
    return thread_messages.ThreadMessage(
        role="user", content=[{"type": "text", "text": "?"}], model="", call_id=call_id
    )
