"""Limits that servers count together, on each of the databases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcp_server_claude.store import periodic_runs, process_locks, shared_limits
from mcp_server_claude.store.process_locks import ProcessLocks

if TYPE_CHECKING:
    from mcp_server_claude.store import Transaction


class SetClock(ProcessLocks):
    """Locks whose clock is set by the test."""

    now = 1_000_000.0

    def database_time(self, tx: Transaction) -> float:
        del tx
        return self.now


def test_calls_of_every_process_count_and_those_of_dead_ones_do_not_run(tx: Transaction) -> None:
    for number, worker in enumerate(("w_1", "w_2", "w_3")):
        shared_limits.insert_user_call(tx, f"u_{number}", "ada", worker, 100.0 + number)
    shared_limits.insert_user_call(tx, "u_bob", "bob", "w_1", 100.0)
    shared_limits.end_user_call(tx, "u_0")
    process_locks.unregister_process(tx, "w_3")
    recent = shared_limits.lock_recent_calls(tx, "ada", now=102.0, window_s=3.0)
    assert [(call.started_at, call.is_running) for call in recent] == [(100.0, False), (101.0, True), (102.0, False)]
    recent = shared_limits.lock_recent_calls(tx, "ada", now=102.5, window_s=1.0)
    assert [call.started_at for call in recent] == [101.0, 102.0]
    assert shared_limits.delete_ended_user_calls(tx, before=200.0) == 2
    assert [call.is_running for call in shared_limits.lock_recent_calls(tx, "ada", now=200.0, window_s=200.0)] == [True]


def test_a_cooldown_is_extended_and_never_shortened(tx: Transaction) -> None:
    locks = ProcessLocks()
    for seconds in (30.0, 5.0):
        shared_limits.extend_cooldown(tx, "opus-4", seconds, locks)
    shared_limits.extend_cooldown(tx, "haiku", -1.0, locks)
    left = shared_limits.cooldowns_left(tx, locks)
    assert set(left) == {"opus-4"}
    assert 5 < left["opus-4"] <= 30


def test_after_the_clock_was_set_back_an_earlier_cooldown_ends_and_later_ones_are_counted(tx: Transaction) -> None:
    locks = SetClock()
    shared_limits.extend_cooldown(tx, "opus-4", 30.0, locks)
    locks.now -= 3_600
    assert shared_limits.cooldowns_left(tx, locks) == {}
    shared_limits.extend_cooldown(tx, "opus-4", 5.0, locks)
    assert shared_limits.cooldowns_left(tx, locks) == {"opus-4": 5.0}


def test_after_the_clock_was_set_back_earlier_calls_count_no_more(tx: Transaction) -> None:
    shared_limits.insert_user_call(tx, "u_1", "ada", "w_1", 10_000.0)
    shared_limits.end_user_call(tx, "u_1")
    count = len(shared_limits.lock_recent_calls(tx, "ada", now=9_990.0, window_s=60.0))
    assert count == 1  # a server whose transaction began later may have written before
    assert shared_limits.lock_recent_calls(tx, "ada", now=6_400.0, window_s=60.0) == []


def test_after_the_clock_was_set_back_periodic_work_is_done_again(tx: Transaction) -> None:
    locks = SetClock()
    assert periodic_runs.start_run(tx, locks, "cleanup", 3_600)
    locks.now -= 3_000
    assert not periodic_runs.start_run(tx, locks, "cleanup", 3_600)
    locks.now -= 10 * 365 * 86_400
    assert periodic_runs.start_run(tx, locks, "cleanup", 3_600)
    assert not periodic_runs.start_run(tx, locks, "cleanup", 3_600)
