"""The HTTP server: the listening socket, signals, and a shutdown that lets running requests finish.

uvicorn speaks HTTP. Its own shutdown, with sse-starlette's, cuts the event streams of MCP 2025-11-25 half a second
after SIGTERM, and hangs on a stream of 2026-07-28 that is never closed; the shutdown here lets requests in flight
finish
in both.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import signal
import socket
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, cast

import anyio
import uvicorn
from sse_starlette.sse import (
    AppStatus,
    _get_shutdown_state,  # pyright: ignore[reportPrivateUsage] - it has no setting (pinned: sse-starlette~=3.7)
)

from mcp_server_claude.errors import ConfigurationError, TemporaryError
from mcp_server_claude.event_loop import event_loop_options
from mcp_server_claude.heap_memory import map_large_blocks
from mcp_server_claude.network_addresses import is_loopback
from mcp_server_claude.open_file_limit import raise_open_file_limit
from mcp_server_claude.server.mcp_server import build_mcp_server
from mcp_server_claude.services.lazy_services import Services
from mcp_server_claude.services.service_access import ServiceAccess
from mcp_server_claude.web.client_timeouts import ServerConfig, TimeoutProtocol
from mcp_server_claude.web.connection_limit import ConnectionLimiter, max_connections
from mcp_server_claude.web.fastapi_app import build_app

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator
    from types import FrameType

    from fastapi import FastAPI

    from mcp_server_claude.server.mcp_server import McpServerFactory
    from mcp_server_claude.settings import Settings
    from mcp_server_claude.web.fastapi_app import WebApp

SHUTDOWN_GRACE_S = 1.0
"""Seconds for interrupted readers to receive the last event."""
POLL_INTERVAL_S = 0.02
BACKLOG = 2048
EXIT_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name))
"""SIGBREAK is Ctrl-Break, which only Windows has."""
WILDCARD_HOSTS = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - compared; the operator chooses where to listen

_log = logging.getLogger(__name__)


def serve_http(
    settings: Settings, host: str, port: int, *, announce: Callable[[str], None], insecure: bool = False
) -> int:
    """Serve until one of `EXIT_SIGNALS` and return the exit code; `announce` receives the lines that say where.

    The exit code is 0 if every request finished, and 128 plus the signal's number if one was interrupted because it
    took longer than `drain_s` or a second signal arrived.

    Raises:
        ConfigurationError: The address cannot be listened on or would be reachable by others without authentication, or
        the ledger on this machine cannot be read for its users.
    """
    map_large_blocks()
    with open_listener(host, port) as listener:
        options = event_loop_options()
        ended = anyio.run(_serve_until_signal, settings, host, listener, announce, insecure, backend_options=options)
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
    """The exit code, or the error: raised here, it would leave the task group as an exception group."""
    async with Services.lifespan(settings, http=True) as services:
        try:
            is_open = await allows_anonymous(settings, services)
        except (ConfigurationError, TemporaryError) as failure:
            if not services.store.is_shared:
                return ConfigurationError(str(failure), kind=failure.kind)
            _log.warning("%s The server is not ready until the database can be used.", failure)
            is_open = False  # requests are rejected until it is known
        if is_open and not insecure and not is_loopback(host):
            return ConfigurationError(
                f"There are no users, so everybody who can reach {host or 'this machine'} could spend your money. "
                "Without users the server listens only on this machine (127.0.0.1). Add one with `mcp-server-claude "
                "user add NAME`, or pass --insecure to admit everybody.",
                kind="insecure",
            )
        await services.load_client()  # before connections can exhaust the file descriptors
        async with run_http_server(settings, services, host, listener, insecure=insecure) as server:
            url = settings.public_url.rstrip("/") or listener_url(listener)
            announce(f"mcp-server-claude listens on {url}  (Ctrl-C ends it)")
            token = "" if is_open else ' --header "Authorization: Bearer YOUR-TOKEN"'
            announce(f"Claude Code: claude mcp add --transport http claude {url}/mcp{token}")
            with _signal_handlers(server):
                await server.shutdown_complete.wait()
    return 128 + server.exit_signal if server.has_aborted_requests else 0


async def allows_anonymous(settings: Settings, services: ServiceAccess) -> bool:
    """True if requests need no token: there are no users and no identity provider.

    Raises:
        ConfigurationError: The ledger cannot be read, so it cannot be known.
    """
    return not await (await services.open()).users.has_users() and not settings.oidc_issuer


@asynccontextmanager
async def run_http_server(
    settings: Settings,
    services: ServiceAccess,
    host: str,
    listener: socket.socket,
    *,
    insecure: bool = False,
    build_server: McpServerFactory = build_mcp_server,
) -> AsyncGenerator[HttpServer]:
    """Serve while the block runs; leaving it waits for the requests in flight. See `build_app`."""
    web_app = build_app(settings, services, host=host, insecure=insecure, build_server=build_server)
    app = web_app.app
    AppStatus.disable_automatic_graceful_drain()  # else it cuts every event stream as soon as uvicorn is to exit
    # What is left of the drain is a task that polls twice a second for the exit. Our own shutdown ends the streams.
    _get_shutdown_state().watcher_started = True
    async with app.router.lifespan_context(app), anyio.create_task_group() as tasks:
        server = HttpServer(settings, web_app)
        tasks.start_soon(server.serve, [listener])
        await server.startup_complete.wait()
        try:
            yield server
        finally:
            server.request_exit()
            with anyio.CancelScope(shield=True):
                await server.shutdown_complete.wait()


class HttpServer(uvicorn.Server):
    """uvicorn's server with a connection limit, and a shutdown that lets requests finish."""

    def __init__(self, settings: Settings, web_app: WebApp) -> None:
        config = ServerConfig(web_app.app, settings, on_connection_lost=self._release_connection)
        self._limiter = ConnectionLimiter(max_connections(raise_open_file_limit()), config.waiting_connections)
        super().__init__(config)
        self.startup_complete, self.shutdown_complete = anyio.Event(), anyio.Event()
        self.exit_signal, self.has_aborted_requests = 0, False
        self._web_app = web_app
        self._drain_s = settings.drain_s
        self._drain_scope = anyio.CancelScope()
        self._exit_requested = anyio.Event()
        self._accept_tasks: list[asyncio.Task[None]] = []

    @property
    def app(self) -> FastAPI:
        """The app that is served."""
        return self._web_app.app

    def request_exit(self) -> None:
        """Accept no more requests and exit when those in flight have finished; the second call exits at once."""
        if self.should_exit:
            self._drain_scope.cancel()
        self.should_exit = True
        self._exit_requested.set()

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave signals to `serve_http`; a server in a test has none."""
        yield

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve on these sockets until `request_exit`."""
        try:
            await super().serve(sockets)
        finally:
            self.startup_complete.set()
            self.shutdown_complete.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to accept connections, below the limit instead of with uvicorn's own accept loop."""
        await super().startup([])
        for listener in sockets or []:
            accepting = self._limiter.accept_connections(listener, self._make_protocol)
            self._accept_tasks.append(asyncio.create_task(accepting))
        self.startup_complete.set()

    async def main_loop(self) -> None:
        """Wait for `request_exit`. uvicorn polls ten times a second, and sets the Date header; here requests set it."""
        await self._exit_requested.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let answers finish, then close idle event streams, then abort the remaining connections."""
        mcp = self._web_app.mcp
        for task in self._accept_tasks:
            task.cancel()
        await asyncio.wait(self._accept_tasks)
        for listener in sockets or []:
            listener.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()  # at once if it is idle, else after its response
        mcp.close_subscriptions()
        self.has_aborted_requests = True
        with self._drain_scope, anyio.move_on_after(self._drain_s):
            await self._wait_for_requests(lambda: mcp.idle_stream_count)
            self.has_aborted_requests = False
        self._web_app.draining.set()
        mcp.close_idle_streams()
        with anyio.move_on_after(POLL_INTERVAL_S if self._drain_scope.cancel_called else SHUTDOWN_GRACE_S):
            await self._wait_for_requests(lambda: 0)
        for connection in list(self.server_state.connections):
            connection.transport.abort()  # the app sees a disconnect and unwinds in order
        with anyio.move_on_after(SHUTDOWN_GRACE_S):
            await self._wait_for_requests(lambda: 0)

    def _release_connection(self) -> None:
        self._limiter.release()

    def _make_protocol(self) -> asyncio.Protocol:
        return TimeoutProtocol(self.config, self.server_state, self.lifespan.state)

    async def _wait_for_requests(self, allowed: Callable[[], int]) -> None:
        """Wait until at most `allowed()` requests are running."""
        while len(self.server_state.tasks) > allowed():  # noqa: ASYNC110 - uvicorn has no event for it
            await anyio.sleep(POLL_INTERVAL_S)


def open_listener(host: str, port: int) -> socket.socket:
    """Open a listening socket; port 0 means any free port, `::` every IPv4 and IPv6 address.

    Raises:
        ConfigurationError: The address cannot be listened on, e.g. because another process does.
    """
    try:
        family = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        both = family == socket.AF_INET6 and host == "::" and socket.has_dualstack_ipv6()
        return socket.create_server((host, port), family=family, backlog=BACKLOG, dualstack_ipv6=both)
    except socket.gaierror as error:
        raise ConfigurationError(f"Cannot listen on {host}: {error.strerror}.", kind="listen") from None
    except OSError as error:
        # Python appends the address. `os.strerror` knows no error of a socket on Windows.
        reason = (error.strerror or str(error)).partition(" (while attempting")[0]
        hint = " Choose another one with --port." if error.errno == errno.EADDRINUSE else ""
        raise ConfigurationError(f"Cannot listen on {host} port {port}: {reason}.{hint}", kind="listen") from None


def listener_url(listener: socket.socket) -> str:
    """The URL of a listening socket, as seen from this machine."""
    host, port = cast("tuple[str, int]", listener.getsockname()[:2])
    if host in WILDCARD_HOSTS:
        host = "localhost"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextmanager
def _signal_handlers(server: HttpServer) -> Generator[None]:
    """The first of `EXIT_SIGNALS` starts the shutdown, the second completes it at once."""
    loop = asyncio.get_running_loop()

    def request_exit(number: int, _: FrameType | None) -> None:
        server.exit_signal = server.exit_signal or number
        loop.call_soon_threadsafe(server.request_exit)

    previous = {number: signal.signal(number, request_exit) for number in EXIT_SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
