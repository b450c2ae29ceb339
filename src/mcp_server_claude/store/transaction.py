"""Transactions as store operations see them: SQL with named `:parameters`, the same text on every backend.

Statements use only what SQLite and PostgreSQL share: ON CONFLICT, RETURNING, FILTER, partial indexes, and no function
that one of them lacks. Times are unix seconds, amounts are integer micro-dollars, and truth values are 0 and 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, Protocol, TypeAlias, TypeVar

from mcp_server_claude.frozen_dataclass import frozen_dataclass

SqlValue: TypeAlias = str | int | float | None
SqlParams: TypeAlias = Mapping[str, SqlValue]
Statement: TypeAlias = tuple[str, SqlParams]
"""A statement and its parameters."""
T = TypeVar("T")
U = TypeVar("U")
Query: TypeAlias = tuple[Callable[..., T], str, SqlParams]
"""The arguments of `Transaction.fetch_all`."""

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


class SharedTransactionError(Exception):
    """The operations of a transaction cannot share it: one needs the result of what is done at its end."""


@frozen_dataclass()
class SharedRowChange:
    """A statement that changes a row which the transactions of other servers change too.

    `lock_order` is the row's place in the order in which all transactions lock such rows. `is_required`: the statement
    has a condition, and nothing may be committed where it is not met.
    """

    lock_order: tuple[Any, ...]
    statement: Statement
    is_required: bool = False


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
        self._deferred: list[SharedRowChange] | None = None

    def execute(self, sql: str, params: SqlParams = NO_PARAMS, /) -> int:
        """Execute a statement and return the number of rows that it changed."""
        return self._run(sql, params).rowcount

    def execute_all(self, statements: Sequence[Statement], /) -> None:
        """Execute statements in their order, of which nobody needs a result.

        A database server gets them in one round trip with the next statement that has a result, or with the commit,
        which then also raises their errors. So the rows that they lock are locked briefly.
        """
        for sql, params in statements:
            self._run(sql, params)

    def note_large_text(self) -> None:
        """Note that a text of many pages is written: a database in this process need not keep them in its cache."""

    def count_changes(self, statements: Sequence[Statement], /) -> list[int]:
        """Execute statements in their order, in one round trip, and return the number of rows that each has changed.

        None of the statements returns rows.
        """
        return [result.rowcount for result in self._run_each(statements)]

    def change_shared_rows(self, changes: Sequence[SharedRowChange], own_rows: Sequence[Statement] = ()) -> bool:
        """Execute the statements for `own_rows`, which no other transaction changes, and then `changes` in their order.

        Returns True, or False if nothing was done because a required change is not possible. Where several operations
        share the transaction, the changes are made at its end.

        Raises:
            SharedTransactionError: That is known at the end, and each operation has to run in its own transaction.
        """
        if self._deferred is not None:
            self.execute_all(own_rows)
            self._deferred.extend(changes)
            return True
        ordered = sorted(changes, key=lambda change: change.lock_order)
        statements = [change.statement for change in ordered]
        if not any(change.is_required for change in ordered):
            self.execute_all([*own_rows, *statements])
            return True
        counts = self.count_changes([("savepoint shared_rows", NO_PARAMS), *own_rows, *statements])
        counts = counts[len(counts) - len(ordered) :]
        if any(change.is_required and not count for change, count in zip(ordered, counts, strict=True)):
            self.execute("rollback to shared_rows")
            return False
        return True

    def require_own_transaction(self) -> None:
        """Return if the operation has the transaction to itself.

        Raises:
            SharedTransactionError: It has not, and has to run again in one of its own.
        """
        if self._deferred is not None:
            raise SharedTransactionError

    def run_together(self, operations: Sequence[Callable[[Transaction], T]]) -> list[T]:
        """Run operations, and at the end the changes of shared rows of all of them: so no row is locked before one
        that comes earlier in the order, and all are locked briefly.

        Raises:
            SharedTransactionError: One cannot share the transaction.
        """
        changes: list[SharedRowChange] = []
        self._deferred = changes
        try:
            results = [operation(self) for operation in operations]
        finally:
            self._deferred = None
        if not self.change_shared_rows(changes):
            raise SharedTransactionError
        return results

    def fetch_all(self, row_factory: Callable[..., T], sql: str, params: SqlParams = NO_PARAMS, /) -> list[T]:
        """Return all rows, each made by `row_factory` with the columns as keyword arguments."""
        return _rows_of(self._run(sql, params), row_factory)

    def fetch_both(self, first: Query[T], second: Query[U], /) -> tuple[list[T], list[U]]:
        """Return what `fetch_all` returns for two queries, in one round trip."""
        one, other = self._run_each([first[1:], second[1:]])
        return _rows_of(one, first[0]), _rows_of(other, second[0])

    def fetch_one(self, row_factory: Callable[..., T], sql: str, params: SqlParams = NO_PARAMS, /) -> T | None:
        """Return the first row, or None if there is none."""
        return next(iter(self.fetch_all(row_factory, sql, params)), None)

    def _run_each(self, statements: Sequence[Statement]) -> Sequence[StatementResult]:
        return [self._run(sql, params) for sql, params in statements]


def _rows_of(result: StatementResult, row_factory: Callable[..., T]) -> list[T]:
    names = [column[0] for column in result.description or ()]
    return [row_factory(**dict(zip(names, row, strict=True))) for row in result.fetchall()]


def scalar(**row: T) -> T:
    """Return the only column of a row. For use as a `row_factory`."""
    (only,) = row.values()
    return only
