"""The server with the fixtures of the MCP conformance suite, over HTTP: python -m support.conformance_server [PORT].

The suite (npm `@modelcontextprotocol/conformance`) calls tools of given names. Here they run on this package's own
server factory, transport and middleware; only the tools, and the tasks that they make, are fixtures.
"""

from __future__ import annotations

import sys
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import anyio

from mcp_server_claude.server.mcp_server import build_mcp_server
from mcp_server_claude.services.lazy_services import Services
from mcp_server_claude.settings import Settings
from mcp_server_claude.web.http_server import listener_url, open_listener, run_http_server
from support.conformance_fixtures import fixture_tools, register_fixture_prompts, register_fixture_resources
from support.conformance_tasks import FixtureTasks, task_tools

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from anyio.abc import TaskGroup
    from mcp.server.mcpserver import MCPServer

    from mcp_server_claude.server.mcp_server import ServicesLifespan
    from mcp_server_claude.services.service_access import ServiceAccess

FAKE_KEY = "sk-ant-test-0000-not-a-key"


def build_conformance_server(
    task_group: TaskGroup, settings: Settings, services_lifespan: ServicesLifespan
) -> MCPServer[ServiceAccess]:
    """The MCP server with the fixture tools in place of the package's, and with fixture resources and prompts."""
    tasks = FixtureTasks(task_group)
    server = build_mcp_server(settings, services_lifespan, tools=[*task_tools(tasks), *fixture_tools()], tasks=tasks)
    register_fixture_resources(server)
    register_fixture_prompts(server)
    return server


@asynccontextmanager
async def conformance_server(data_dir: Path, port: int = 0) -> AsyncGenerator[str]:
    """The server on a loopback port for as long as the block runs; the URL of its `/mcp`."""
    settings = Settings.model_validate({"api_key": FAKE_KEY, "data_dir": data_dir})
    with open_listener("127.0.0.1", port) as listener:
        async with anyio.create_task_group() as task_group, Services.lifespan(settings, http=True) as services:
            build_server = partial(build_conformance_server, task_group)
            async with run_http_server(settings, services, "127.0.0.1", listener, build_server=build_server):
                yield f"{listener_url(listener)}/mcp"
            task_group.cancel_scope.cancel()


async def _serve_forever(port: int) -> None:
    with TemporaryDirectory() as directory:
        async with conformance_server(Path(directory) / "data", port) as url:
            sys.stdout.write(f"{url}\n")
            sys.stdout.flush()
            await anyio.sleep_forever()


if __name__ == "__main__":
    anyio.run(_serve_forever, int(sys.argv[1]) if len(sys.argv) > 1 else 0)
