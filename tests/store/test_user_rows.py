"""Members, the hashes of their tokens, and their sessions; forgetting what they wrote."""

from __future__ import annotations

import json
import math
import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import pytest

from mcp_server_claude.store import (
    budget_reservations,
    call_journal,
    process_locks,
    request_ledger,
    thread_messages,
    user_rows,
)
from mcp_server_claude.store.erasure import ERASED_NAME, ErasureCounts, ErasureFilter, erase_from_file, erase_text
from mcp_server_claude.store.process_locks import ProcessLocks
from mcp_server_claude.store.transaction import scalar
from mcp_server_claude.store.user_rows import MAX_SESSIONS, UserRow

if TYPE_CHECKING:
    from mcp_server_claude.store import Store, Transaction
    from mcp_server_claude.store.user_rows import UserChanges

pytestmark = pytest.mark.anyio
DAY = "2026-11-20"
NOON = 1_795_176_000.0
"""On that day."""
ADA = UserRow(name="ada", token_hash="hash-of-ada", created_at=NOON, usd_per_day=5.0)


def sessions(tx: Transaction) -> list[str]:
    return tx.fetch_all(scalar, "select hash from session order by created_at, hash")


def spend(tx: Transaction, user: str, micros: int, at: float = NOON) -> None:
    """A request that is over, as the ledger has it; no budget was kept for it."""
    entry = request_ledger.LedgerEntry(id=f"r_{user}_{at}_{micros}", call_id="c", worker="w", started_at=at, user=user)
    request_ledger.open_entry(tx, entry)
    request_ledger.close_entry(
        tx, entry.id, request_ledger.EntryResult(end="complete", ended_at=at, cost_micros=micros)
    )


# --------------------------------------------------------------------- members


def test_a_user_is_found_by_the_hash_of_their_token_until_it_is_rotated_or_they_are_removed(tx: Transaction) -> None:
    assert user_rows.insert_user(tx, ADA)
    assert user_rows.find_by_token(tx, "hash-of-ada") == ADA
    assert user_rows.replace_token(tx, "ada", "another")
    assert user_rows.find_by_token(tx, "hash-of-ada") is None
    assert user_rows.find_by_token(tx, "another") == replace(ADA, token_hash="another")
    assert user_rows.mark_removed(tx, "ada", NOON)
    assert user_rows.find_by_token(tx, "another") is None
    assert user_rows.find_user(tx, "ada") == replace(ADA, token_hash=None, removed_at=NOON)


def test_a_name_belongs_to_one_person_even_after_their_removal(tx: Transaction) -> None:
    assert user_rows.insert_user(tx, ADA)
    assert not user_rows.insert_user(tx, replace(ADA, token_hash="other"))
    user_rows.mark_removed(tx, "ada", NOON)
    assert not user_rows.insert_user(tx, replace(ADA, token_hash="other"))
    assert user_rows.restore_user(tx, replace(ADA, token_hash="other", role="operator"), DAY)
    assert user_rows.find_by_token(tx, "other") == replace(ADA, token_hash="other", role="operator")
    assert not user_rows.restore_user(tx, ADA, DAY)


def test_an_unknown_user_cannot_be_rotated_changed_or_removed(tx: Transaction) -> None:
    user_rows.insert_user(tx, ADA)
    user_rows.mark_removed(tx, "ada", NOON)
    for name in ("ada", "bob"):
        assert not user_rows.replace_token(tx, name, "x")
        assert not user_rows.mark_removed(tx, name, NOON)
        assert not user_rows.update_user(tx, name, {"concurrent": 1}, DAY)
    assert user_rows.count_users(tx) == 0


def test_an_update_changes_only_the_given_columns(tx: Transaction) -> None:
    user_rows.insert_user(tx, ADA)
    assert user_rows.update_user(tx, "ada", {"role": "operator", "usd_per_day": math.inf, "concurrent": 0}, DAY)
    assert user_rows.find_user(tx, "ada") == replace(ADA, role="operator", usd_per_day=math.inf, concurrent=0)
    assert user_rows.update_user(tx, "ada", {"usd_per_day": None}, DAY)
    assert user_rows.find_user(tx, "ada") == replace(ADA, role="operator", usd_per_day=None, concurrent=0)
    assert user_rows.update_user(tx, "ada", {}, DAY)


def test_only_a_role_and_limits_can_be_changed(tx: Transaction) -> None:
    strange: UserChanges = {"token_hash": "mine"}  # type: ignore[typeddict-unknown-key] # pyright: ignore[reportAssignmentType]
    with pytest.raises(TypeError, match="token_hash"):
        user_rows.update_user(tx, "ada", strange, DAY)


def test_the_list_has_users_by_name_with_the_cost_of_today(tx: Transaction) -> None:
    for name in ("bob", "ada", "zed"):
        user_rows.insert_user(tx, UserRow(name=name, created_at=NOON))
    user_rows.mark_removed(tx, "zed", NOON)
    spend(tx, "ada", 700)
    spend(tx, "ada", 70, NOON - 86_400)
    seen = {
        each.user_row.name: (each.spent_micros, each.last_request_at) for each in user_rows.users_with_activity(tx, DAY)
    }
    assert seen == {"ada": (700, NOON), "bob": (0, None)}
    assert list(seen) == ["ada", "bob"]


# --------------------------------------------------------------------- sessions


def test_a_session_lasts_until_it_expires_or_is_ended(tx: Transaction) -> None:
    user_rows.insert_user(tx, ADA)
    user_rows.create_session(tx, "s1", "ada", now=NOON, until=NOON + 100)
    user_rows.create_session(tx, "s2", "ada", now=NOON, until=NOON + 200)
    assert user_rows.find_by_session(tx, "s1", NOON + 99) == ADA
    assert user_rows.find_by_session(tx, "s1", NOON + 100) is None
    assert user_rows.delete_expired_sessions(tx, NOON + 100) == 1
    assert sessions(tx) == ["s2"]
    assert user_rows.delete_session(tx, "s2")
    assert not user_rows.delete_session(tx, "s2")
    assert user_rows.find_by_session(tx, "s2", NOON) is None


@pytest.mark.parametrize("way", ["rotated", "removed"])
def test_the_sessions_of_a_user_end_with_their_token_and_no_others(tx: Transaction, way: str) -> None:
    user_rows.insert_user(tx, ADA)
    user_rows.insert_user(tx, UserRow(name="bob", token_hash="b", created_at=NOON))
    for secret, name in (("s1", "ada"), ("s2", "ada"), ("s3", "bob")):
        user_rows.create_session(tx, secret, name, now=NOON, until=NOON + 100)
    assert user_rows.replace_token(tx, "ada", "new") if way == "rotated" else user_rows.mark_removed(tx, "ada", NOON)
    assert sessions(tx) == ["s3"]


def test_repeated_sign_ins_do_not_fill_the_disk(tx: Transaction) -> None:
    user_rows.insert_user(tx, ADA)
    for n in range(MAX_SESSIONS + 20):
        user_rows.create_session(tx, f"s{n:03}", "ada", now=NOON + n, until=NOON + 1000)
    assert sessions(tx) == [f"s{n:03}" for n in range(20, MAX_SESSIONS + 20)]
    user_rows.create_session(tx, "late", "ada", now=NOON + 2000, until=NOON + 3000)
    assert sessions(tx) == ["late"]


# --------------------------------------------------------------------- identities


def test_a_person_at_an_identity_provider_is_created_at_the_first_sign_in_and_found_afterwards(tx: Transaction) -> None:
    first = user_rows.get_or_create_by_identity(tx, "https://id.example", "sub-1", ("ada", "ada-2"), NOON)
    assert first == UserRow(name="ada", issuer="https://id.example", subject="sub-1", created_at=NOON)
    assert user_rows.get_or_create_by_identity(tx, "https://id.example", "sub-1", ("other",), NOON + 5) == first
    assert user_rows.find_by_identity(tx, "https://id.example", "sub-1") == first
    assert user_rows.find_by_identity(tx, "https://other.example", "sub-1") is None


def test_a_second_person_of_a_name_gets_the_next_free_name_even_after_a_removal(tx: Transaction) -> None:
    user_rows.insert_user(tx, ADA)
    assert user_rows.get_or_create_by_identity(tx, "i", "s1", ("ada", "ada-2", "ada-3"), NOON).name == "ada-2"
    user_rows.mark_removed(tx, "ada-2", NOON)
    assert user_rows.get_or_create_by_identity(tx, "i", "s2", ("ada", "ada-2", "ada-3"), NOON).name == "ada-3"
    removed = user_rows.get_or_create_by_identity(tx, "i", "s1", ("x",), NOON)
    assert (removed.name, removed.removed_at) == ("ada-2", NOON)
    with pytest.raises(ValueError, match="no name is free"):
        user_rows.get_or_create_by_identity(tx, "i", "s3", ("ada",), NOON)


# --------------------------------------------------------------------- their budgets


def test_a_budget_that_is_set_during_a_day_counts_the_cost_of_that_day(tx: Transaction) -> None:
    spend(tx, "ada", 600)
    spend(tx, "bob", 50)
    spend(tx, "ada", 9_999, NOON - 86_400)
    assert budget_reservations.remaining_micros(tx, "user:ada", DAY, 1000) == 400
    assert budget_reservations.reserve_up_to(
        tx, [("user:ada", 1000), ("total", 1000)], DAY, 400, 400, "r_1"
    ) == budget_reservations.InsufficientBudget("total", 350)
    assert budget_reservations.reserve_up_to(
        tx, [("user:ada", 1000), ("total", 1000)], DAY, 350, 350, "r_1"
    ) == budget_reservations.Reservation(350)
    budget_reservations.settle(tx, "r_1", 350)
    assert budget_reservations.spent_on_day(tx, "user:ada", DAY) == 950
    assert budget_reservations.spent_on_day(tx, "total", DAY) == 1000


def test_a_budget_that_was_lifted_counts_the_cost_of_the_time_between(tx: Transaction) -> None:
    user_rows.insert_user(tx, ADA)
    budget_reservations.reserve_up_to(tx, [("user:ada", 1000)], DAY, 100, 100, "r_1")
    budget_reservations.settle(tx, "r_1", 100)
    user_rows.update_user(tx, "ada", {"usd_per_day": math.inf}, DAY)
    spend(tx, "ada", 800)
    assert budget_reservations.spent_on_day(tx, "user:ada", DAY) == 800
    user_rows.update_user(tx, "ada", {"usd_per_day": 0.001}, DAY)
    assert budget_reservations.remaining_micros(tx, "user:ada", DAY, 1000) == 200


# --------------------------------------------------------------------- forgetting


NO_PROCESSES = ProcessLocks()


def talk(
    tx: Transaction,
    user: str,
    thread: str,
    at: float,
    *,
    new: bool = True,
    end: bool = True,
    call: str = "",
    worker: str = "w",
) -> str:
    """A question and its answer in a thread, as the house writes them."""
    call = call or f"c_{user}_{thread}_{at:.0f}"
    process_locks.register_process(tx, worker)
    if new:
        thread_messages.create_thread(
            tx,
            thread_messages.Thread(
                id=thread, user=user, head="SECRET head", system="SECRET rules", model="", started_at=at, touched_at=at
            ),
        )
    assert thread_messages.lock_thread(tx, thread, call_id=call, worker=worker, now=at) is not None
    record = call_journal.JournaledCall(
        id=call, worker=worker, started_at=at, user=user, thread=thread, prompt_head="SECRET words"
    )
    call_journal.open_call(tx, record)
    call_journal.append_text(tx, [(call, 0, "SECRET answer")])
    thread_messages.append_message(tx, thread, turn("user", call))
    tx.execute(
        'insert into produced (id, call_id, "user", file_id, name, mime_type, bytes, created_at) '
        "values (:id, :call, :user, 'file_1', 'SECRET.pdf', 'application/pdf', 9, :at)",
        {"id": f"p_{call}", "call": call, "user": user, "at": at},
    )
    spend(tx, user, 100, at)
    if end:
        thread_messages.append_message(tx, thread, turn("assistant", call))
        thread_messages.unlock_thread(tx, thread, call)
        call_journal.close_call(tx, call, end="failed", ended_at=at + 1, incomplete="SECRET why", usage={"cost_usd": 1})
    return call


def turn(role: Literal["user", "assistant"], call: str) -> thread_messages.ThreadMessage:
    return thread_messages.ThreadMessage(
        role=role, content=[{"type": "text", "text": f"SECRET {role}"}], model="", call_id=call
    )


def secrets(tx: Transaction, user: str) -> list[str]:
    """Where a user's text still stands."""
    found: list[str] = []
    for sql in (
        'select prompt_head as a, incomplete as b from call where "user" = :user',
        'select text as a, off as b from chunk join call on call.id = chunk.call_id where call."user" = :user',
        'select head as a, system as b from thread where "user" = :user',
        'select content as a, seq as b from turn join thread on thread.id = turn.thread_id where thread."user" = :user',
        'select name as a, mime_type as b from produced where "user" = :user',
    ):
        found += [
            word for row in tx.fetch_all(dict[str, object], sql, {"user": user}) for word in map(str, row.values())
        ]
    return [word for word in found if "SECRET" in word]


def test_an_erasure_deletes_the_text_of_a_user_and_keeps_costs_and_other_users(tx: Transaction) -> None:
    talk(tx, "ada", "t_1", NOON)
    talk(tx, "ada", "t_1", NOON + 10, new=False)
    talk(tx, "ada", "t_2", NOON + 20)
    talk(tx, "bob", "t_3", NOON)
    bobs = secrets(tx, "bob")
    spent = request_ledger.summarize_usage(tx, 0, by=("user",))
    accounts = tx.fetch_all(scalar, "select usage from call order by id")
    assert erase_text(tx, ErasureFilter(user="ada"), NO_PROCESSES, NOON + 100) == ErasureCounts(
        calls=3, threads=2, files=3, running=0
    )
    assert secrets(tx, "ada") == []
    assert secrets(tx, "bob") == bobs
    assert len(bobs) == 8
    assert request_ledger.summarize_usage(tx, 0, by=("user",)) == spent
    assert tx.fetch_all(scalar, "select usage from call order by id") == accounts
    assert erase_text(tx, ErasureFilter(user="ada"), NO_PROCESSES, NOON + 100).is_empty


def test_an_erasure_by_date_includes_old_messages_of_continued_threads(tx: Transaction) -> None:
    talk(tx, "ada", "t_old", NOON)
    talk(tx, "bob", "t_on", NOON)
    talk(tx, "bob", "t_on", NOON + 5000, new=False)
    talk(tx, "bob", "t_new", NOON + 5001)
    assert erase_text(tx, ErasureFilter(before=NOON + 4000), NO_PROCESSES, NOON + 6000) == ErasureCounts(
        calls=2, threads=2, files=2, running=0
    )
    assert secrets(tx, "ada") == []
    assert thread_messages.find_thread(tx, "t_old", "ada") is None
    thread = thread_messages.find_thread(tx, "t_on", "bob")
    assert thread is not None
    assert thread.head == ERASED_NAME
    assert [(each.role, each.call_id) for each in thread_messages.thread_history(tx, "t_on")] == [
        ("user", "c_bob_t_on_1795181000"),
        ("assistant", "c_bob_t_on_1795181000"),
    ]
    assert json.loads(tx.fetch_all(scalar, "select content from turn where thread_id = 't_new'")[0])


def test_an_erasure_keeps_the_text_of_running_calls_and_the_thread_stays_a_conversation(tx: Transaction) -> None:
    talk(tx, "ada", "t_1", NOON)
    locks = ProcessLocks()
    running = talk(tx, "ada", "t_1", NOON + 10, new=False, end=False, worker=locks.worker)
    assert erase_text(tx, ErasureFilter(user="ada"), locks, NOON + 20) == ErasureCounts(
        calls=1, threads=1, files=2, running=1
    )
    assert [each.call_id for each in thread_messages.thread_history(tx, "t_1")] == [running]
    thread_messages.append_message(tx, "t_1", turn("assistant", running))
    assert [each.role for each in thread_messages.thread_history(tx, "t_1")] == ["user", "assistant"]


async def test_a_reader_that_prevents_emptying_the_log_is_reported(sqlite_store: Store) -> None:
    assert sqlite_store.path is not None
    await sqlite_store.write(talk, "ada", "t_1", NOON)
    with closing(sqlite3.connect(sqlite_store.path)) as reader:
        reader.execute("begin")
        reader.execute("select * from chunk").fetchall()
        found, emptied = erase_from_file(sqlite_store.path.parent, ErasureFilter(user="ada"), NOON + 100, timeout_s=0)
        assert (found.calls, emptied) == (1, False)
    again, emptied = erase_from_file(sqlite_store.path.parent, ErasureFilter(user="ada"), NOON + 100)
    assert again.is_empty
    assert emptied


def test_an_erasure_includes_open_calls_of_a_dead_process(tx: Transaction) -> None:
    talk(tx, "ada", "t_1", NOON, end=False)
    assert erase_text(tx, ErasureFilter(user="ada"), NO_PROCESSES, NOON + 1) == ErasureCounts(
        calls=1, threads=1, files=1, running=0
    )
    assert secrets(tx, "ada") == []
    assert time.gmtime(NOON)[:3] == (2026, 11, 20)
