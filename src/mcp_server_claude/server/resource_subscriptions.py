"""Subscriptions to calls, threads, jobs and the list of resources: by `subscriptions/listen` in 2026-07-28.

In 2025-11-25 clients use `resources/subscribe`, and are notified of changes of the list once they have read it.
Only what happens in this process is published. Ownership is checked when a client subscribes; ids are never used again.
(https://modelcontextprotocol.io/specification, as documented by November 2026)
"""

from __future__ import annotations

import logging
import re
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

import anyio
from mcp.server.mcpserver.resources.templates import ResourceSecurityError
from mcp.server.subscriptions import InMemorySubscriptionBus, ResourcesListChanged, ResourceUpdated
from mcp.shared.exceptions import MCPError
from mcp.types import INVALID_PARAMS, EmptyResult, SubscribeRequestParams, UnsubscribeRequestParams

from mcp_server_claude.calls.resource_updates import ResourceChange
from mcp_server_claude.server.protocol_errors import call_errors_as_protocol_errors, resource_not_found_code
from mcp_server_claude.server.tool_dependencies import current_request, open_current_request, user_for_request

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable

    from mcp.server.connection import Connection
    from mcp.server.context import CallNext, ServerRequestContext
    from mcp.server.mcpserver import MCPServer
    from mcp.server.mcpserver.resources import ResourceManager
    from mcp.server.subscriptions import ServerEvent

    from mcp_server_claude.calls.resource_updates import ResourceEvent
    from mcp_server_claude.server.tool_dependencies import CurrentRequest
    from mcp_server_claude.services.service_access import ServiceAccess

ADDRESS = re.compile(r"claude://(calls|threads|jobs|files)/([^/?]{1,100})(?:/output)?(?:\?.*)?")
MAX_PENDING_UPDATES = 1000
MAX_CONNECTION_SUBSCRIPTIONS = 1000
CHANGES_THAT_NEVER_HAPPEN = frozenset({"toolsListChanged", "promptsListChanged"})
HANDSHAKE_METHODS = frozenset({"initialize", "server/discover"})
SEND_TIMEOUT_S = 5.0
"""Seconds that a client of 2025-11-25 may take to accept a notification; then its subscriptions end."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class UserResourcesListChanged(ResourcesListChanged):
    """The list of a user's resources has changed."""

    user: str


class UserSubscriptionBus(InMemorySubscriptionBus):
    """The events for the streams of 2026-07-28. A change of a user's list goes to the streams of that user alone."""

    @property
    def has_streams(self) -> bool:
        """True if a client listens."""
        return bool(self._listeners)

    def subscribe(self, listener: Callable[[ServerEvent], None]) -> Callable[[], None]:
        """Add the stream of the request that is being answered. Returns a function that removes it."""
        user = current_request().user.name

        def deliver(event: ServerEvent) -> None:
            if not isinstance(event, UserResourcesListChanged) or event.user == user:
                listener(event)

        return super().subscribe(deliver)


class ConnectionSubscriptions:
    """The subscriptions of the connections of 2025-11-25, and the addresses to which clients of both eras subscribe.

    `resources` are those of the server that has them.
    """

    def __init__(self) -> None:
        self.resources: ResourceManager | None = None
        self._addresses: WeakKeyDictionary[Connection, set[str]] = WeakKeyDictionary()
        self._list_readers: WeakKeyDictionary[Connection, str] = WeakKeyDictionary()

    async def add_subscription(
        self, ctx: ServerRequestContext[Any, Any], params: SubscribeRequestParams
    ) -> EmptyResult:
        """Answer `resources/subscribe`."""
        await self._check_addresses([str(params.uri)])
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

    async def check_listened_addresses(self, ctx: ServerRequestContext[ServiceAccess, Any], call_next: CallNext) -> Any:
        """Refuse `subscriptions/listen` for what does not exist or is not the user's, as middleware.

        It also acknowledges no change that never happens.
        """
        notifications: object = (ctx.params or {}).get("notifications")
        if ctx.method == "subscriptions/listen" and isinstance(notifications, dict):
            wanted = cast("dict[str, object]", notifications)
            addresses = wanted.get("resourceSubscriptions")
            if isinstance(addresses, list):
                await self._check_addresses([each for each in cast("list[object]", addresses) if isinstance(each, str)])
            offered = {kind: value for kind, value in wanted.items() if kind not in CHANGES_THAT_NEVER_HAPPEN}
            ctx = replace(ctx, params={**(ctx.params or {}), "notifications": offered})
        return await call_next(ctx)

    async def _check_addresses(self, addresses: Iterable[str]) -> None:
        """Check that some addresses can be read: they are the server's, and what they name is the user's.

        Raises:
            MCPError: There is no such resource, or it is another user's.
        """
        request = await open_current_request()
        for address in addresses:
            if not self._is_resource(address):  # the SDK's words, and its data, for one that is read
                code = resource_not_found_code(request.protocol_version)
                raise MCPError(code, f"Unknown resource: {address}", {"uri": address})
            if (match := ADDRESS.fullmatch(address)) is not None:  # the models and the usage are every user's
                with call_errors_as_protocol_errors(request.protocol_version):
                    await _check_owner(request, *match.groups())

    def _is_resource(self, address: str) -> bool:
        """True if the server has a resource, or a template, of an address."""
        assert self.resources is not None  # noqa: S101 - `register_subscriptions` sets it
        if any(str(each.uri) == address for each in self.resources.list_resources()):
            return True
        with suppress(ResourceSecurityError):
            return any(each.matches(address) is not None for each in self.resources.list_templates())
        return False

    def has_reader_of(self, event: ResourceEvent) -> bool:
        """True if a connection may have subscribed to a change."""
        return bool(self._addresses if isinstance(event, ResourceChange) else self._list_readers)

    async def notify_subscribers(self, address: str) -> None:
        """Notify the connections that have subscribed to an address. One that does not read loses its subscriptions."""
        for connection in [each for each, addresses in self._addresses.items() if address in addresses]:
            await self._notify(connection, connection.send_resource_updated(address))

    async def record_list_reader(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> Any:
        """Remember that a connection has read the list of its user's resources, as middleware."""
        if ctx.method == "resources/list":
            self._list_readers[_connection(ctx)] = user_for_request(ctx.request).name
        return await call_next(ctx)

    async def notify_list_readers(self, user: str) -> None:
        """Notify the connections that have read the list of a user's resources."""
        for connection in [each for each, reader in self._list_readers.items() if reader == user]:
            await self._notify(connection, connection.send_resource_list_changed())

    async def _notify(self, connection: Connection, notification: Awaitable[None]) -> None:
        with anyio.move_on_after(SEND_TIMEOUT_S) as scope:
            await notification  # a closed connection drops it
        if scope.cancelled_caught:
            self._addresses.pop(connection, None)
            self._list_readers.pop(connection, None)


def register_subscriptions(server: MCPServer[ServiceAccess], subscriptions: ConnectionSubscriptions) -> None:
    """Add the handlers of 2025-11-25, for which `MCPServer` has no public way (mcp 2.3)."""
    subscriptions.resources = server._resource_manager  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
    lowlevel = server._lowlevel_server  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
    lowlevel.add_request_handler("resources/subscribe", SubscribeRequestParams, subscriptions.add_subscription)
    lowlevel.add_request_handler("resources/unsubscribe", UnsubscribeRequestParams, subscriptions.remove_subscription)


@asynccontextmanager
async def publish_updates(
    services: ServiceAccess, bus: UserSubscriptionBus, subscriptions: ConnectionSubscriptions
) -> AsyncGenerator[None]:
    """Publish the changes of the services to the clients of both eras, as long as the block runs."""
    updates, queue = anyio.create_memory_object_stream["ResourceEvent"](MAX_PENDING_UPDATES)

    def queue_update(event: ResourceEvent) -> None:
        if not bus.has_streams and not subscriptions.has_reader_of(event):
            return  # each call has three changes
        try:
            updates.send_nowait(event)
        except anyio.WouldBlock:
            _log.warning("more than %d resource updates wait; one is left out", MAX_PENDING_UPDATES)

    async def send_updates() -> None:
        async for event in queue:
            if isinstance(event, ResourceChange):
                await bus.publish(ResourceUpdated(uri=event.address))
                await subscriptions.notify_subscribers(event.address)
            else:
                await bus.publish(UserResourcesListChanged(event.user))
                await subscriptions.notify_list_readers(event.user)

    async with updates, queue, anyio.create_task_group() as tasks:
        tasks.start_soon(send_updates)
        services.resource_updates.listeners.append(queue_update)
        try:
            yield
        finally:
            services.resource_updates.listeners.remove(queue_update)
            tasks.cancel_scope.cancel()


async def announce_list_changes(ctx: ServerRequestContext[ServiceAccess, Any], call_next: CallNext) -> Any:
    """Announce in the handshake that the list of resources changes, and those of tools and prompts do not.

    `MCPServer` announces all three in 2026-07-28 and none in 2025-11-25, and has no setting for it (mcp 2.3).
    """
    result = await call_next(ctx)
    if ctx.method in HANDSHAKE_METHODS and isinstance(result, dict):
        capabilities = cast("dict[str, dict[str, dict[str, object]]]", result)["capabilities"]
        for kind in ("tools", "prompts", "resources"):
            if kind in capabilities:
                capabilities[kind]["listChanged"] = kind == "resources"
    return cast("object", result)


async def _check_owner(request: CurrentRequest, kind: str, identity: str) -> None:
    """Check that a call, thread, job or file belongs to the user of the current request.

    Raises:
        CallError: There is none of that id, or it is another user's.
    """
    services, user = request.services, request.user.name
    match kind:
        case "calls":
            await services.calls.read_call(identity, user)
        case "threads":
            await services.threads.read_transcript(identity, user)
        case "files":
            await services.output_files.find_file(identity, user)
        case _:
            await services.jobs.read_job(identity, user)


def _connection(ctx: ServerRequestContext[Any, Any]) -> Connection:
    """The connection of a request. Its session is another one in each request."""
    return ctx.session._connection  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
