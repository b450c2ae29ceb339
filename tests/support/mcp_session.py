"""A real MCP client at the real server, in this process, over stdio or over HTTP, with an upstream behind it."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from mcp.types import Implementation, TextContent

from mcp_server_claude.server.mcp_server import build_mcp_server
from mcp_server_claude.services.lazy_services import Services
from mcp_server_claude.settings import Settings
from support.server_command import server_command
from support.server_database import database_fields, select_rows
from support.user_environment import inherited_environment

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence
    from pathlib import Path

    from mcp.client.extension import ClientExtension
    from mcp.client.session import ElicitationFnT, MessageHandlerFnT
    from mcp.types import CallToolResult

    from mcp_server_claude.users.tokens_and_sessions import UserChanges
    from mcp_server_claude.web.http_server import HttpServer

Transport: TypeAlias = Literal["memory", "stdio", "http"]
ProtocolMode: TypeAlias = Literal["auto", "legacy"]
"""`auto` negotiates 2026-07-28, `legacy` 2025-11-25."""

FAKE_KEY = "sk-ant-test-0000-not-a-key"
ALL_TRANSPORTS: list[tuple[Transport, ProtocolMode]] = [
    ("memory", "auto"),
    ("memory", "legacy"),
    ("stdio", "auto"),
    ("stdio", "legacy"),
    ("http", "auto"),
    ("http", "legacy"),
]
USAGE_META, FAILURE_META, STYLE_META = (
    "mcp-server-claude/usage",
    "mcp-server-claude/failure",
    "mcp-server-claude/progress",
)


@dataclass(frozen=True)
class ProgressUpdate:
    """One progress notification."""

    progress: float
    message: str | None


@dataclass(frozen=True)
class McpSession:
    """A connected caller: the client, the server's data directory, and what the server wrote to stderr."""

    client: Client
    data_dir: Path
    stderr: Path

    async def ask(
        self,
        prompt: str = "",
        *,
        updates: list[ProgressUpdate] | None = None,
        style: str | None = None,
        **arguments: Any,
    ) -> CallToolResult:
        async def on_progress(progress: float, total: float | None, message: str | None) -> None:
            assert total is None
            if updates is not None:
                updates.append(ProgressUpdate(progress, message))

        return await self.client.call_tool(
            "claude_ask",
            {"prompt": prompt, **arguments},
            progress_callback=on_progress,
            meta={STYLE_META: style} if style else None,
        )

    async def info(self, **arguments: object) -> str:
        return text_blocks(await self.client.call_tool("claude_info", dict(arguments)))[0]

    def ledger_rows(self) -> list[dict[str, object]]:
        """Every entry of the ledger, oldest first, as stored on disk."""
        return ledger_rows(self.data_dir)


def ledger_rows(data_dir: Path) -> list[dict[str, object]]:
    return select_rows(data_dir, "select * from entry order by started_at")


def text_blocks(result: CallToolResult) -> list[str]:
    blocks = [block for block in result.content if isinstance(block, TextContent)]
    assert len(blocks) == len(result.content)
    return [block.text for block in blocks]


def usage_meta(result: CallToolResult) -> dict[str, object]:
    assert result.meta is not None
    return cast("dict[str, object]", result.meta[USAGE_META])


def failure_meta(result: CallToolResult) -> dict[str, object]:
    assert result.is_error
    assert result.meta is not None
    return cast("dict[str, object]", result.meta[FAILURE_META])


def server_environment(**fields: object) -> dict[str, str]:
    """The environment of a server process that sees nothing of ours but these settings."""
    return inherited_environment() | {f"MCP_CLAUDE_{name.upper()}": str(value) for name, value in fields.items()}


@asynccontextmanager
async def connect(
    transport: Transport,
    mode: ProtocolMode,
    data_dir: Path,
    *,
    client_name: object = "test",
    client_version: object = "1",
    extensions: object = (),
    elicitation_callback: object = None,
    message_handler: object = None,
    **fields: object,
) -> AsyncGenerator[McpSession]:
    """A client connected to a server with these settings. With a callback it can ask its user."""
    fields = {"api_key": FAKE_KEY, "data_dir": data_dir} | database_fields(data_dir) | fields
    stderr = data_dir.parent / f"{data_dir.name}.stderr"
    who = Implementation(name=str(client_name), version=str(client_version))
    async with AsyncExitStack() as stack:
        errors = stack.enter_context(stderr.open("w"))
        match transport:
            case "memory":
                server = build_mcp_server(Settings.model_validate(fields), Services.lifespan)
            case "stdio":
                command, *arguments = server_command()
                parameters = StdioServerParameters(command=command, args=arguments, env=server_environment(**fields))
                server = stdio_client(parameters, errlog=errors)
            case "http":
                http_server = await stack.enter_async_context(http_server_in_loop(**fields))
                server = streamable_http_client(f"{http_server.url}/mcp", max_sse_event_size=None)
        client = await stack.enter_async_context(
            Client(
                server,
                mode=mode,
                client_info=who,
                extensions=cast("Sequence[ClientExtension]", extensions),
                elicitation_callback=cast("ElicitationFnT | None", elicitation_callback),
                message_handler=cast("MessageHandlerFnT | None", message_handler),
            )
        )
        yield McpSession(client, data_dir, stderr)


@dataclass(frozen=True)
class HttpServerInLoop:
    """The HTTP server, listening."""

    url: str
    services: Services
    server: HttpServer

    async def token(self, name: str, **changes: Any) -> str:
        """A new user's token."""
        _, token = await (await self.services.open()).users.add_user(name, cast("UserChanges", changes))
        return token

    @asynccontextmanager
    async def client(
        self, token: str, mode: ProtocolMode = "auto", extensions: Sequence[ClientExtension] = ()
    ) -> AsyncGenerator[Client]:
        """An MCP client at this door, with a token."""
        async with (
            create_mcp_http_client(headers={"Authorization": f"Bearer {token}"}) as http,
            Client(
                streamable_http_client(f"{self.url}/mcp", http_client=http), mode=mode, extensions=[*extensions]
            ) as client,
        ):
            yield client


@asynccontextmanager
async def http_server_in_loop(host: str = "127.0.0.1", /, **fields: object) -> AsyncGenerator[HttpServerInLoop]:
    """The HTTP server with these settings, on a socket, in this process."""
    from mcp_server_claude.web.http_server import listener_url, open_listener, run_http_server

    settings = Settings.model_validate({"api_key": FAKE_KEY} | fields)
    with open_listener(host, 0) as listener:
        url = listener_url(listener)
        async with (
            Services.lifespan(settings, http=True) as services,
            run_http_server(settings, services, host, listener) as at,
        ):
            yield HttpServerInLoop(url, services, at)
