"""The time zone of this machine, with its changes between summer and winter time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo


class LocalTimeZone(tzinfo):
    """The zone of this machine at any moment. `datetime.astimezone` returns one of today's offset from UTC alone."""

    def utcoffset(self, dt: datetime | None) -> timedelta | None:
        """The offset of the machine's clock from UTC at a local time."""
        return None if dt is None else dt.replace(tzinfo=None).astimezone().utcoffset()

    def dst(self, dt: datetime | None) -> timedelta | None:
        """None: it is not known which part of the offset is due to summer time."""
        del dt

    def tzname(self, dt: datetime | None) -> str | None:
        """The abbreviation at a local time, such as CET."""
        return None if dt is None else dt.replace(tzinfo=None).astimezone().tzname()

    def fromutc(self, dt: datetime) -> datetime:
        """The local time of a moment. The hour that comes twice in autumn has a `fold`."""
        moment = dt.replace(tzinfo=UTC).astimezone()
        first = moment.replace(tzinfo=self, fold=0)
        return first if first.utcoffset() == moment.utcoffset() else first.replace(fold=1)

    def __str__(self) -> str:
        return "local time"
