"""Helpers that several commands share: open the ledger, print a table, end with a sentence on stderr."""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING, NoReturn, TypeVar

import anyio
import typer

from mcp_server_claude.errors import CallError, ConfigurationError
from mcp_server_claude.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from mcp_server_claude.store import Store

T = TypeVar("T")


def exit_with_error(why: object) -> NoReturn:
    """End with a line on stderr and exit code 1."""
    typer.secho(str(why), fg="red", err=True)
    raise typer.Exit(1)


@cache
def load_settings() -> Settings:
    """The settings; what of them could not be read is told on stderr."""
    loaded = Settings.load()
    for problem in loaded.problems:
        typer.secho(problem, fg="yellow", err=True)
    return loaded


def run_with_store(work: Callable[[Settings, Store], Awaitable[T]]) -> T:
    """Run `work` with the ledger on disk and return its result; an error ends the command."""
    logging.disable()  # what it would say is among the failures
    try:
        return anyio.run(_with_open_store, load_settings(), work)
    except CallError as failure:
        exit_with_error(failure)


async def _with_open_store(settings: Settings, work: Callable[[Settings, Store], Awaitable[T]]) -> T:
    from mcp_server_claude.store import Store

    store = await anyio.to_thread.run_sync(Store.open, settings.data_dir)
    try:
        if not store.durable:
            raise ConfigurationError(store.last_error, kind="store")
        return await work(settings, store)
    finally:
        await store.close()


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
