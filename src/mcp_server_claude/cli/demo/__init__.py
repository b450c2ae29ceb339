"""The demo: an answer that streams through MCP, its usage, and a call that is cancelled half-way.

Everything is real but the API: the server runs as a child process over stdio, a real MCP client asks it, and only the
Messages API is simulated, on a loopback port. `live` leaves that away too.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import anyio
from rich.console import Console

from mcp_server_claude.anthropic_api.platforms import find_credential
from mcp_server_claude.cli.demo import browser_demo
from mcp_server_claude.cli.demo.scenario import run_scenario
from mcp_server_claude.cli.demo.terminal_screens import PanelScreen, PlainScreen
from mcp_server_claude.errors import ConfigurationError
from mcp_server_claude.exit_codes import EXIT_INTERRUPTED
from mcp_server_claude.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["run_in_browser", "run_in_terminal"]


def run_in_terminal(prompt: str = "", *, live: bool = False) -> int:
    """Show it in the terminal, or line by line where there is none; the exit code.

    Raises:
        ConfigurationError: With `live`, there is no key.
    """
    console = Console(highlight=False)
    if live:
        _check_key()
    plain = not sys.stdout.isatty() or console.is_dumb_terminal or console.no_color
    screen = PlainScreen(console) if plain else PanelScreen(console)
    with (
        TemporaryDirectory(prefix="mcp-server-claude-demo-", ignore_cleanup_errors=True) as home,
        Path(home, "server.log").open("w", encoding="utf-8") as log,
    ):
        try:
            return _run_to_exit_code(partial(run_scenario, screen, prompt, live=live, home=home, log=log))
        except KeyboardInterrupt:
            return EXIT_INTERRUPTED


def run_in_browser(port: int) -> int:
    """Serve the pages until Ctrl-C; the exit code."""
    with TemporaryDirectory(prefix="mcp-server-claude-demo-", ignore_cleanup_errors=True) as home:
        try:
            return _run_to_exit_code(partial(browser_demo.serve_pages, Console(highlight=False), port=port, home=home))
        except KeyboardInterrupt:
            return 0


def _run_to_exit_code(scenario: Callable[[], Awaitable[int]]) -> int:
    """Run the story; `demo | head` ends it without a word."""
    code = 1
    try:
        code = anyio.run(scenario)
    except* BrokenPipeError:
        # What is left in the buffer shall not complain at exit (docs.python.org, "Note on SIGPIPE").
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def _check_key() -> None:
    """Check that there is a key for the real API.

    Raises:
        ConfigurationError: There is none, or it cannot be used.
    """
    try:
        find_credential(Settings.load())
    except ConfigurationError as failure:
        if failure.kind != "no_key":
            raise
        raise failure.with_message(
            "--live needs a key: set MCP_CLAUDE_API_KEY or ANTHROPIC_API_KEY, or leave --live out."
        ) from None
