"""Questions about costs that servers share, and the keys that they share, on both databases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcp_server_claude.store import shared_keys, spending_questions
from mcp_server_claude.store.postgres_process_locks import PostgresProcessLocks
from mcp_server_claude.store.process_locks import ProcessLocks
from mcp_server_claude.store.sqlite_connection import SqliteTransaction

if TYPE_CHECKING:
    from mcp_server_claude.store import Transaction


def locks_of(tx: Transaction) -> ProcessLocks:
    return ProcessLocks() if isinstance(tx, SqliteTransaction) else PostgresProcessLocks()


def test_a_question_is_found_until_its_first_answer(tx: Transaction) -> None:
    locks = locks_of(tx)
    spending_questions.insert_question(tx, locks, "d", "Send it? [1]", 600)
    spending_questions.insert_question(tx, locks, "d", "Send it? [2]", 600)
    assert spending_questions.find_question(tx, locks, "d", 600) == "Send it? [2]"
    assert spending_questions.find_question(tx, locks, "another", 600) is None
    assert not spending_questions.delete_question(tx, "d", "Send it? [1]")
    assert spending_questions.delete_question(tx, "d", "Send it? [2]")
    assert not spending_questions.delete_question(tx, "d", "Send it? [2]")
    assert spending_questions.find_question(tx, locks, "d", 600) is None


def test_an_expired_question_is_not_found_and_deleted_by_the_next(tx: Transaction) -> None:
    locks = locks_of(tx)
    spending_questions.insert_question(tx, locks, "old", "Send it?", 600)
    tx.execute("update spending_question set asked_at = asked_at - 601")
    assert spending_questions.find_question(tx, locks, "old", 600) is None
    spending_questions.insert_question(tx, locks, "new", "Send it?", 600)
    assert not spending_questions.delete_question(tx, "old", "Send it?")
    assert spending_questions.delete_question(tx, "new", "Send it?")


def test_a_shared_key_is_created_once(tx: Transaction) -> None:
    first = shared_keys.get_or_create_key(tx, "one")
    assert len(bytes.fromhex(first)) == shared_keys.KEY_BYTES
    assert shared_keys.get_or_create_key(tx, "one") == first
    assert shared_keys.get_or_create_key(tx, "other") != first
