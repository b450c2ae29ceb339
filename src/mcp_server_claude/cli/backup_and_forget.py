"""`mcp-server-claude backup` and `forget`: copy the database, and delete text from it."""

from __future__ import annotations

import math
import sys
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mcp_server_claude import number_formatting
from mcp_server_claude.cli import terminal_output
from mcp_server_claude.cli.line_history import HISTORY_FILE
from mcp_server_claude.cli.usage import parse_time_option
from mcp_server_claude.errors import ConfigurationError, RequestError, TemporaryError
from mcp_server_claude.store import backup, erasure, store_errors_as
from mcp_server_claude.store.erasure import ErasureFilter
from mcp_server_claude.store.sqlite_connection import DATABASE_FILE
from mcp_server_claude.users.user import LOCAL

if TYPE_CHECKING:
    from collections.abc import Generator

    from mcp_server_claude.errors import CallError
    from mcp_server_claude.settings import Settings
    from mcp_server_claude.store.erasure import ErasureCounts


def back_up(
    file: Annotated[Path, typer.Argument(help="The new file. An existing file is never overwritten.", metavar="FILE")],
) -> None:
    """Copy the ledger, threads and users into a file while servers run."""
    settings = terminal_output.load_settings()
    if settings.store_url:
        raise RequestError(
            "The store is on PostgreSQL, which has its own backups: pg_dump --format=custom --file=FILE URL"
        )
    source = settings.data_dir / DATABASE_FILE
    try:
        with store_errors_as("The database could not be copied"):
            size = backup.copy_database(source, file)
    except OSError as error:
        raise _backup_error(error, source, file) from None
    typer.echo(
        f"{file}: {_format_size(size)}, checked. It contains everybody's conversations; protect it like the original."
    )


def forget_text(
    user: Annotated[str, typer.Option(help="Delete only the text of this user.", metavar="NAME")] = "",
    before: Annotated[
        str,
        typer.Option(
            help="Delete only calls that ended before a date such as 2026-11-01 (UTC), or 30d for 30 days ago."
        ),
    ] = "",
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
) -> None:
    """Delete prompts and answers for good. Their cost stays in the ledger.

    The lines typed into `chat` have no date, so all of them are deleted, unless another user is named.
    """
    if not user and not before:
        raise typer.BadParameter("name a user (--user NAME), a date (--before DATE), or both.")
    moment = parse_time_option(before, "--before").timestamp() if before else math.inf
    name = user.strip().lower()
    if name:
        terminal_output.run_with_store(partial(terminal_output.check_user_exists, name=name))
    what = ErasureFilter(user=name or None, before=moment)
    history = _line_history(what)
    if not yes:
        _confirm_erasure(what, history)
    forgotten, emptied = _erase_text(what)
    if history is not None:
        try:
            history.unlink(missing_ok=True)
        except OSError as error:
            raise terminal_output.file_error(f"{history} cannot be deleted", error, ConfigurationError) from None
    typer.echo(_erasure_summary(forgotten, history, "Deleted"))
    if not emptied:
        raise TemporaryError(
            "Another process kept reading, so the file may still contain the text. Run the command again.",
            kind="store",
        )


def _backup_error(error: OSError, source: Path, target: Path) -> CallError:
    """The error for a copy that failed: the source is the server's own, the target is what the user named."""
    if error.filename == str(source):
        if isinstance(error, FileNotFoundError):
            return ConfigurationError(f"There is no {source}.", kind="store")
        return terminal_output.file_error(f"{source} cannot be read", error, ConfigurationError)
    if isinstance(error, FileExistsError):
        return RequestError(f"{error.filename} already exists. Choose another name.")
    if isinstance(error, FileNotFoundError):
        return RequestError(f"There is no {target.absolute().parent}.")
    return terminal_output.file_error(f"{target} cannot be written", error)


def _line_history(what: ErasureFilter) -> Path | None:
    """The file of the lines typed into `chat`, if there is one and the user at the shell is meant."""
    history = terminal_output.load_settings().data_dir / HISTORY_FILE
    return history if what.user in {None, LOCAL.name} and history.exists() else None


def _confirm_erasure(what: ErasureFilter, history: Path | None) -> None:
    """Print what would be deleted, and continue only after a yes."""
    settings = terminal_output.load_settings()
    with _database_errors(settings):
        if settings.store_url:
            found = terminal_output.run_with_store(
                lambda _, store: erasure.preview_erasure_in_store(store, what, time.time())
            )
        else:
            found = erasure.preview_erasure(settings.data_dir, what, time.time())
    if found.is_empty and history is None:
        typer.echo("There is nothing to delete.")
        raise typer.Exit
    typer.echo(_erasure_summary(found, history, "To be deleted"))
    if not sys.stdin.isatty():
        raise RequestError("Nothing was deleted. Add --yes to delete without being asked.", kind="confirmation")
    typer.confirm("Delete it for good?", abort=True)


def _erase_text(what: ErasureFilter) -> tuple[ErasureCounts, bool]:
    settings = terminal_output.load_settings()
    with _database_errors(settings):
        if settings.store_url:  # the server overwrites the deleted rows when it vacuums
            erased = terminal_output.run_with_store(
                lambda _, store: store.write(erasure.erase_text, what, store.locks, time.time())
            )
            return erased, True
        return erasure.erase_from_file(settings.data_dir, what, time.time())


@contextmanager
def _database_errors(settings: Settings) -> Generator[None]:
    """Raise an error of the database in the block as the error of a call."""
    try:
        with store_errors_as("The text could not be deleted"):
            yield
    except OSError as error:
        raise terminal_output.file_error(
            f"The database in {settings.data_dir} cannot be opened", error, ConfigurationError
        ) from None


def _erasure_summary(forgotten: ErasureCounts, history: Path | None, verb: str) -> str:
    calls, threads = (
        number_formatting.format_count(forgotten.calls, "call"),
        number_formatting.format_count(forgotten.threads, "thread"),
    )
    files, jobs = (
        number_formatting.format_count(forgotten.files, "file"),
        number_formatting.format_count(forgotten.jobs, "job"),
    )
    summary = (
        f"{verb}: the text of {calls} and {threads}, the names of {files}"
        f"{f', {jobs}' if forgotten.jobs else ''}{', the lines typed into chat' if history else ''}. "
        "Their cost stays in the ledger."
    )
    if forgotten.running:
        still = number_formatting.format_count(forgotten.running, "call")
        summary += f"\n{still} still running: run the command again when they have finished."
    return summary


def _format_size(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"
