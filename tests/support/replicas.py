"""Several server processes on one PostgreSQL database, behind a proxy that sends each request to the next one."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from psycopg.rows import dict_row

from mcp_server_claude.settings import Settings
from mcp_server_claude.store import Store
from mcp_server_claude.users.tokens_and_sessions import UserDirectory
from support.http_server import HttpServerProcess, RunningHttpServer, http_server_process
from support.round_robin_proxy import RoundRobinProxy, round_robin_proxy

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence
    from pathlib import Path

    from mcp.client.session import ElicitationFnT

    from mcp_server_claude.store.user_rows import UserChanges

Row = dict[str, Any]


@dataclass(frozen=True)
class Replicas(RunningHttpServer):
    """Servers behind a proxy, whose `url` this is. `servers` are the processes, each with a URL of its own."""

    proxy: RoundRobinProxy = field(kw_only=True)
    servers: Sequence[HttpServerProcess] = field(kw_only=True)
    database_url: str = field(kw_only=True)

    def rows(self, sql: str, *values: object) -> list[Row]:
        """Rows of the database, as another program sees them."""
        with psycopg.connect(self.database_url) as connection, connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(sql.encode(), values).fetchall()

    def direct(self, number: int) -> RunningHttpServer:
        """One of the servers, without the proxy."""
        return RunningHttpServer(self.servers[number].url, self.tokens)


async def add_users(
    database_url: str, data_dir: Path, users: Sequence[str], changes: Mapping[str, UserChanges] | None = None
) -> dict[str, str]:
    """Add users to a database. Returns their tokens by name."""
    store = Store.open(data_dir, database_url)
    directory = UserDirectory(Settings(data_dir=data_dir), store)
    tokens = {name: (await directory.add_user(name, (changes or {}).get(name)))[1] for name in users}
    await store.close()
    return tokens


@asynccontextmanager
async def running_replicas(
    home: Path,
    upstream: str,
    database_url: str,
    *,
    count: int = 2,
    users: Sequence[str] = ("ada", "bob"),
    changes: Mapping[str, UserChanges] | None = None,
    database_urls: Sequence[str] = (),
    **fields: Any,
) -> AsyncGenerator[Replicas]:
    """Run servers on a database that exists; `database_urls` are other ways to it, one for each server."""
    tokens = await add_users(database_url, home / "users", users, changes)
    async with AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(
                http_server_process(
                    home / f"data-{number}",
                    upstream,
                    name=f"replica-{number}",
                    database_url=database_urls[number] if database_urls else database_url,
                    **fields,
                )
            )
            for number in range(count)
        ]
        proxy = await stack.enter_async_context(round_robin_proxy([server.url for server in servers]))
        yield Replicas(proxy.url, tokens, proxy=proxy, servers=servers, database_url=database_url)


@asynccontextmanager
async def mcp_client(
    server: RunningHttpServer, user: str = "ada", elicitation_callback: ElicitationFnT | None = None
) -> AsyncGenerator[Client]:
    """An MCP client of 2026-07-28 at the proxy, or at one of the servers. With a callback it can ask its user."""
    async with (
        create_mcp_http_client(headers={"Authorization": f"Bearer {server.tokens[user]}"}) as http,
        Client(
            streamable_http_client(f"{server.url}/mcp", http_client=http),
            mode="auto",
            elicitation_callback=elicitation_callback,
        ) as client,
    ):
        yield client
