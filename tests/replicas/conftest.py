from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.replicas import Replicas, running_replicas

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from mcp_server_claude.simulator import Simulator
    from support.postgres_server import PostgresServer


@pytest.fixture(scope="module")
def module_database_url(postgres_server: PostgresServer) -> Iterator[str]:
    url = postgres_server.create_database()
    yield url
    postgres_server.drop_database(url)


@pytest.fixture(scope="module")
async def replicas(
    module_database_url: str, api: Simulator, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Replicas]:
    """Two servers that the tests of a module share. Tests that end one start their own."""
    home = tmp_path_factory.mktemp("replicas")
    async with running_replicas(home, api.url, module_database_url, max_concurrent_items=4) as running:
        yield running
