"""`mcp-server-claude usage`: requests, tokens and cost from the ledger, as a table, a chart, JSON, CSV or one line."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer

from mcp_server_claude import number_formatting
from mcp_server_claude.cli import terminal_output
from mcp_server_claude.cli.call_options import JsonOption
from mcp_server_claude.cli.local_time_zone import LocalTimeZone
from mcp_server_claude.csv_cells import escape_formula
from mcp_server_claude.errors import RequestError
from mcp_server_claude.server.tools.info import parse_since
from mcp_server_claude.store import request_ledger, store_errors_as

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mcp_server_claude.settings import Settings
    from mcp_server_claude.store import Store, Transaction
    from mcp_server_claude.store.request_ledger import SummaryKey, UsageSummary

Grouping: TypeAlias = Literal["user", "model", "tool", "project", "job", "day", "week", "month"]

COLUMNS = ("calls", "requests", "failed", "retries", "in", "cached", "out", "cost")
PERIODS = ("day", "week", "month")
CHART_WIDTH = 40
"""Columns of the longest bar, if the terminal is wide enough."""
MIN_CHART_WIDTH = 10
MAX_PERIODS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRow:
    """The sums of one row: a user, model, tool, project, job or period."""

    name: str
    sums: UsageSummary

    @property
    def cost_usd(self) -> float:
        """US dollars, without requests whose price is unknown."""
        return self.sums.cost_micros / 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRange:
    """The requests that a report is about; `user` of None for everybody."""

    since: datetime
    until: datetime | None
    zone: tzinfo
    user: str | None

    def __str__(self) -> str:
        zone = "UTC" if self.zone is UTC else str(self.zone)
        end = f" to {self.until.astimezone(self.zone):%Y-%m-%d %H:%M}" if self.until else ""
        who = f", {self.user}" if self.user else ""
        return f"Since {self.since.astimezone(self.zone):%Y-%m-%d %H:%M}{end} {zone}{who}."


def show_usage(
    since: Annotated[
        str, typer.Option(metavar="WHEN", help="today, 24h, 7d, 2w, or a date such as 2026-11-01 (UTC).")
    ] = "7d",
    until: Annotated[str, typer.Option(metavar="DATE", help="Only requests up to this day, included.")] = "",
    by: Annotated[Grouping, typer.Option(help="What a row adds up.")] = "model",
    user: Annotated[str, typer.Option(metavar="NAME", help="Only this user's requests.")] = "",
    time_zone: Annotated[
        str, typer.Option("--time-zone", metavar="ZONE", help="Days of this zone, e.g. Europe/Berlin or local.")
    ] = "UTC",
    *,
    chart: Annotated[bool, typer.Option("--chart", help="Draw the cost of each row as a bar.")] = False,
    as_json: JsonOption = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV for spreadsheets.")] = False,
    status_line: Annotated[
        bool, typer.Option("--status-line", help="Print one line for the status line of Claude Code.")
    ] = False,
) -> None:
    """Show requests, tokens and cost.

    For the status line of Claude Code, put this into its settings.json:
    `"statusLine": {"type": "command", "command": "mcp-server-claude usage --status-line"}`
    """
    if as_json + as_csv + chart + status_line > 1:
        raise typer.BadParameter("choose one of them.", param_hint="--json, --csv, --chart, --status-line")
    name = user.strip().lower() or None
    if name:
        terminal_output.run_with_store(partial(terminal_output.check_user_exists, name=name))
    zone = parse_time_zone(time_zone)
    if status_line:
        typer.echo(terminal_output.run_with_store(partial(_read_status_line, user=name, zone=zone)))
        return
    selection = UsageRange(
        since=_start_of(since, zone), until=_parse_until(until, zone) if until else None, zone=zone, user=name
    )
    if selection.until is not None and selection.until <= selection.since:
        since_text = f"--since {since} ({selection.since.astimezone(zone):%Y-%m-%d})"
        raise typer.BadParameter(f"{until} is before {since_text}.", param_hint="--until")
    rows, whole = terminal_output.run_with_store(partial(_read_rows, selection=selection, by=by))
    if as_json:
        typer.echo(json.dumps([_row_values(row, by) for row in rows], indent=2, ensure_ascii=False))
    elif as_csv:
        _print_csv(rows, whole, by)
    else:
        _print_report(selection, rows, whole, by, chart=chart)


def parse_time_option(text: str, option: str) -> datetime:
    """A moment as the tools take it: today, a span back from now, or a date; in UTC.

    Raises:
        typer.BadParameter: It is none of these.
    """
    try:
        return parse_since(text)
    except RequestError:
        raise typer.BadParameter(
            "use today, a span such as 7d, or a date such as 2026-11-01.", param_hint=option
        ) from None


def parse_time_zone(name: str) -> tzinfo:
    """The zone of that name; `local` for this machine's.

    Raises:
        typer.BadParameter: There is no such zone.
    """
    if name.upper() == "UTC":
        return UTC
    if name.lower() == "local":
        return LocalTimeZone()
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise typer.BadParameter("use a zone such as Europe/Berlin, local or UTC.", param_hint="--time-zone") from None


def periods(since: datetime, until: datetime, unit: str, zone: tzinfo) -> Iterator[tuple[str, datetime, datetime]]:
    """The days, ISO weeks or months from `since` to `until`, by the zone's midnights: label, beginning and end."""
    day = since.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    if unit == "week":
        day -= timedelta(days=day.weekday())
    elif unit == "month":
        day = day.replace(day=1)
    while day < until:
        match unit:
            case "day":
                following, label = day + timedelta(days=1), f"{day:%Y-%m-%d}"
            case "week":
                following, label = day + timedelta(days=7), f"{day:%G-W%V}"
            case _:
                following, label = (day + timedelta(days=32)).replace(day=1), f"{day:%Y-%m}"
        yield label, max(day, since), min(following, until)
        day = following


async def _read_rows(
    _: Settings, store: Store, *, selection: UsageRange, by: Grouping
) -> tuple[list[UsageRow], UsageSummary]:
    with store_errors_as("The ledger could not be read"):
        return await store.read(_sum_up, selection, by)


async def _read_status_line(_: Settings, store: Store, *, user: str | None, zone: tzinfo) -> str:
    midnight = datetime.now(zone).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    with store_errors_as("The ledger could not be read"):
        today, month = [
            (await store.read(request_ledger.summarize_usage, start.timestamp(), user=user, by=()))[0]
            for start in (midnight, midnight.replace(day=1))
        ]
    costs = [number_formatting.format_usd(sums.cost_micros / 1e6) for sums in (today, month)]
    return f"Claude {costs[0]} today · {costs[1]} this month"


def _sum_up(tx: Transaction, selection: UsageRange, by: Grouping) -> tuple[list[UsageRow], UsageSummary]:
    since = selection.since.timestamp()
    until = selection.until.timestamp() if selection.until else None
    (whole,) = request_ledger.summarize_usage(tx, since, until, selection.user, by=())
    key: SummaryKey
    match by:
        case "user" | "model" | "tool" | "project":
            key = by
        case "job":
            key = "job_id"
        case _:
            return _sum_up_periods(tx, selection, by), whole
    rows = [
        UsageRow(name=getattr(sums, key) or "(none)", sums=sums)
        for sums in request_ledger.summarize_usage(tx, since, until, selection.user, by=(key,))
    ]
    return sorted(rows, key=lambda row: (-row.sums.cost_micros, row.name)), whole


def _sum_up_periods(tx: Transaction, selection: UsageRange, by: Literal["day", "week", "month"]) -> list[UsageRow]:
    """The periods in which there were requests.

    Raises:
        RequestError: There are more than `MAX_PERIODS`.
    """
    rows: list[UsageRow] = []
    end = selection.until or datetime.now(UTC) + timedelta(seconds=1)
    for count, (label, start, stop) in enumerate(periods(selection.since, end, by, selection.zone)):
        if count >= MAX_PERIODS:
            raise RequestError(f"There are more than {MAX_PERIODS:,} {by}s in that time. Choose a shorter one.")
        (each,) = request_ledger.summarize_usage(tx, start.timestamp(), stop.timestamp(), selection.user, by=())
        if each.requests:
            rows.append(UsageRow(name=label, sums=each))
    return rows


def _start_of(text: str, zone: tzinfo) -> datetime:
    """The moment of `--since`; a date and `today` begin at midnight of the zone, and a time without an offset is one
    of the zone.
    """
    moment = parse_time_option(text, "--since")
    word = text.strip().lower()
    if word in {"", "today"}:
        return datetime.now(zone).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    try:
        stated = datetime.fromisoformat(word.upper())
    except ValueError:  # a span
        return moment
    return stated.replace(tzinfo=zone) if stated.tzinfo is None else moment


def _parse_until(text: str, zone: tzinfo) -> datetime:
    try:
        return datetime.strptime(text.strip(), "%Y-%m-%d").replace(tzinfo=zone) + timedelta(days=1)
    except (ValueError, OverflowError):
        raise typer.BadParameter("use a date such as 2026-11-30.", param_hint="--until") from None


def _print_report(
    selection: UsageRange, rows: Sequence[UsageRow], whole: UsageSummary, by: Grouping, *, chart: bool
) -> None:
    typer.echo(f"{selection}\n")
    if not rows:
        typer.echo("No requests.")
        return
    if chart:
        _print_chart(rows)
        return
    table = [_table_row(row) for row in rows]
    if len(rows) > 1:
        table.append(_table_row(UsageRow(name="total", sums=whole)))
    terminal_output.print_table((by, *COLUMNS), table)
    if whole.unpriced:
        requests = number_formatting.format_count(whole.unpriced, "request")
        typer.echo(f"\nThe price of {requests} is unknown and not included.")
    if whole.estimated:
        requests = number_formatting.format_count(whole.estimated, "request")
        typer.echo(f"\n{requests} broke off, so the output (~) is estimated.")


def _print_chart(rows: Sequence[UsageRow]) -> None:
    highest = max(row.cost_usd for row in rows) or 1.0
    width = max(len(row.name) for row in rows)
    costs = [number_formatting.format_usd(row.cost_usd) for row in rows]
    room = shutil.get_terminal_size().columns - width - max(map(len, costs)) - len("   ")
    longest = max(MIN_CHART_WIDTH, min(CHART_WIDTH, room))
    for row, cost in zip(rows, costs, strict=True):
        bar = "█" * max(round(row.cost_usd / highest * longest), 1 if row.cost_usd else 0)
        typer.echo(f"{row.name:<{width}}  {bar} {cost}")


def _print_csv(rows: Sequence[UsageRow], whole: UsageSummary, by: Grouping) -> None:
    values = [_row_values(row, by) for row in rows]
    names = list(_row_values(UsageRow(name="", sums=whole), by))  # the same if there are no rows
    writer = csv.DictWriter(sys.stdout, fieldnames=names)
    writer.writeheader()
    writer.writerows({name: escape_formula(value) for name, value in each.items()} for each in values)


def _row_values(row: UsageRow, by: Grouping) -> dict[str, object]:
    sums = row.sums
    return {
        by: row.name,
        "calls": sums.calls,
        "requests": sums.requests,
        "failures": sums.failures,
        "retries": sums.retries,
        "input_tokens": sums.input_tokens,
        "cache_read_input_tokens": sums.cache_read_input_tokens,
        "cache_creation_input_tokens": sums.cache_creation_input_tokens,
        "output_tokens": sums.output_tokens,
        "cost_usd": row.cost_usd,
        "unpriced_requests": sums.unpriced,
        "estimated_requests": sums.estimated,
    }


def _table_row(row: UsageRow) -> tuple[str, ...]:
    sums = row.sums
    return (
        row.name,
        f"{sums.calls:,}",
        f"{sums.requests:,}",
        f"{sums.failures:,}",
        f"{sums.retries:,}",
        number_formatting.format_tokens(sums.input_tokens + sums.cache_creation_input_tokens),
        number_formatting.format_tokens(sums.cache_read_input_tokens),
        ("~" if sums.estimated else "") + number_formatting.format_tokens(sums.output_tokens),
        number_formatting.format_usd(row.cost_usd),
    )
