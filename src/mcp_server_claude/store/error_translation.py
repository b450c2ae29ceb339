"""Translation of store errors into the call errors that reach clients."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from mcp_server_claude.errors import ConfigurationError
from mcp_server_claude.store.transaction import StoreError

if TYPE_CHECKING:
    from collections.abc import Generator


@contextmanager
def store_errors_as(message: str) -> Generator[None]:
    """Raise a store error in the block as a configuration error: `message`, a colon, and the store's sentence.

    Raises:
        ConfigurationError: The block raised `StoreError`, which is chained.
    """
    try:
        yield
    except StoreError as error:
        raise ConfigurationError(f"{message}: {error}", kind="store") from error
