"""`mcp-server-claude backup` and `forget`: what is kept, kept safe, or kept no longer."""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer

from mcp_server_claude.cli import terminal_output
from mcp_server_claude.cli.usage import parse_moment

if TYPE_CHECKING:
    from mcp_server_claude.store.erasure import Forgotten, What


def back_up(
    file: Annotated[Path, typer.Argument(help="The new file; one that exists is left alone.", metavar="FILE")],
) -> None:
    """Copy the ledger, threads and users into a file, also while servers run."""
    from mcp_server_claude.store import StoreError, backup
    from mcp_server_claude.store.sqlite_connection import FILE

    source = terminal_output.settings().data_dir / FILE
    try:
        size = backup.copy(source, file)
    except FileExistsError as error:
        terminal_output.fail(f"{error.filename} is there already. Name a new file.")
    except FileNotFoundError:
        terminal_output.fail(f"There is no {source if not source.exists() else file.absolute().parent}.")
    except OSError as error:
        terminal_output.fail(f"{file} cannot be written: {error.strerror or type(error).__name__}.")
    except StoreError as error:
        terminal_output.fail(error)
    typer.echo(f"{file}: {_size(size)}, checked. It holds what people asked and were answered: keep it as safe.")


def forget(
    user: Annotated[str, typer.Option(help="Only this user's.", metavar="NAME")] = "",
    before: Annotated[
        str, typer.Option(help="Only what ended before: a date such as 2026-11-01 (UTC), or 30d for 30 days ago.")
    ] = "",
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask first.")] = False,
) -> None:
    """Delete what was asked and answered, for good. What it cost stays in the ledger."""
    from mcp_server_claude.store.erasure import What

    if not user and not before:
        raise typer.BadParameter("say whose (--user NAME), or how old (--before DATE), or both.")
    moment = parse_moment(before, "--before").timestamp() if before else math.inf
    what = What(user=user.strip().lower() or None, before=moment)
    if not yes:
        _ask(what)
    forgotten, emptied = _guarded(what)
    typer.echo(_told(forgotten, "Deleted"))
    if not emptied:
        terminal_output.fail("Another process kept reading, so that the file may still hold the text. Do it once more.")


def _ask(what: What) -> None:
    """Say what would go, and go on only with a yes."""
    from mcp_server_claude.store import StoreError, erasure

    try:
        found = erasure.preview(terminal_output.settings().data_dir, what, time.time())
    except (OSError, StoreError) as error:
        terminal_output.fail(error)
    if found.nothing:
        typer.echo("There is no such text.")
        raise typer.Exit
    typer.echo(_told(found, "To be deleted"))
    if not sys.stdin.isatty():
        terminal_output.fail("Nothing was deleted: say --yes.")
    typer.confirm("Delete it for good?", abort=True)


def _guarded(what: What) -> tuple[Forgotten, bool]:
    from mcp_server_claude.store import StoreError, erasure

    try:
        return erasure.erase(terminal_output.settings().data_dir, what, time.time())
    except (OSError, StoreError) as error:
        terminal_output.fail(error)


def _told(forgotten: Forgotten, verb: str) -> str:
    calls, threads = _count(forgotten.calls, "call"), _count(forgotten.threads, "thread")
    told = (
        f"{verb}: the text of {calls} and {threads}, the names of {_count(forgotten.files, 'file')}. "
        "What they cost stays in the ledger."
    )
    if forgotten.running:
        told += f"\n{_count(forgotten.running, 'call')} being answered right now: do it once more when they have ended."
    return told


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _size(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"
