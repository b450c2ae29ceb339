"""What a store operation sees of a database: SQL with named `:parameters`, the same text on every backend.

Statements keep to what SQLite and PostgreSQL share: ON CONFLICT, RETURNING, FILTER, partial indexes; no functions of
one of them alone. Time comes in as unix seconds, money as integer micro-dollars, truth as 0 and 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal, Protocol, TypeAlias, TypeVar

SqlValue: TypeAlias = str | int | float | None
SqlParams: TypeAlias = Mapping[str, SqlValue]
T = TypeVar("T")

NO_PARAMS: SqlParams = MappingProxyType({})

StoreErrorKind: TypeAlias = Literal["full", "locked", "io", "damaged", "read_only", "closed", "bug"]
"""Why the store could not do what it was asked; `bug` is ours, the others are the machine's."""


class StoreError(Exception):
    """The store could not do what it was asked. `str(error)` is one sentence; the database's own error is chained."""

    def __init__(self, message: str, *, kind: StoreErrorKind = "bug") -> None:
        super().__init__(message)
        self.kind: StoreErrorKind = kind


class Transaction(Protocol):
    """A transaction that is open. What a job raises undoes that job, and nothing of its neighbours."""

    def execute(self, sql: str, params: SqlParams = NO_PARAMS, /) -> int:
        """Execute a statement; how many rows it changed."""
        ...

    def fetch_all(self, row_factory: Callable[..., T], sql: str, params: SqlParams = NO_PARAMS, /) -> list[T]:
        """Every row, each made by calling `shape` with the columns as keyword arguments."""
        ...

    def fetch_one(self, row_factory: Callable[..., T], sql: str, params: SqlParams = NO_PARAMS, /) -> T | None:
        """The first row, or None where there is none."""
        ...


def scalar(**row: T) -> T:
    """A shape for rows of one column: just its value."""
    (only,) = row.values()
    return only
