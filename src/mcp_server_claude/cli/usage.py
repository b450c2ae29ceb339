"""`mcp-server-claude usage`: what was spent, by user, model, tool or day, from the ledger."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mcp_server_claude import number_formatting
from mcp_server_claude.cli import terminal_output
from mcp_server_claude.errors import RequestError
from mcp_server_claude.server.tools.info import parse_since
from mcp_server_claude.store import request_ledger, store_errors_as

if TYPE_CHECKING:
    from datetime import datetime

    from mcp_server_claude.settings import Settings
    from mcp_server_claude.store import Store
    from mcp_server_claude.store.request_ledger import UsageSummary

COLUMNS = ("calls", "requests", "failed", "retries", "in", "cached", "out", "cost")


def show_usage(
    since: Annotated[str, typer.Option(help="today, 24h, 7d, 2w, or a date such as 2026-11-01 (UTC).")] = "7d",
    by: Annotated[Literal["user", "model", "tool", "day"], typer.Option(help="What a row stands for.")] = "model",
    user: Annotated[str, typer.Option(help="Only this user's.")] = "",
) -> None:
    """Show what was spent."""
    moment = parse_time_option(since, "--since")
    name = user.strip().lower()
    if name:
        terminal_output.run_with_store(partial(terminal_output.check_user_exists, name=name))
    totals, whole = terminal_output.run_with_store(partial(_read_totals, moment=moment, by=by, user=name or None))
    typer.echo(f"Since {moment:%Y-%m-%d %H:%M} UTC{f', {user}' if user else ''}.\n")
    if not totals:
        typer.echo("No requests.")
        return
    rows = [_total_row(getattr(total, by) or "(none)", total) for total in totals]
    if len(rows) > 1:
        rows.append(_total_row("total", whole))
    terminal_output.print_table((by, *COLUMNS), rows)
    if whole.unpriced:
        typer.echo(f"\n{whole.unpriced} requests were of models whose price is unknown: their cost is not in the sums.")
    if whole.estimated:
        typer.echo(f"\n{whole.estimated} requests broke off, so that their output (~) is estimated.")


def parse_time_option(text: str, option: str) -> datetime:
    """A moment as the tools take it: today, a span back from now, or a date; in UTC.

    Raises:
        typer.BadParameter: It is none of these.
    """
    try:
        return parse_since(text)
    except RequestError:
        raise typer.BadParameter("today, a span such as 7d, or a date such as 2026-11-01.", param_hint=option) from None


async def _read_totals(
    _: Settings, store: Store, *, moment: datetime, by: Literal["user", "model", "tool", "day"], user: str | None
) -> tuple[list[UsageSummary], UsageSummary]:
    with store_errors_as("The ledger could not be read"):
        totals = await store.read(request_ledger.summarize_usage, moment.timestamp(), user=user, by=(by,))
        (whole,) = await store.read(request_ledger.summarize_usage, moment.timestamp(), user=user, by=())
    if by != "day":
        totals = sorted(totals, key=lambda total: (-total.cost_micros, getattr(total, by)))
    return totals, whole


def _total_row(name: str, total: UsageSummary) -> tuple[str, ...]:
    return (
        name,
        f"{total.calls:,}",
        f"{total.requests:,}",
        f"{total.failures:,}",
        f"{total.retries:,}",
        number_formatting.format_tokens(total.input_tokens + total.cache_creation_input_tokens),
        number_formatting.format_tokens(total.cache_read_input_tokens),
        ("~" if total.estimated else "") + number_formatting.format_tokens(total.output_tokens),
        number_formatting.format_usd(total.cost_micros / 1e6),
    )
