"""Notifications that a call, a thread or a job has changed, in both protocol eras."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import anyio
import pytest
from mcp.server.subscriptions import ResourcesListChanged, ResourceUpdated
from mcp.shared.exceptions import MCPError
from mcp.types import ResourceListChangedNotification, ResourceUpdatedNotification

from mcp_server_claude.simulator import directive
from support.mcp_session import McpSession, ProtocolMode, connect, http_server_in_loop, usage_meta

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


async def thread_of_first_answer(session: McpSession) -> str:
    return str(usage_meta(await session.ask("One"))["thread"])


async def subscribe(session: McpSession, mode: ProtocolMode, address: str) -> None:
    """Subscribe to a resource; in 2026-07-28 for a moment."""
    if mode == "legacy":
        await session.client.subscribe_resource(address)  # pyright: ignore[reportDeprecated]
    else:
        async with session.client.listen(resource_subscriptions=[address]) as subscription:
            assert subscription.honored.resource_subscriptions == [address]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_client_of_2026_listens_to_a_thread(
    upstream: Simulator, tmp_path: Path, transport: EraTransport
) -> None:
    async with connect(transport, "auto", tmp_path / "data", base_url=upstream.url) as session:
        thread = await thread_of_first_answer(session)
        with anyio.fail_after(60):
            async with session.client.listen(resource_subscriptions=[f"claude://threads/{thread}"]) as subscription:
                await session.ask("Two", thread=thread)
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

    async with connect(
        transport, "legacy", tmp_path / "data", base_url=upstream.url, message_handler=receive
    ) as session:
        capabilities = session.client.server_capabilities
        assert capabilities.resources is not None
        assert capabilities.resources.subscribe is True
        thread = await thread_of_first_answer(session)
        address = f"claude://threads/{thread}"
        await session.client.subscribe_resource(address)  # pyright: ignore[reportDeprecated]
        with anyio.fail_after(60):
            await session.ask("Two", thread=thread)
            await updated.wait()
        await session.client.unsubscribe_resource(address)  # pyright: ignore[reportDeprecated]
        await session.ask("Three", thread=thread)
    assert updates == [address]


async def test_each_item_of_a_job_and_its_end_are_updates_of_its_output(upstream: Simulator, tmp_path: Path) -> None:
    async with connect(
        "memory", "auto", tmp_path / "data", base_url=upstream.url, project_dir=str(tmp_path)
    ) as session:
        started = await session.ask(directive(tokens=60, think=0, pace=60), background=True)
        assert started.meta is not None
        address = f"claude://jobs/{started.meta['mcp-server-claude/job']['id']}/output"
        with anyio.fail_after(60):
            async with session.client.listen(resource_subscriptions=[address]) as subscription:
                events = aiter(subscription)
                assert {getattr(await anext(events), "uri", None) for _ in range(2)} == {address}


async def test_the_resources_of_another_user_cannot_be_subscribed(upstream: Simulator, tmp_path: Path) -> None:
    async with http_server_in_loop(base_url=upstream.url, data_dir=tmp_path / "data") as server:
        ada, bob = await server.token("ada"), await server.token("bob")
        async with server.client(ada) as client:
            result = await client.call_tool("claude_ask", {"prompt": "Mine"})
            assert result.meta is not None
            address = f"claude://threads/{result.meta['mcp-server-claude/usage']['thread']}"
        async with server.client(bob, "legacy") as client:
            with pytest.raises(MCPError, match="no thread"):
                await client.subscribe_resource(address)  # pyright: ignore[reportDeprecated]
        async with server.client(bob) as client:
            with pytest.raises(MCPError, match="no thread"):
                async with client.listen(resource_subscriptions=[address]):
                    pass


@pytest.mark.parametrize(
    "address",
    [
        "claude://nope/1",
        "claude://calls",
        "claude://calls/c_0000000000000000",
        "claude://calls/c_0000000000000000?offset=3",
        "claude://calls/..%2f..%2fx",
        "claude://files/f_0000000000000000",
        "claude://threads/t_0000000000000000",
        "claude://jobs/j_0000000000000000/output",
        "claude://jobs/j_0000000000000000",
        "file:///etc/passwd",
        "",
    ],
)
@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_what_cannot_be_read_cannot_be_subscribed(
    upstream: Simulator, tmp_path: Path, mode: ProtocolMode, address: str
) -> None:
    async with connect("memory", mode, tmp_path / "data", base_url=upstream.url) as session:
        with pytest.raises(MCPError) as of_reading:
            await session.client.read_resource(address)
        with pytest.raises(MCPError) as of_subscribing:
            await subscribe(session, mode, address)
    read, subscribed = of_reading.value.error, of_subscribing.value.error
    assert (subscribed.code, subscribed.message, subscribed.data) == (read.code, read.message, read.data)


@pytest.mark.parametrize("address", ["claude://usage", "claude://models", "ui://claude/panel.html"])
@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_resource_of_every_user_can_be_subscribed(
    upstream: Simulator, tmp_path: Path, mode: ProtocolMode, address: str
) -> None:
    async with connect("memory", mode, tmp_path / "data", base_url=upstream.url) as session:
        await subscribe(session, mode, address)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_client_of_2026_is_notified_of_a_new_thread_and_finds_it_in_the_list(
    upstream: Simulator, tmp_path: Path, transport: EraTransport
) -> None:
    async with connect(transport, "auto", tmp_path / "data", base_url=upstream.url) as session:
        with anyio.fail_after(60):
            async with session.client.listen(resources_list_changed=True, tools_list_changed=True) as subscription:
                assert subscription.honored.resources_list_changed is True
                assert not subscription.honored.tools_list_changed
                thread = await thread_of_first_answer(session)
                assert isinstance(await anext(aiter(subscription)), ResourcesListChanged)
        assert f"claude://threads/{thread}" in await listed_addresses(session)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_client_of_2025_is_notified_of_a_new_thread_once_it_has_read_the_list(
    upstream: Simulator, tmp_path: Path, transport: EraTransport
) -> None:
    changes: list[object] = []
    changed = anyio.Event()

    async def receive(message: Any) -> None:
        if isinstance(message, ResourceListChangedNotification):
            changes.append(message)
            changed.set()

    async with connect(
        transport, "legacy", tmp_path / "data", base_url=upstream.url, message_handler=receive
    ) as session:
        first = await thread_of_first_answer(session)
        assert f"claude://threads/{first}" in await listed_addresses(session)
        await session.ask("Again", thread=first)  # no new thread
        with anyio.fail_after(60):
            second = await thread_of_first_answer(session)
            await changed.wait()
        assert f"claude://threads/{second}" in await listed_addresses(session)
    assert len(changes) == 1


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_only_the_list_of_resources_is_announced_to_change(
    upstream: Simulator, tmp_path: Path, mode: ProtocolMode
) -> None:
    async with connect("memory", mode, tmp_path / "data", base_url=upstream.url) as session:
        capabilities = session.client.server_capabilities
    assert capabilities.resources is not None
    assert capabilities.tools is not None
    assert capabilities.prompts is not None
    changes = [each.list_changed for each in (capabilities.resources, capabilities.tools, capabilities.prompts)]
    assert changes == [True, False, False]


async def test_a_job_and_a_file_that_code_made_are_listed_and_announced(upstream: Simulator, tmp_path: Path) -> None:
    async with connect(
        "memory", "auto", tmp_path / "data", base_url=upstream.url, project_dir=str(tmp_path)
    ) as session:
        with anyio.fail_after(60):
            async with session.client.listen(resources_list_changed=True) as subscription:
                events = aiter(subscription)
                started = await session.ask("One", background=True)
                await anext(events)
                made = await session.ask("Draw. " + directive(code="on", makes="plot.png"), tools=["code"])
                await anext(events)
        assert started.meta is not None
        addresses = await listed_addresses(session)
        assert f"claude://jobs/{started.meta['mcp-server-claude/job']['id']}/output" in addresses
        files = [each for each in (await session.client.list_resources()).resources if "/files/" in str(each.uri)]
        assert [each.name for each in files] == ["plot.png"]
        assert not made.is_error


async def test_nobody_lists_the_resources_of_another_user_or_is_notified_of_them(
    upstream: Simulator, tmp_path: Path
) -> None:
    async with http_server_in_loop(base_url=upstream.url, data_dir=tmp_path / "data") as server:
        ada, bob = await server.token("ada"), await server.token("bob")
        async with server.client(ada) as adas, server.client(bob) as bobs:
            result = await bobs.call_tool("claude_ask", {"prompt": "His"})
            assert result.meta is not None
            thread = result.meta["mcp-server-claude/usage"]["thread"]
            address = f"claude://threads/{thread}"
            with anyio.fail_after(60):
                async with bobs.listen(resources_list_changed=True, resource_subscriptions=[address]) as subscription:
                    await adas.call_tool("claude_ask", {"prompt": "Mine"})
                    await bobs.call_tool("claude_ask", {"prompt": "More", "thread": thread})
                    assert isinstance(await anext(aiter(subscription)), ResourceUpdated)  # and no change before it
            listed = (await bobs.list_resources()).resources
    assert [each.title for each in listed if "/threads/" in str(each.uri)] == ["His"]


async def listed_addresses(session: McpSession) -> list[str]:
    return [str(each.uri) for each in (await session.client.list_resources()).resources]
