"""The time zone of this machine, with its changes between summer and winter time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo

FIRST_YEAR, LAST_YEAR = 1972, 2996
"""Leap years between which every system knows the local time; that of other years is taken from these."""


class LocalTimeZone(tzinfo):
    """The zone of this machine at any moment. `datetime.astimezone` returns one of today's offset from UTC alone."""

    def utcoffset(self, dt: datetime | None) -> timedelta | None:
        """The offset of the machine's clock from UTC at a local time."""
        return None if dt is None else _on_this_machine(dt).utcoffset()

    def dst(self, dt: datetime | None) -> timedelta | None:
        """None: it is not known which part of the offset is due to summer time."""
        del dt

    def tzname(self, dt: datetime | None) -> str | None:
        """The abbreviation at a local time, such as CET."""
        return None if dt is None else _on_this_machine(dt).tzname()

    def fromutc(self, dt: datetime) -> datetime:
        """The local time of a moment. The hour that comes twice in autumn has a `fold`."""
        moment = dt.replace(tzinfo=UTC).astimezone()
        first = moment.replace(tzinfo=self, fold=0)
        return first if first.utcoffset() == moment.utcoffset() else first.replace(fold=1)

    def __str__(self) -> str:
        return "local time"


def _on_this_machine(dt: datetime) -> datetime:
    """The same local time with a fixed offset from UTC."""
    return dt.replace(year=min(max(dt.year, FIRST_YEAR), LAST_YEAR), tzinfo=None).astimezone()
