"""Translation of store errors into the call errors that reach clients."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from mcp_server_claude.errors import ConfigurationError, TemporaryError
from mcp_server_claude.store.transaction import StoreError

if TYPE_CHECKING:
    from collections.abc import Generator

PASSING_KINDS = frozenset({"unreachable", "locked"})
"""Kinds of store errors that can pass without the operator."""


@contextmanager
def store_errors_as(message: str) -> Generator[None]:
    """Raise a store error in the block as the error of a call: `message`, a colon, and the store's sentence.

    Raises:
        TemporaryError: The database is away or locked, which can pass. The store's error is chained.
        ConfigurationError: It has another fault.
    """
    try:
        yield
    except StoreError as error:
        failure = TemporaryError if error.kind in PASSING_KINDS else ConfigurationError
        raise failure(f"{message}: {error}", kind="store") from error
