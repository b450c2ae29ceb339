"""Notifications that a call, a thread or a job has changed, in both protocol eras."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import anyio
import pytest
from mcp.shared.exceptions import MCPError
from mcp.types import ResourceUpdatedNotification

from mcp_server_claude.simulator import directive
from support.mcp_session import McpSession, connect, http_server_in_loop, usage_meta

if TYPE_CHECKING:
    from pathlib import Path

    from mcp_server_claude.simulator import Simulator

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:resources/subscribe is removed"),
    pytest.mark.filterwarnings("ignore:resources/unsubscribe is removed"),
]
EraTransport = Literal["memory", "stdio", "http"]
TRANSPORTS: tuple[EraTransport, ...] = ("memory", "stdio", "http")


async def thread_of_first_answer(desk: McpSession) -> str:
    return str(usage_meta(await desk.ask("One"))["thread"])


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_client_of_2026_listens_to_a_thread(
    upstream: Simulator, tmp_path: Path, transport: EraTransport
) -> None:
    async with connect(transport, "auto", tmp_path / "data", base_url=upstream.url) as desk:
        thread = await thread_of_first_answer(desk)
        with anyio.fail_after(60):
            async with desk.client.listen(resource_subscriptions=[f"claude://threads/{thread}"]) as subscription:
                await desk.ask("Two", thread=thread)
                event = await anext(aiter(subscription))
    assert getattr(event, "uri", None) == f"claude://threads/{thread}"


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_client_of_2025_subscribes_to_a_thread(
    upstream: Simulator, tmp_path: Path, transport: EraTransport
) -> None:
    updates: list[str] = []
    updated = anyio.Event()

    async def receive(message: Any) -> None:
        if isinstance(message, ResourceUpdatedNotification):
            updates.append(str(message.params.uri))
            updated.set()

    async with connect(transport, "legacy", tmp_path / "data", base_url=upstream.url, message_handler=receive) as desk:
        capabilities = desk.client.server_capabilities
        assert capabilities.resources is not None
        assert capabilities.resources.subscribe is True
        thread = await thread_of_first_answer(desk)
        address = f"claude://threads/{thread}"
        await desk.client.subscribe_resource(address)  # pyright: ignore[reportDeprecated]
        with anyio.fail_after(60):
            await desk.ask("Two", thread=thread)
            await updated.wait()
        await desk.client.unsubscribe_resource(address)  # pyright: ignore[reportDeprecated]
        await desk.ask("Three", thread=thread)
    assert updates == [address]


async def test_each_item_of_a_job_and_its_end_are_updates_of_its_output(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url, project_dir=str(tmp_path)) as desk:
        started = await desk.ask(directive(tokens=60, pace=60), background=True)
        assert started.meta is not None
        address = f"claude://jobs/{started.meta['mcp-server-claude/job']['id']}/output"
        with anyio.fail_after(60):
            async with desk.client.listen(resource_subscriptions=[address]) as subscription:
                events = aiter(subscription)
                assert {getattr(await anext(events), "uri", None) for _ in range(2)} == {address}


async def test_the_resources_of_another_user_cannot_be_subscribed(upstream: Simulator, tmp_path: Path) -> None:
    async with http_server_in_loop(base_url=upstream.url, data_dir=tmp_path / "data") as door:
        ada, bob = await door.token("ada"), await door.token("bob")
        async with door.client(ada) as client:
            result = await client.call_tool("claude_ask", {"prompt": "Mine"})
            assert result.meta is not None
            address = f"claude://threads/{result.meta['mcp-server-claude/usage']['thread']}"
        async with door.client(bob, "legacy") as client:
            with pytest.raises(MCPError, match="no thread"):
                await client.subscribe_resource(address)  # pyright: ignore[reportDeprecated]
        async with door.client(bob) as client:
            with pytest.raises(MCPError, match="no thread"):
                async with client.listen(resource_subscriptions=[address]):
                    pass
