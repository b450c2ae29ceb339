"""Checks of a PostgreSQL server: its version, the role, encryption, and the time of a round trip."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mcp_server_claude.cli.doctor.finding import Finding
from mcp_server_claude.store.transaction import scalar

if TYPE_CHECKING:
    from mcp_server_claude.store import Store, Transaction

MIN_SERVER_VERSION = 140_000
"""The oldest major version that PostgreSQL still supports (https://www.postgresql.org/support/versioning/)."""
ROUND_TRIPS = 5
SLOW_ROUND_TRIP_MS = 20.0
"""A call makes about twenty round trips, half of them before its answer begins and half after its end."""

_SERVER = """
select current_setting('server_version') as version,
cast(current_setting('server_version_num') as bigint) as version_number,
case when (select rolsuper from pg_roles where rolname = current_user) then 1 else 0 end as is_superuser,
case when inet_server_addr() is null then 1 else 0 end as is_local,
case when (select ssl from pg_stat_ssl where pid = pg_backend_pid()) then 1 else 0 end as is_encrypted,
case when has_schema_privilege(current_schema(), 'CREATE') then 1 else 0 end as can_create,
(select count(*) from pg_stat_activity where datname = current_database()) as connections,
cast(current_setting('max_connections') as bigint) as max_connections
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """Facts of the server and of this connection to it. Truth values are 0 and 1."""

    version: str
    version_number: int
    is_superuser: int
    is_local: int
    is_encrypted: int
    can_create: int
    connections: int
    max_connections: int


async def check_postgres(store: Store) -> Finding:
    """Check the server of a store that could be opened.

    Raises:
        StoreError: The server failed.
    """
    facts = await store.read(_read_facts)
    began = time.perf_counter()
    for _ in range(ROUND_TRIPS):
        await store.read(_read_one)
    # A transaction is two round trips: its beginning with the statement, and its end.
    round_trip_ms = (time.perf_counter() - began) / ROUND_TRIPS / 2 * 1000
    text = (
        f"PostgreSQL {facts.version}, {round_trip_ms:.1f} ms a round trip, "
        f"{facts.connections} connections to this database, {facts.max_connections} allowed on the server"
    )
    for is_wrong, problem, hint in (
        (facts.version_number < MIN_SERVER_VERSION, "the server is too old", "Use PostgreSQL 14 or newer."),
        (not facts.can_create, "the role may not create tables", "Grant it CREATE on its schema, for migrations."),
        (facts.is_superuser, "the role is a superuser", "Use a role that owns this database only."),
        (
            not (facts.is_local or facts.is_encrypted),
            "the connection is not encrypted",
            "Add ?sslmode=verify-full&sslrootcert=… to MCP_CLAUDE_DATABASE_URL.",
        ),
        (round_trip_ms > SLOW_ROUND_TRIP_MS, "the server is far away", "Run it in the same network as this server."),
    ):
        if is_wrong:
            return Finding(name="ledger", ok=None, text=f"{text}; {problem}", hint=hint)
    return Finding(name="ledger", ok=True, text=text)


def _read_facts(tx: Transaction) -> ServerFacts:
    facts = tx.fetch_one(ServerFacts, _SERVER)
    assert facts is not None  # noqa: S101 - the statement has one row
    return facts


def _read_one(tx: Transaction) -> int | None:
    return tx.fetch_one(scalar, "select 1 as one")
