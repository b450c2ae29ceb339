"""`mcp-server-claude user …`: who may use the HTTP server, with which limits."""

from __future__ import annotations

import math
import re
import time
from functools import partial
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from mcp_server_claude import number_formatting
from mcp_server_claude.cli import terminal_output
from mcp_server_claude.cli.client_config import SERVER_NAME

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mcp_server_claude.settings import Settings
    from mcp_server_claude.store import Store
    from mcp_server_claude.store.user_rows import UserChanges
    from mcp_server_claude.users.tokens_and_sessions import UserDirectory, UserListing
    from mcp_server_claude.users.user import User

T = TypeVar("T")

BUDGET_PATTERN = re.compile(r"\$?(\d+(?:\.\d+)?|\.\d+)(?:\s*/\s*(?:d|day))?", re.IGNORECASE | re.ASCII)
MAX_LIMIT = 1e9
DEFAULT_URL = "http://127.0.0.1:8000"
"""Where `serve --http` listens by itself."""

app = typer.Typer(
    help="Who may use the HTTP server: add, list, set, rotate, remove.", no_args_is_help=True, rich_markup_mode=None
)

NameArgument = Annotated[str, typer.Argument(help="Letters a-z, digits, and . _ @ -", metavar="NAME")]
BudgetOption = Annotated[str, typer.Option(metavar="USD", help="Dollars a UTC day: 5/day, 0.50, none, or default.")]
PerMinuteOption = Annotated[str, typer.Option(metavar="N", help="Calls begun in a minute: a number, none, or default.")]
ConcurrentOption = Annotated[str, typer.Option(metavar="N", help="Calls at the same time: a number, none, or default.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print the token alone.")]


@app.command("add")
def add_user(
    name: NameArgument,
    budget: BudgetOption = "",
    per_minute: PerMinuteOption = "",
    concurrent: ConcurrentOption = "",
    *,
    operator: Annotated[bool, typer.Option("--operator", help="May see everybody's usage.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Let one who was removed back in.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Let somebody in, and print their token: it cannot be shown again."""
    changes = _parse_changes(budget, per_minute, concurrent, operator=operator or None)
    user, token = _run_with_users(lambda users: users.add_user(name, changes, restore=again))
    if not quiet:
        typer.echo(f"{_describe_user(user)}\n")
    _print_token(token, quiet=quiet)


@app.command("list")
def list_users() -> None:
    """Show everybody who may ask."""
    listed = _run_with_users(_read_users)
    if not listed:
        typer.echo("There are no users. `mcp-server-claude user add NAME` adds one.")
        return
    head = ("name", "role", "known by", "last request (UTC)", "budget", "spent today", "a minute", "at once")
    terminal_output.print_table(head, [_user_row(each) for each in listed], left=4)


@app.command("rotate")
def rotate_token(name: NameArgument, *, quiet: QuietOption = False) -> None:
    """Give somebody a new token. The old one and every session end at once."""
    token = _run_with_users(lambda users: users.rotate_token(name))
    _print_token(token, quiet=quiet)


@app.command("remove")
def remove_user(name: NameArgument) -> None:
    """Revoke a user's access. The ledger keeps the name and what it spent."""
    _run_with_users(lambda users: users.remove_user(name))
    kept = name.strip().lower()
    typer.echo(
        f"{kept} is removed; token and sessions have ended. Calls that are running come to their end.\n"
        f"`mcp-server-claude forget --user {kept}` deletes what they asked and were answered."
    )


@app.command("set")
def set_limits(
    name: NameArgument,
    budget: BudgetOption = "",
    per_minute: PerMinuteOption = "",
    concurrent: ConcurrentOption = "",
    *,
    operator: Annotated[
        bool | None, typer.Option("--operator/--no-operator", help="Whether they may see everybody's usage.")
    ] = None,
) -> None:
    """Change somebody's limits or role, from their next request on."""
    changes = _parse_changes(budget, per_minute, concurrent, operator=operator)
    if not changes:
        raise typer.BadParameter("say what to change: --budget, --per-minute, --concurrent, --operator.")
    typer.echo(_describe_user(_run_with_users(lambda users: users.change_user(name, changes))))


def parse_budget(text: str) -> float | None:
    """Dollars a day: infinite for `none`, None for `default`.

    Raises:
        typer.BadParameter: It is no such amount.
    """
    word = text.strip().lower()
    if word in {"none", "default"}:
        return math.inf if word == "none" else None
    found = BUDGET_PATTERN.fullmatch(word)
    if found is None or float(found[1]) > MAX_LIMIT:
        raise typer.BadParameter(
            "dollars a day, such as 5/day, 5 or $0.50; or none, or default.", param_hint="--budget"
        )
    return float(found[1])


def parse_count(text: str, option: str) -> int | None:
    """A number of calls: 0 for `none`, None for `default`.

    Raises:
        typer.BadParameter: It is no such number.
    """
    word = text.strip().lower()
    if word in {"none", "default"}:
        return 0 if word == "none" else None
    if not word.isdecimal() or not word.isascii() or not 0 < int(word) <= MAX_LIMIT:
        raise typer.BadParameter("a number of calls from 1 on; or none, or default.", param_hint=option)
    return int(word)


def _parse_changes(budget: str, per_minute: str, concurrent: str, *, operator: bool | None) -> UserChanges:
    changes: UserChanges = {}
    if budget:
        changes["usd_per_day"] = parse_budget(budget)
    if per_minute:
        changes["calls_per_minute"] = parse_count(per_minute, "--per-minute")
    if concurrent:
        changes["concurrent"] = parse_count(concurrent, "--concurrent")
    if operator is not None:
        changes["role"] = "operator" if operator else "user"
    return changes


def _run_with_users(work: Callable[[UserDirectory], Awaitable[T]]) -> T:
    return terminal_output.run_with_store(partial(_with_open_users, work))


async def _with_open_users(work: Callable[[UserDirectory], Awaitable[T]], settings: Settings, store: Store) -> T:
    from mcp_server_claude.users.tokens_and_sessions import UserDirectory

    return await work(UserDirectory(settings, store))


async def _read_users(users: UserDirectory) -> list[UserListing]:
    return await users.list_users()


def _describe_user(user: User) -> str:
    limits = user.limits
    budget = "no budget" if limits.usd_per_day is None else f"{number_formatting.format_usd(limits.usd_per_day)} a day"
    minute = f"{limits.calls_per_minute} calls a minute" if limits.calls_per_minute else "any number of calls a minute"
    at_once = f"{limits.concurrent} at once" if limits.concurrent else "any number at once"
    return f"{user.name}: {user.role}, {budget}, {minute}, {at_once}."


def _user_row(listed: UserListing) -> tuple[str, ...]:
    user, limits, last = listed.user, listed.user.limits, listed.last_request_at
    return (
        user.name,
        user.role,
        listed.issuer or "token",
        "never" if last is None else time.strftime("%Y-%m-%d %H:%M", time.gmtime(last)),
        "none" if limits.usd_per_day is None else number_formatting.format_usd(limits.usd_per_day),
        number_formatting.format_usd(listed.spent_today_usd),
        str(limits.calls_per_minute or "any"),
        str(limits.concurrent or "any"),
    )


def _print_token(token: str, *, quiet: bool) -> None:
    """The token, and how it is used."""
    if quiet:
        typer.echo(token)
        return
    public = terminal_output.load_settings().public_url.rstrip("/")
    url = public or DEFAULT_URL
    typer.echo(f"The token, shown only this once:\n\n  {token}\n\nIn Claude Code:\n")
    typer.echo(
        f'  claude mcp add --transport http {SERVER_NAME} {url}/mcp --header "Authorization: Bearer {token}"\n\n'
        f"In a browser: {url}/signin\n\nIn a shell:\n\n"
        f"  curl -N {url}/chat -H 'Authorization: Bearer {token}' -H 'Content-Type: application/json' "
        '-d \'{"message": "Hello"}\''
    )
    if not public:
        typer.secho("\nMCP_CLAUDE_PUBLIC_URL says where people reach the server, if that is elsewhere.", dim=True)
