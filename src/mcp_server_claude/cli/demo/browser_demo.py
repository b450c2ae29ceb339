"""The demo in a browser: the chat page and the usage page of a real server, whose API is simulated."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio

from mcp_server_claude.cli.demo.scenario import DEMO_PACE, simulator_environment
from mcp_server_claude.simulator import Simulator

if TYPE_CHECKING:
    from rich.console import Console

SERVER_VARIABLE_PREFIXES = ("MCP_CLAUDE_", "ANTHROPIC_", "OTEL_")
"""Prefixes of the variables that configure the user's own server."""


async def serve_pages(console: Console, *, port: int, home: str) -> int:
    """Serve until Ctrl-C; the server's exit code. `home` is a directory for its data."""
    async with Simulator(pace=DEMO_PACE) as simulator:
        console.print(
            "No key, no network: the API is simulated, and what you ask is deleted when the demo ends.", style="dim"
        )
        command = [sys.executable, "-m", "mcp_server_claude", "serve", "--http", "--port", str(port)]
        others = {name: value for name, value in os.environ.items() if not name.startswith(SERVER_VARIABLE_PREFIXES)}
        server = await anyio.open_process(
            command,
            stdin=subprocess.DEVNULL,
            stdout=None,
            stderr=None,
            env=others | simulator_environment(simulator, home),
        )
        try:
            return await server.wait()
        finally:
            with suppress(ProcessLookupError):
                server.terminate()  # at a terminal, Ctrl-C has reached it as well
            with anyio.CancelScope(shield=True):
                await server.wait()
