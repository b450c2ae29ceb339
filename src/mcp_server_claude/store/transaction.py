"""Transactions as store operations see them: SQL with named `:parameters`, the same text on every backend.

Statements use only what SQLite and PostgreSQL share: ON CONFLICT, RETURNING, FILTER, partial indexes, and no function
that one of them lacks. Times are unix seconds, amounts are integer micro-dollars, and truth values are 0 and 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal, Protocol, TypeAlias, TypeVar

SqlValue: TypeAlias = str | int | float | None
SqlParams: TypeAlias = Mapping[str, SqlValue]
T = TypeVar("T")

NO_PARAMS: SqlParams = MappingProxyType({})

StoreErrorKind: TypeAlias = Literal["full", "locked", "io", "damaged", "read_only", "schema", "closed", "bug"]
"""Cause of a store error. `bug` is a fault of this package; all others are faults of the machine or of the file."""


class StoreError(Exception):
    """A store operation failed. `str(error)` is one sentence; the database's own error is chained."""

    def __init__(self, message: str, *, kind: StoreErrorKind = "bug") -> None:
        super().__init__(message)
        self.kind: StoreErrorKind = kind


class Transaction(Protocol):
    """An open transaction. An operation that raises is rolled back alone, without the others of its batch."""

    def execute(self, sql: str, params: SqlParams = NO_PARAMS, /) -> int:
        """Execute a statement and return the number of rows that it changed."""
        ...

    def fetch_all(self, row_factory: Callable[..., T], sql: str, params: SqlParams = NO_PARAMS, /) -> list[T]:
        """Return all rows, each made by `row_factory` with the columns as keyword arguments."""
        ...

    def fetch_one(self, row_factory: Callable[..., T], sql: str, params: SqlParams = NO_PARAMS, /) -> T | None:
        """Return the first row, or None if there is none."""
        ...


def scalar(**row: T) -> T:
    """Return the only column of a row. For use as a `row_factory`."""
    (only,) = row.values()
    return only
