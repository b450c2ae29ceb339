"""Random keys that the servers on one database share. The first server that needs one creates it."""

from __future__ import annotations

from secrets import token_hex
from typing import TYPE_CHECKING

from mcp_server_claude.store.transaction import scalar

if TYPE_CHECKING:
    from mcp_server_claude.store.transaction import Transaction

KEY_BYTES = 32

_CREATE = """
insert into shared_key (name, value) values (:name, :value)
on conflict (name) do update set value = shared_key.value returning value
"""


def get_or_create_key(tx: Transaction, name: str) -> str:
    """Return the key of a name in hexadecimal digits, the same for every server. Creates it if it is missing."""
    key = tx.fetch_one(scalar, _CREATE, {"name": name, "value": token_hex(KEY_BYTES)})
    assert key is not None  # noqa: S101 - the statement always returns a row
    return str(key)
