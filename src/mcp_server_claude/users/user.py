"""Users as every other module knows them: a name, a role and limits. Imports neither the store nor the token code."""

from __future__ import annotations

from dataclasses import field
from typing import Literal, TypeAlias

from mcp_server_claude.call_types import Limits
from mcp_server_claude.frozen_dataclass import frozen_dataclass

Role: TypeAlias = Literal["user", "operator"]
"""An operator sees the usage of all users. No role reads another user's conversations."""


@frozen_dataclass(kw_only=True)
class User:
    """A user, by the name that the ledger records."""

    name: str
    role: Role = "user"
    limits: Limits = field(default_factory=Limits)


LOCAL = User(name="local", role="operator")
"""The user of a stdio server, and of a loopback HTTP server that has no users."""
