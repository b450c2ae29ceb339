"""The question on the terminal whether a call may cost more than `MCP_CLAUDE_CONFIRM_ABOVE_USD`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from mcp_server_claude.calls import spending_approvals
from mcp_server_claude.cli.terminal_output import interruptible_input
from mcp_server_claude.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from mcp_server_claude.engine.cost_estimate import CostEstimate
    from mcp_server_claude.jobs.map_estimates import MapEstimate
    from mcp_server_claude.settings import Settings


async def confirm_cost(
    settings: Settings,
    estimate: Callable[[], Awaitable[Sequence[CostEstimate | MapEstimate]]],
    *,
    max_usd: float,
    approved: bool,
) -> None:
    """Ask the user to approve the cost of a call that could exceed the limit. `approved` says that they have already.

    Raises:
        RequestError: They did not approve it, or there is no terminal to ask on.
    """
    if settings.confirm_above_usd is None or approved:
        return
    highest = spending_approvals.highest_cost([each.max_usd for each in await estimate()], max_usd)
    if not spending_approvals.needs_approval(highest, settings.confirm_above_usd):
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise RequestError(
            f"{spending_approvals.limit_sentences(highest, settings.confirm_above_usd)} it needs your approval: "
            "--yes, or a lower --max-usd.",
            kind="confirmation",
        )
    if not _read_approval(f"{spending_approvals.cost_sentence(highest)} Send it?"):
        raise RequestError("Nothing was sent.", kind="confirmation")


def _read_approval(question: str) -> bool:
    try:
        with interruptible_input():
            return typer.confirm(question, err=True)
    except typer.Abort:  # Ctrl-C, or the input has ended
        return False
