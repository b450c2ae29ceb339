"""`mcp-server-claude user …`: the users of the HTTP server, their tokens and limits."""

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
from mcp_server_claude.cli.command_group import subcommand_group
from mcp_server_claude.cli.command_line import pasteable_command
from mcp_server_claude.users.tokens_and_sessions import UserDirectory

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mcp_server_claude.settings import Settings
    from mcp_server_claude.store import Store
    from mcp_server_claude.store.user_rows import UserChanges
    from mcp_server_claude.users.tokens_and_sessions import UserListing
    from mcp_server_claude.users.user import User

T = TypeVar("T")

BUDGET_PATTERN = re.compile(r"\$?(\d+(?:\.\d+)?|\.\d+)(?:\s*/\s*(?:d|day))?", re.IGNORECASE | re.ASCII)
MAX_LIMIT = 1e9
DEFAULT_URL = "http://127.0.0.1:8000"
"""Where `serve --http` listens by itself."""

SUMMARY = "Manage the users of the HTTP server: add, list, set, rotate, remove."

app = subcommand_group(SUMMARY)

NameArgument = Annotated[str, typer.Argument(help="Letters a-z, digits, and . _ @ -", metavar="NAME")]
BudgetOption = Annotated[
    str, typer.Option(metavar="USD", help="Budget for each UTC day: 5/day, 0.50, none or default.")
]
PerMinuteOption = Annotated[str, typer.Option(metavar="N", help="Calls started per minute: a number, none or default.")]
ConcurrentOption = Annotated[str, typer.Option(metavar="N", help="Concurrent calls: a number, none or default.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print only the token.")]


@app.command("add")
def add_user(
    name: NameArgument,
    budget: BudgetOption = "",
    per_minute: PerMinuteOption = "",
    concurrent: ConcurrentOption = "",
    *,
    operator: Annotated[bool, typer.Option("--operator", help="Allow the user to see the usage of all users.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Restore a removed user of this name.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Create a user and print the token, which cannot be shown again."""
    changes = _parse_changes(budget, per_minute, concurrent, operator=operator or None)
    user, token = _run_with_users(lambda users: users.add_user(name, changes, restore=again))
    if not quiet:
        typer.echo(f"{_describe_user(user)}\n")
    _print_token(token, quiet=quiet)


@app.command("list")
def list_users() -> None:
    """List the users with their limits and today's cost."""
    listed = _run_with_users(_read_users)
    if not listed:
        typer.echo(f"There are no users. To add one: {pasteable_command('user', 'add', 'NAME')}")
        return
    head = ("name", "role", "signs in by", "last request (UTC)", "budget", "cost today", "per minute", "concurrent")
    terminal_output.print_table(head, [_user_row(each) for each in listed], left=4)


@app.command("rotate")
def rotate_token(name: NameArgument, *, quiet: QuietOption = False) -> None:
    """Print a new token for a user. The old token and every session end at once."""
    token = _run_with_users(lambda users: users.rotate_token(name))
    _print_token(token, quiet=quiet)


@app.command("remove")
def remove_user(name: NameArgument) -> None:
    """Revoke a user's access. The ledger keeps the name and what it spent."""
    _run_with_users(lambda users: users.remove_user(name))
    removed = name.strip().lower()
    typer.echo(
        f"{removed} is removed; token and sessions have ended. Running calls finish.\n"
        f"To delete their prompts and answers: {pasteable_command('forget', '--user', removed)}"
    )


@app.command("set")
def set_limits(
    name: NameArgument,
    budget: BudgetOption = "",
    per_minute: PerMinuteOption = "",
    concurrent: ConcurrentOption = "",
    *,
    operator: Annotated[
        bool | None,
        typer.Option("--operator/--no-operator", help="Allow the user to see the usage of all users, or not."),
    ] = None,
) -> None:
    """Change a user's limits or role, from their next request on."""
    changes = _parse_changes(budget, per_minute, concurrent, operator=operator)
    if not changes:
        raise typer.BadParameter("name what to change: --budget, --per-minute, --concurrent or --operator.")
    typer.echo(_describe_user(_run_with_users(lambda users: users.change_user(name, changes))))


def parse_budget(text: str) -> float | None:
    """Dollars a day: infinite for `none`, None for `default`.

    Raises:
        typer.BadParameter: The text is none of these.
    """
    word = text.strip().lower()
    if word in {"none", "default"}:
        return math.inf if word == "none" else None
    found = BUDGET_PATTERN.fullmatch(word)
    if found is None or float(found[1]) > MAX_LIMIT:
        raise typer.BadParameter(
            "expected dollars a day such as 5/day, 5 or 0.50; or none; or default.", param_hint="--budget"
        )
    return float(found[1])


def parse_count(text: str, option: str) -> int | None:
    """A number of calls: 0 for `none`, None for `default`.

    Raises:
        typer.BadParameter: The text is none of these.
    """
    word = text.strip().lower()
    if word in {"none", "default"}:
        return 0 if word == "none" else None
    if not word.isdecimal() or not word.isascii() or not 0 < int(word) <= MAX_LIMIT:
        raise typer.BadParameter("expected a number of calls from 1 up; or none; or default.", param_hint=option)
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
    return await work(UserDirectory(settings, store))


async def _read_users(users: UserDirectory) -> list[UserListing]:
    return await users.list_users()


def _describe_user(user: User) -> str:
    limits = user.limits
    budget = "no budget" if limits.usd_per_day is None else f"{number_formatting.format_usd(limits.usd_per_day)} a day"
    calls = number_formatting.format_count(limits.calls_per_minute, "call")
    minute = f"{calls} per minute" if limits.calls_per_minute else "no limit per minute"
    concurrent = f"{limits.concurrent} concurrent" if limits.concurrent else "no limit on concurrent calls"
    return f"{user.name}: {user.role}, {budget}, {minute}, {concurrent}."


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
    """Print the token with the lines that use it."""
    if quiet:
        typer.echo(token)
        return
    public = terminal_output.load_settings().public_url.rstrip("/")
    url = public or DEFAULT_URL
    typer.echo(f"The token, printed only this once:\n\n  {token}\n\nIn Claude Code:\n")
    typer.echo(
        f'  claude mcp add --transport http {SERVER_NAME} {url}/mcp --header "Authorization: Bearer {token}"\n\n'
        f"In a browser: {url}/signin\n\nIn a shell:\n\n"
        f"  curl -N {url}/chat -H 'Authorization: Bearer {token}' -H 'Content-Type: application/json' "
        '-d \'{"message": "Hello"}\''
    )
    if not public:
        typer.secho("\nIf people reach the server at another address, set MCP_CLAUDE_PUBLIC_URL.", dim=True)
