"""Helpers that several commands share: open the ledger, print a table, end with a sentence on stderr."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, NoReturn, TypeVar

import anyio
import anyio.to_thread
import typer

from mcp_server_claude.cli.command_line import pasteable_command
from mcp_server_claude.errors import CallError, ConfigurationError, RequestError, UnknownIdError
from mcp_server_claude.settings import Settings
from mcp_server_claude.store import Store, call_journal, request_ledger, store_errors_as, user_rows
from mcp_server_claude.telemetry import stderr_logging
from mcp_server_claude.users.user import LOCAL

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

T = TypeVar("T")


def shell_error_text(error: CallError) -> str:
    """The text of an error for a reader of the shell, who finds ids with a command."""
    if not isinstance(error, UnknownIdError):
        return str(error)
    listed = "threads" if error.thing == "thread" else "jobs"
    return f"{error} To see the latest: {pasteable_command(listed, 'list')}"


def exit_with_error(why: object) -> NoReturn:
    """End with a line on stderr and exit code 1."""
    typer.secho(str(why), fg="red", err=True)
    raise typer.Exit(1)


@cache
def load_settings() -> Settings:
    """The settings; each one that could not be read is a line on stderr."""
    loaded = Settings.load()
    for problem in loaded.problems:
        typer.secho(problem, fg="yellow", err=True)
    return loaded


def run_with_store(work: Callable[[Settings, Store], Awaitable[T]]) -> T:
    """Run `work` with the ledger on disk and return its result; an error ends the command."""
    stderr_logging.log_only_bugs()
    try:
        return anyio.run(_with_open_store, load_settings(), work)
    except CallError as failure:
        exit_with_error(shell_error_text(failure))


async def _with_open_store(settings: Settings, work: Callable[[Settings, Store], Awaitable[T]]) -> T:
    store = await anyio.to_thread.run_sync(Store.open, settings.data_dir, settings.store_url)
    try:
        if not store.durable:
            raise ConfigurationError(store.last_error, kind="store")
        return await work(settings, store)
    finally:
        await store.close()


async def check_user_exists(_: Settings, store: Store, *, name: str) -> None:
    """Check that a user of that name exists or existed.

    Raises:
        RequestError: There is no such user.
    """
    if name == LOCAL.name:
        return
    with store_errors_as("The users could not be read"):
        if await store.read(user_rows.find_user, name) is not None:
            return
        (total,) = await store.read(request_ledger.summarize_usage, 0.0, user=name, by=())
        has_asked = bool(total.requests or await store.read(call_journal.recent_calls, name, 1))
    if not has_asked:
        raise RequestError(f"There is no user named {name!r}. To see all: {pasteable_command('user', 'list')}")


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> None:
    """Print columns that line up: the first `left` by their beginnings, the others, numbers, by their ends."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for line in lines:
        cells = [
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        typer.echo("  ".join(cells).rstrip())
