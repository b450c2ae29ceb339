"""Transactions as store operations see them: SQL with named `:parameters`, the same text on every backend.

Statements use only what SQLite and PostgreSQL share: ON CONFLICT, RETURNING, FILTER, partial indexes, and no function
that one of them lacks. Times are unix seconds, amounts are integer micro-dollars, and truth values are 0 and 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, Protocol, TypeAlias, TypeVar

SqlValue: TypeAlias = str | int | float | None
SqlParams: TypeAlias = Mapping[str, SqlValue]
T = TypeVar("T")

NO_PARAMS: SqlParams = MappingProxyType({})

StoreErrorKind: TypeAlias = Literal[
    "full", "locked", "io", "damaged", "read_only", "schema", "unreachable", "closed", "bug"
]
"""Cause of a store error. `bug` is a fault of this package; all others are faults of the machine, file or server."""


class StoreError(Exception):
    """A store operation failed. `str(error)` is one sentence; the database's own error is chained."""

    def __init__(self, message: str, *, kind: StoreErrorKind = "bug") -> None:
        super().__init__(message)
        self.kind: StoreErrorKind = kind


class StatementResult(Protocol):
    """The cursor of a database's client library after a statement."""

    @property
    def rowcount(self) -> int:
        """Number of rows that were changed."""
        ...

    @property
    def description(self) -> Sequence[Any] | None:
        """The columns, whose first element is their name."""
        ...

    def fetchall(self) -> Sequence[Sequence[Any]]:
        """Return all rows."""
        ...


class Transaction:
    """An open transaction. An operation that raises is rolled back alone, without the others of its batch."""

    def __init__(self, run: Callable[[str, SqlParams], StatementResult]) -> None:
        """`run` executes a statement on the connection of the transaction."""
        self._run = run

    def execute(self, sql: str, params: SqlParams = NO_PARAMS, /) -> int:
        """Execute a statement and return the number of rows that it changed."""
        return self._run(sql, params).rowcount

    def fetch_all(self, row_factory: Callable[..., T], sql: str, params: SqlParams = NO_PARAMS, /) -> list[T]:
        """Return all rows, each made by `row_factory` with the columns as keyword arguments."""
        result = self._run(sql, params)
        names = [column[0] for column in result.description or ()]
        return [row_factory(**dict(zip(names, row, strict=True))) for row in result.fetchall()]

    def fetch_one(self, row_factory: Callable[..., T], sql: str, params: SqlParams = NO_PARAMS, /) -> T | None:
        """Return the first row, or None if there is none."""
        return next(iter(self.fetch_all(row_factory, sql, params)), None)


def scalar(**row: T) -> T:
    """Return the only column of a row. For use as a `row_factory`."""
    (only,) = row.values()
    return only
