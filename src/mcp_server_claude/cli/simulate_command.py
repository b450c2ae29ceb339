"""`mcp-server-claude simulate`: the Messages API of the tests and the demo, on a loopback port."""

from __future__ import annotations

import asyncio
import errno
from typing import Annotated

import typer

from mcp_server_claude.cli.command_line import pasteable_command
from mcp_server_claude.errors import ConfigurationError
from mcp_server_claude.simulator import Pace, Simulator, run_until_signal


def run_simulator(
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to listen on; 0 for any free one.")] = 8765,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    key: Annotated[str, typer.Option(help="Accept only this key. By default any key is accepted.")] = "",
    ttft: Annotated[float, typer.Option(min=0, help="Seconds to the first byte of an answer.")] = 0.05,
    tokens_per_s: Annotated[float, typer.Option(min=0, help="Speed of the answers; 0 for full speed.")] = 60.0,
) -> None:
    """Serve an offline Messages API for tests, until Ctrl-C."""
    simulator = Simulator(port=port, host=host, key=key or None, pace=Pace(ttft_s=ttft, tokens_per_s=tokens_per_s))
    try:
        asyncio.run(run_until_signal(simulator, announce=_announce_simulator))
    except OSError as error:
        hint = " Choose another one with --port." if error.errno == errno.EADDRINUSE else ""
        reason = error.strerror or error
        raise ConfigurationError(f"Cannot listen on {host}:{port}: {reason}.{hint}", kind="listen") from None


def _announce_simulator(url: str) -> None:
    typer.echo(f"A simulated Messages API listens on {url}  (Ctrl-C ends it)")
    typer.echo(f"To use it: MCP_CLAUDE_BASE_URL={url} MCP_CLAUDE_API_KEY=any-key {pasteable_command()}")
