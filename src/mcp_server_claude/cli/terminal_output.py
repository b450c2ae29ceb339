"""Helpers that several commands share: open the ledger, print a table or an error."""

from __future__ import annotations

import shutil
import signal
import sys
import textwrap
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, TypeVar

import anyio
import anyio.to_thread
import typer
from rich.cells import cell_len, set_cell_size

from mcp_server_claude.cli.command_line import pasteable_command
from mcp_server_claude.errors import (
    ConfigurationError,
    RequestError,
    TemporaryError,
    UnknownIdError,
    local_resource_error,
)
from mcp_server_claude.settings import Settings
from mcp_server_claude.store import Store, call_journal, request_ledger, store_errors_as, user_rows
from mcp_server_claude.telemetry import stderr_logging
from mcp_server_claude.users.user import LOCAL

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Sequence

    from mcp_server_claude.errors import CallError

T = TypeVar("T")

GAP = "  "
RECORD_INDENT = "  "
MIN_PARAGRAPH_COLUMNS = 40
MIN_TEXT_COLUMNS = 16
"""Columns of a terminal to which a text is cut at most."""


def shell_error_text(error: CallError) -> str:
    """The text of an error for a reader of the shell, who finds ids with a command."""
    if not isinstance(error, UnknownIdError):
        return str(error)
    listed = "threads" if error.thing == "thread" else "jobs"
    return f"{error} To see the latest: {pasteable_command(listed, 'list')}"


def print_call_error(failure: CallError) -> None:
    """Print an error on stderr, unless it repeats what `load_settings` has printed."""
    if str(failure) != " ".join(load_settings().problems):
        typer.secho(shell_error_text(failure), fg="red", err=True)


def file_error(
    sentence: str, error: OSError, error_class: type[RequestError | ConfigurationError] = RequestError
) -> CallError:
    """The error for a file: a full disk is temporary, anything else is of `error_class`.

    That is RequestError for a file that the user named, and ConfigurationError for one of the server's own. `sentence`
    says what cannot be done, without a full stop; the system's reason is added.
    """
    message = f"{sentence}: {error.strerror or type(error).__name__}."
    if local_resource_error(error):
        return TemporaryError(message, kind="local_resources")
    return error_class(message, kind="store" if error_class is ConfigurationError else "invalid_request")


@cache
def load_settings() -> Settings:
    """The settings; each one that could not be read is a line on stderr."""
    loaded = Settings.load()
    for problem in loaded.problems:
        typer.secho(problem, fg="yellow", err=True)
    return loaded


def run_with_store(work: Callable[[Settings, Store], Awaitable[T]]) -> T:
    """Run `work` with the ledger on disk and return its result.

    Raises:
        CallError: The ledger cannot be opened, or `work` raised it.
    """
    stderr_logging.log_only_bugs()
    return anyio.run(_with_open_store, load_settings(), work)


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


@contextmanager
def interruptible_input() -> Generator[None]:
    """Let Ctrl-C interrupt an `input()` of the block, which must run on the main thread.

    The event loop stands still meanwhile. asyncio's own handler cancels a task, which does not end a read, and a thread
    that reads cannot be interrupted at all.

    Raises:
        KeyboardInterrupt: Ctrl-C.
    """
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> None:
    """Print columns that line up, or records where a terminal is too narrow for them.

    The first `left` columns are aligned at their beginnings, the others, numbers, at their ends.
    """
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for line in table_lines(head, rows, left=left, max_width=width):
        typer.echo(line)


def table_lines(head: Sequence[str], rows: Sequence[Sequence[str]], *, left: int, max_width: int | None) -> list[str]:
    """The lines of a table. A last column of text is cut if that is enough for it to fit."""
    lines = [head, *rows]
    widths = [max(cell_len(line[column]) for line in lines) for column in range(len(head))]
    if max_width is not None and (excess := sum(widths) + len(GAP) * (len(head) - 1) - max_width) > 0:
        widths[-1] -= excess
        if left < len(head) or widths[-1] < MIN_TEXT_COLUMNS:
            return _record_lines(head, rows, max_width)
    return [
        GAP.join(
            _fit(cell, width, left=column < left) for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]


def print_parts(parts: Sequence[str], *, fg: str | None = None) -> None:
    """Print parts with dots between them on stderr, on a terminal in lines that fit; dim without a color."""
    width = shutil.get_terminal_size().columns if sys.stderr.isatty() else sys.maxsize
    for line in join_lines(parts, width, indent=" "):
        typer.secho(line, fg=fg, dim=fg is None, err=True)


def join_lines(parts: Sequence[str], max_width: int, *, indent: str = "") -> list[str]:
    """Parts with dots between them, as many in a line as fit; further lines are indented."""
    lines = [""]
    for part in parts:
        joined = f"{lines[-1]} · {part}" if lines[-1].strip() else lines[-1] + part
        if cell_len(joined) > max_width and lines[-1].strip():
            lines.append(indent + part)
        else:
            lines[-1] = joined
    return lines


def wrap_paragraph(text: str, max_width: int, *, label: str = "", indent: int = 0) -> str:
    """A label and a text in lines of whole words; the second and further lines begin `indent` columns from the left.

    Commands and paths stay in one piece, so that they can be copied.
    """
    return textwrap.fill(
        text,
        width=max(max_width, MIN_PARAGRAPH_COLUMNS),
        initial_indent=label,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def stdout_columns() -> int:
    """The width of the terminal; no limit where stdout is no terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize


def _record_lines(head: Sequence[str], rows: Sequence[Sequence[str]], max_width: int) -> list[str]:
    lines: list[str] = []
    width = max_width - len(RECORD_INDENT)
    for row in rows:
        fields = [f"{name} {cell}" for name, cell in zip(head[1:], row[1:], strict=True) if cell]
        fields = [_fit(field, min(width, cell_len(field)), left=True) for field in fields]
        lines += [row[0], *(RECORD_INDENT + line for line in join_lines(fields, width))]
    return lines


def _fit(cell: str, width: int, *, left: bool) -> str:
    missing = width - cell_len(cell)
    if missing < 0:
        return set_cell_size(cell, width - 1).rstrip() + "…"
    return cell + " " * missing if left else " " * missing + cell
