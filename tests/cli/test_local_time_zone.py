"""Days and months of this machine's zone, across the changes between summer and winter time."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from mcp_server_claude.cli.local_time_zone import LocalTimeZone
from mcp_server_claude.cli.usage import periods

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(not hasattr(time, "tzset"), reason="the zone of a process cannot be set here")


@pytest.fixture(autouse=True)
def _berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("moment", "local"),
    [
        ("2026-10-24T22:00", "2026-10-25T00:00:00+02:00"),
        ("2026-10-25T00:30", "2026-10-25T02:30:00+02:00"),
        ("2026-10-25T01:30", "2026-10-25T02:30:00+01:00"),
        ("2026-03-29T00:59", "2026-03-29T01:59:00+01:00"),
        ("2026-03-29T01:00", "2026-03-29T03:00:00+02:00"),
    ],
)
def test_each_moment_has_the_offset_of_its_own_time_and_is_found_again(moment: str, local: str) -> None:
    utc = datetime.fromisoformat(moment).replace(tzinfo=UTC)
    there = utc.astimezone(LocalTimeZone())
    assert there.isoformat() == local
    assert there.timestamp() == utc.timestamp()


@pytest.mark.parametrize("year", [1, 1960, 9999])
def test_a_year_of_which_the_system_knows_nothing_has_a_local_time(year: int) -> None:
    assert datetime(year, 12, 31, tzinfo=LocalTimeZone()).isoformat() == f"{year:04}-12-31T00:00:00+01:00"


def test_days_and_months_begin_at_local_midnight_in_summer_and_in_winter() -> None:
    days = periods_in_utc(datetime(2026, 10, 24, tzinfo=LocalTimeZone()), 3, "day")
    assert [(label, (end - begin) / timedelta(hours=1)) for label, begin, end in days] == [
        ("2026-10-24", 24),
        ("2026-10-25", 25),
        ("2026-10-26", 24),
    ]
    months = periods_in_utc(datetime(2026, 10, 1, tzinfo=LocalTimeZone()), 40, "month")
    assert [f"{begin:%m-%d %H:%M}" for _, begin, _ in months] == ["09-30 22:00", "10-31 23:00"]


def periods_in_utc(since: datetime, days: int, unit: str) -> Iterator[tuple[str, datetime, datetime]]:
    for label, begin, end in periods(since, since + timedelta(days=days), unit, LocalTimeZone()):
        yield label, begin.astimezone(UTC), end.astimezone(UTC)
