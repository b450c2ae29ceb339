"""Questions whether a call may be sent, for servers that share a database: one may ask, and another get the answer.

A question has the digest of its call as key, and its text; one asked over HTTP a token, and the digest as text. Times
are seconds of the database's clock, so the clocks of the servers do not matter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcp_server_claude.store.transaction import scalar

if TYPE_CHECKING:
    from mcp_server_claude.store.process_locks import ProcessLocks
    from mcp_server_claude.store.transaction import Transaction

_ADD = """
insert into spending_question (key, text, asked_at) values (:key, :text, :now)
on conflict (key) do update set text = excluded.text, asked_at = excluded.asked_at
"""


def insert_question(tx: Transaction, locks: ProcessLocks, key: str, text: str, ttl_s: float) -> None:
    """Add a question, in place of an earlier one of its key. Deletes those older than `ttl_s` seconds."""
    now = locks.database_time(tx)
    tx.execute("delete from spending_question where asked_at <= :before", {"before": now - ttl_s})
    tx.execute(_ADD, {"key": key, "text": text, "now": now})


def find_question(tx: Transaction, locks: ProcessLocks, key: str, ttl_s: float) -> str | None:
    """Return the question of a key that was asked within `ttl_s` seconds and is not answered; None if none is."""
    row = {"key": key, "since": locks.database_time(tx) - ttl_s}
    sql = "select text from spending_question where key = :key and asked_at > :since"
    return tx.fetch_one(scalar, sql, row)


def delete_question(tx: Transaction, key: str, text: str) -> bool:
    """Delete a question, since it was answered. Returns True for one of any number of answers to this very question."""
    row = {"key": key, "text": text}
    return tx.execute("delete from spending_question where key = :key and text = :text", row) == 1
