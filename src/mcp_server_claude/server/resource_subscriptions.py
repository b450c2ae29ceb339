"""Subscriptions to calls, threads and jobs: `subscriptions/listen` in 2026-07-28, `resources/subscribe` in 2025-11-25.

Only what happens in this process is published. Ownership is checked when a client subscribes; ids are never used again.
(https://modelcontextprotocol.io/specification, as documented by November 2026)
"""

from __future__ import annotations

import logging
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

import anyio
from mcp.server.subscriptions import ResourceUpdated
from mcp.shared.exceptions import MCPError
from mcp.types import INVALID_PARAMS, EmptyResult, SubscribeRequestParams, UnsubscribeRequestParams

from mcp_server_claude.server.protocol_errors import call_errors_as_protocol_errors
from mcp_server_claude.server.tool_dependencies import open_current_request

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

    from mcp.server.connection import Connection
    from mcp.server.context import CallNext, ServerRequestContext
    from mcp.server.mcpserver import MCPServer
    from mcp.server.subscriptions import SubscriptionBus

    from mcp_server_claude.services.service_access import ServiceAccess

ADDRESS = re.compile(r"claude://(calls|threads|jobs)/([^/?]{1,100})(?:/output)?")
MAX_PENDING_UPDATES = 1000
MAX_CONNECTION_SUBSCRIPTIONS = 1000
SEND_TIMEOUT_S = 5.0
"""Seconds that a client of 2025-11-25 may take to accept a notification; then its subscriptions end."""

_log = logging.getLogger(__name__)


class ConnectionSubscriptions:
    """The subscriptions of the connections of 2025-11-25."""

    def __init__(self) -> None:
        self._addresses: WeakKeyDictionary[Connection, set[str]] = WeakKeyDictionary()

    async def add_subscription(
        self, ctx: ServerRequestContext[Any, Any], params: SubscribeRequestParams
    ) -> EmptyResult:
        """Answer `resources/subscribe`."""
        await check_addresses([str(params.uri)])
        addresses = self._addresses.setdefault(_connection(ctx), set())
        if len(addresses) >= MAX_CONNECTION_SUBSCRIPTIONS:
            raise MCPError(INVALID_PARAMS, f"A connection has at most {MAX_CONNECTION_SUBSCRIPTIONS:,} subscriptions.")
        addresses.add(str(params.uri))
        return EmptyResult()

    async def remove_subscription(
        self, ctx: ServerRequestContext[Any, Any], params: UnsubscribeRequestParams
    ) -> EmptyResult:
        """Answer `resources/unsubscribe`."""
        self._addresses.get(_connection(ctx), set[str]()).discard(str(params.uri))
        return EmptyResult()

    async def notify_subscribers(self, address: str) -> None:
        """Notify the connections that have subscribed to an address. One that does not read loses its subscriptions."""
        for connection in [each for each, addresses in self._addresses.items() if address in addresses]:
            with anyio.move_on_after(SEND_TIMEOUT_S) as scope:
                await connection.send_resource_updated(address)  # a closed connection drops it
            if scope.cancelled_caught:
                self._addresses.pop(connection, None)


def register_subscriptions(server: MCPServer[ServiceAccess]) -> ConnectionSubscriptions:
    """Add the handlers of 2025-11-25, for which `MCPServer` has no public way (mcp 2.3)."""
    subscriptions = ConnectionSubscriptions()
    lowlevel = server._lowlevel_server  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
    lowlevel.add_request_handler("resources/subscribe", SubscribeRequestParams, subscriptions.add_subscription)
    lowlevel.add_request_handler("resources/unsubscribe", UnsubscribeRequestParams, subscriptions.remove_subscription)
    return subscriptions


@asynccontextmanager
async def publish_updates(
    services: ServiceAccess, bus: SubscriptionBus, subscriptions: ConnectionSubscriptions
) -> AsyncGenerator[None]:
    """Publish the changes of the services to the clients of both eras, as long as the block runs."""
    updates, queue = anyio.create_memory_object_stream[str](MAX_PENDING_UPDATES)

    def queue_update(address: str) -> None:
        try:
            updates.send_nowait(address)
        except anyio.WouldBlock:
            _log.warning("more than %d resource updates wait; one is left out", MAX_PENDING_UPDATES)

    async def send_updates() -> None:
        async for address in queue:
            await bus.publish(ResourceUpdated(uri=address))
            await subscriptions.notify_subscribers(address)

    async with updates, queue, anyio.create_task_group() as tasks:
        tasks.start_soon(send_updates)
        services.resource_updates.listeners.append(queue_update)
        try:
            yield
        finally:
            services.resource_updates.listeners.remove(queue_update)
            tasks.cancel_scope.cancel()


async def check_listened_addresses(ctx: ServerRequestContext[ServiceAccess, Any], call_next: CallNext) -> Any:
    """Refuse `subscriptions/listen` for what is not the user's."""
    if ctx.method == "subscriptions/listen":
        notifications: object = (ctx.params or {}).get("notifications")
        if isinstance(notifications, dict):
            addresses = cast("dict[str, object]", notifications).get("resourceSubscriptions")
            if isinstance(addresses, list):
                await check_addresses([each for each in cast("list[object]", addresses) if isinstance(each, str)])
    return await call_next(ctx)


async def check_addresses(addresses: Iterable[str]) -> None:
    """Check that the calls, threads and jobs of some addresses belong to the user of the current request.

    Raises:
        MCPError: There is none of that id, or it is another user's.
    """
    request = await open_current_request()
    with call_errors_as_protocol_errors(request.protocol_version):
        for address in addresses:
            match = ADDRESS.fullmatch(address)
            if match is None:  # the models and the usage are every user's
                continue
            kind, identity = match.groups()
            user = request.user.name
            if kind == "calls":
                await request.services.calls.read_call(identity, user)
            elif kind == "threads":
                await request.services.threads.read_transcript(identity, user)
            else:
                await request.services.jobs.read_job(identity, user)


def _connection(ctx: ServerRequestContext[Any, Any]) -> Connection:
    """The connection of a request. Its session is another one in each request."""
    return ctx.session._connection  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
