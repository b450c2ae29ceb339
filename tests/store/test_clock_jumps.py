"""A clock that goes forward at once is not believed before it could be set, on each of the databases."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mcp_server_claude.store import request_ledger
from mcp_server_claude.store.clock_jumps import time_before_jump, trusted_time
from mcp_server_claude.store.process_locks import ProcessLocks

if TYPE_CHECKING:
    from mcp_server_claude.store import Transaction

DAY_S = 86_400.0
MAX_GAP_S = 15 * DAY_S
START = 1_000 * DAY_S


class SetClock(ProcessLocks):
    """Locks whose clock is set by the test, in days since the beginning."""

    now = 0.0

    def database_time(self, tx: Transaction) -> float:
        del tx
        return START + self.now * DAY_S

    def read(self, tx: Transaction, day: float) -> float:
        """The day by which things may be deleted on a day."""
        self.now = day
        return (trusted_time(tx, self, MAX_GAP_S) - START) / DAY_S


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


def test_a_clock_that_goes_on_is_believed(tx: Transaction, clock: SetClock) -> None:
    for day in (0.0, 0.01, 0.5, 14.0, 29.0):
        assert clock.read(tx, day) == pytest.approx(day)
    assert time_before_jump(tx, clock.database_time(tx)) is None


def test_a_jump_is_believed_after_three_days_however_often_a_server_starts(tx: Transaction, clock: SetClock) -> None:
    clock.read(tx, 0)
    for day in (1000.0, 1000.1, 1001.0, 1002.9):
        assert clock.read(tx, day) == 0
    assert time_before_jump(tx, clock.database_time(tx)) == START
    assert clock.read(tx, 1003.1) == pytest.approx(1003.1)


def test_a_clock_that_was_ahead_and_is_set_right_is_believed_at_once(tx: Transaction, clock: SetClock) -> None:
    clock.read(tx, 0)
    assert clock.read(tx, 1000) == 0
    assert clock.read(tx, 1) == pytest.approx(1)
    assert clock.read(tx, 2) == pytest.approx(2)


def test_a_jump_that_ended_is_none_when_its_day_comes(tx: Transaction, clock: SetClock) -> None:
    for day in (0, 20, 1, 10, 19):
        clock.read(tx, day)
    assert clock.read(tx, 20.1) == pytest.approx(20.1)
    assert time_before_jump(tx, clock.database_time(tx)) is None


def test_a_clock_that_is_corrected_by_a_second_after_a_jump_is_not_believed(tx: Transaction, clock: SetClock) -> None:
    assert [clock.read(tx, day) for day in (0, 1000, 1000 - 1 / DAY_S, 1001)] == [0, 0, 0, 0]


def test_a_store_that_is_used_every_twenty_days_deletes_by_the_time_before(tx: Transaction, clock: SetClock) -> None:
    assert [clock.read(tx, day) for day in (0, 20, 40, 60)] == [0, 0, 20, 40]


def test_the_first_reading_is_compared_with_the_newest_request(tx: Transaction, clock: SetClock) -> None:
    entry = request_ledger.LedgerEntry(id="r_1", call_id="c", worker="w", started_at=START)
    request_ledger.open_entry(tx, entry)
    assert clock.read(tx, 1000) == 0
