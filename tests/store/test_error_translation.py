"""Store errors as the errors of calls: a client may try again while the database is only away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mcp_server_claude.errors import CallError, ConfigurationError, TemporaryError
from mcp_server_claude.store import StoreError, store_errors_as

if TYPE_CHECKING:
    from mcp_server_claude.store.transaction import StoreErrorKind


@pytest.mark.parametrize(
    ("kind", "expected", "retryable"),
    [
        ("unreachable", TemporaryError, True),
        ("locked", TemporaryError, True),
        ("full", ConfigurationError, False),
        ("read_only", ConfigurationError, False),
        ("damaged", ConfigurationError, False),
        ("schema", ConfigurationError, False),
    ],
)
def test_a_client_may_repeat_a_call_while_the_database_is_away(
    kind: StoreErrorKind,
    expected: type[CallError],
    retryable: bool,  # noqa: FBT001
) -> None:
    with pytest.raises(expected) as raised, store_errors_as("The users could not be read"):
        raise StoreError("It is so.", kind=kind)
    assert str(raised.value) == "The users could not be read: It is so."
    assert raised.value.kind == "store"
    assert raised.value.as_json()["retryable"] is retryable
