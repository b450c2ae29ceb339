"""The HTTP server: where it listens, for whom, and how it ends without cutting anyone.

uvicorn is left to speak HTTP. Its own end, with sse-starlette's, cuts the event streams of MCP 2025-11-25 half a second
after SIGTERM, and hangs on a stream of 2026-07-28 that nobody closes; here what is in flight finishes in both.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import signal
import socket
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, cast

import anyio
import uvicorn
from sse_starlette.sse import AppStatus

from mcp_server_claude.errors import ConfigurationError
from mcp_server_claude.services.lazy_services import Services
from mcp_server_claude.web import fastapi_app
from mcp_server_claude.web.client_timeouts import ServerConfig

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator
    from types import FrameType

    from fastapi import FastAPI

    from mcp_server_claude.settings import Settings
    from mcp_server_claude.web.routes.mcp import McpEndpoint

SHUTDOWN_GRACE_S = 1.0
"""Seconds for those who are cut short to be told so."""
POLL_INTERVAL_S = 0.02
BACKLOG = 2048
WILDCARD_HOSTS = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - compared, and listened on only where the operator says so


def serve_http(
    settings: Settings, host: str, port: int, *, announce: Callable[[str], None], insecure: bool = False
) -> int:
    """Serve until SIGINT or SIGTERM; `announce` is told where. The exit code.

    It is 0 when everything that was begun had ended, 128 and the signal's number when something was cut, because it
    took longer than `drain_s` or a second signal came.

    Raises:
        ConfigurationError: It cannot listen there, or must not: nobody has to sign in and others could reach it,
        or who has
            to cannot be known.
    """
    with open_listener(host, port) as listener:
        ended = anyio.run(_serve_until_signal, settings, host, listener, announce, insecure)
    if isinstance(ended, ConfigurationError):
        raise ended
    return ended


async def _serve_until_signal(
    settings: Settings,
    host: str,
    listener: socket.socket,
    announce: Callable[[str], None],
    insecure: bool,  # noqa: FBT001 - anyio.run passes no names
) -> int | ConfigurationError:
    """The exit code, or why it must not listen there: raised in here it would come out as an exception group."""
    async with Services.lifespan(settings, http=True) as services:
        try:
            for_anybody = await allows_anonymous(settings, services)
        except ConfigurationError as failure:
            return failure
        if for_anybody and not insecure and not is_loopback(host):
            return ConfigurationError(
                f"There are no users, so whoever reaches {host or 'this machine'} could spend your money: without "
                "users the server listens only on this machine (127.0.0.1). Add one (`mcp-server-claude user add "
                "NAME`), or say --insecure to let everybody in.",
                kind="insecure",
            )
        async with run_http_server(settings, services, host, listener, insecure=insecure) as server:
            url = settings.public_url.rstrip("/") or listener_url(listener)
            announce(f"mcp-server-claude listens on {url}  (Ctrl-C ends it)")
            token = "" if for_anybody else ' --header "Authorization: Bearer YOUR-TOKEN"'
            announce(f"Claude Code: claude mcp add --transport http claude {url}/mcp{token}")
            with _signal_handlers(server):
                await server.shutdown_complete.wait()
    return 128 + server.exit_signal if server.has_aborted_requests else 0


async def allows_anonymous(settings: Settings, services: Services) -> bool:
    """Whether nobody has to say who they are.

    Raises:
        ConfigurationError: It cannot be known, since the ledger cannot be read.
    """
    return not await (await services.users()).has_users() and not settings.oidc_issuer


@asynccontextmanager
async def run_http_server(
    settings: Settings, services: Services, host: str, listener: socket.socket, *, insecure: bool = False
) -> AsyncGenerator[HttpServer]:
    """Serve the app while the block runs; its end waits for what is in flight."""
    built = fastapi_app.build_app(settings, services, host=host, insecure=insecure)
    AppStatus.disable_automatic_graceful_drain()  # else it cuts every event stream as soon as uvicorn is to end
    async with built.router.lifespan_context(built), anyio.create_task_group() as tasks:
        server = HttpServer(settings, built)
        tasks.start_soon(server.serve, [listener])
        await server.startup_complete.wait()
        try:
            yield server
        finally:
            server.request_exit()
            with anyio.CancelScope(shield=True):
                await server.shutdown_complete.wait()


class HttpServer(uvicorn.Server):
    """uvicorn's server with an end of our own."""

    def __init__(self, settings: Settings, built: FastAPI) -> None:
        super().__init__(ServerConfig(built, settings))
        self.app = built
        self.startup_complete, self.shutdown_complete = anyio.Event(), anyio.Event()
        self.exit_signal, self.has_aborted_requests = 0, False
        self._draining = cast("anyio.Event", built.state.draining)
        self._mcp = cast("McpEndpoint", built.state.mcp)
        self._drain_s = settings.drain_s
        self._drain_scope = anyio.CancelScope()
        self._exit_requested = anyio.Event()

    def request_exit(self) -> None:
        """Take no more requests, and end when those in flight are done. Said twice: end at once."""
        if self.should_exit:
            self._drain_scope.cancel()
        self.should_exit = True
        self._exit_requested.set()

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Nothing: signals are `serve`'s, and a server in a test has none."""
        yield

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until told to end."""
        try:
            await super().serve(sockets)
        finally:
            self.startup_complete.set()
            self.shutdown_complete.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        self.startup_complete.set()

    async def main_loop(self) -> None:
        """Keep the Date header right, once a second (uvicorn wakes up ten times), until told to end."""
        while not await self.on_tick(0):
            with anyio.move_on_after(1):
                await self._exit_requested.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End: first who is being answered, then who only waits for news; whoever is left is hung up on."""
        del sockets  # `self.servers` listen on them
        for listener in self.servers:
            listener.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()  # at once where it is idle, else after its answer
        self._mcp.close_subscriptions()
        self.has_aborted_requests = True
        with self._drain_scope, anyio.move_on_after(self._drain_s):
            await self._wait_for_requests(lambda: self._mcp.idle_stream_count)
            self.has_aborted_requests = False
        self._draining.set()
        self._mcp.close_idle_streams()
        with anyio.move_on_after(POLL_INTERVAL_S if self._drain_scope.cancel_called else SHUTDOWN_GRACE_S):
            await self._wait_for_requests(lambda: 0)
        for connection in list(self.server_state.connections):
            connection.transport.abort()  # to the app they have gone, so what it does for them ends in order
        with anyio.move_on_after(SHUTDOWN_GRACE_S):
            await self._wait_for_requests(lambda: 0)

    async def _wait_for_requests(self, allowed: Callable[[], int]) -> None:
        """Wait until no more requests than that are being answered."""
        while len(self.server_state.tasks) > allowed():  # noqa: ASYNC110 - uvicorn tells nobody when one is done
            await anyio.sleep(POLL_INTERVAL_S)


def open_listener(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0 is any that is free. `::` is every address, of both kinds.

    Raises:
        ConfigurationError: It cannot, e.g. because another process does.
    """
    try:
        family = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        both = family == socket.AF_INET6 and host == "::" and socket.has_dualstack_ipv6()
        return socket.create_server((host, port), family=family, backlog=BACKLOG, dualstack_ipv6=both)
    except socket.gaierror as error:
        raise ConfigurationError(f"Cannot listen on {host}: {error.strerror}.", kind="listen") from None
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)  # Python's own words say more than one needs
        raise ConfigurationError(f"Cannot listen on {host} port {port}: {why}.", kind="listen") from None


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def listener_url(listener: socket.socket) -> str:
    """The URL of a listening socket, for a reader on this machine."""
    host, port = cast("tuple[str, int]", listener.getsockname()[:2])
    if host in WILDCARD_HOSTS:
        host = "localhost"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextmanager
def _signal_handlers(server: HttpServer) -> Generator[None]:
    """SIGINT and SIGTERM end the server, the second at once."""
    loop = asyncio.get_running_loop()

    def end(number: int, _: FrameType | None) -> None:
        server.exit_signal = server.exit_signal or number
        loop.call_soon_threadsafe(server.request_exit)

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
