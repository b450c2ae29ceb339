"""What several commands say and do alike: open the ledger, print a table, end with a sentence on stderr."""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING, NoReturn, TypeVar

import anyio
import typer

from mcp_server_claude.errors import Failure, Misconfigured
from mcp_server_claude.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from mcp_server_claude.store import Store

T = TypeVar("T")


def fail(why: object) -> NoReturn:
    """End with a line on stderr and exit code 1."""
    typer.secho(str(why), fg="red", err=True)
    raise typer.Exit(1)


@cache
def settings() -> Settings:
    """The settings; what of them could not be read is told on stderr."""
    loaded = Settings.load()
    for problem in loaded.problems:
        typer.secho(problem, fg="yellow", err=True)
    return loaded


def with_store(work: Callable[[Settings, Store], Awaitable[T]]) -> T:
    """What `work` returns, given the ledger on disk; a failure ends the command."""
    logging.disable()  # what it would say is among the failures
    try:
        return anyio.run(_open, settings(), work)
    except Failure as failure:
        fail(failure)


async def _open(settings: Settings, work: Callable[[Settings, Store], Awaitable[T]]) -> T:
    from mcp_server_claude.store import Store

    store = await anyio.to_thread.run_sync(Store.open, settings.data_dir)
    try:
        if not store.durable:
            raise Misconfigured(store.trouble, kind="ledger")
        return await work(settings, store)
    finally:
        await store.close()


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> None:
    """Print columns that line up: the first `left` by their beginnings, the others, numbers, by their ends."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for line in lines:
        cells = [
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        typer.echo("  ".join(cells).rstrip())
