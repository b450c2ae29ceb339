"""Limits that servers count together, on each of the databases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcp_server_claude.store import process_locks, shared_limits
from mcp_server_claude.store.process_locks import ProcessLocks

if TYPE_CHECKING:
    from mcp_server_claude.store import Transaction


def test_calls_of_every_process_count_and_those_of_dead_ones_do_not_run(tx: Transaction) -> None:
    for number, worker in enumerate(("w_1", "w_2", "w_3")):
        shared_limits.insert_user_call(tx, f"u_{number}", "ada", worker, 100.0 + number)
    shared_limits.insert_user_call(tx, "u_bob", "bob", "w_1", 100.0)
    shared_limits.end_user_call(tx, "u_0")
    process_locks.unregister_process(tx, "w_3")
    recent = shared_limits.lock_recent_calls(tx, "ada", since=99.0)
    assert [(call.started_at, call.is_running) for call in recent] == [(100.0, False), (101.0, True), (102.0, False)]
    assert [call.started_at for call in shared_limits.lock_recent_calls(tx, "ada", since=101.5)] == [101.0, 102.0]
    assert shared_limits.delete_ended_user_calls(tx, before=200.0) == 2
    assert [call.is_running for call in shared_limits.lock_recent_calls(tx, "ada", since=0.0)] == [True]


def test_a_cooldown_is_extended_and_never_shortened(tx: Transaction) -> None:
    locks = ProcessLocks()
    for seconds in (30.0, 5.0):
        shared_limits.extend_cooldown(tx, "opus-4", seconds, locks)
    shared_limits.extend_cooldown(tx, "haiku", -1.0, locks)
    left = shared_limits.cooldowns_left(tx, locks)
    assert set(left) == {"opus-4"}
    assert 5 < left["opus-4"] <= 30
