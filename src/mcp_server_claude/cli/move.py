"""`mcp-server-claude move`: copy the store into a PostgreSQL database that several servers can share."""

from __future__ import annotations

from typing import Annotated

import typer

from mcp_server_claude.cli import terminal_output


def move_to_postgres(
    to: Annotated[str, typer.Option("--to", help="URL of an empty database: postgresql://…", metavar="URL")],
) -> None:
    """Copy ledger, threads, users and jobs into a PostgreSQL database, checked row by row. The file stays as it is."""
    try:
        from mcp_server_claude.store.postgres_copy import copy_to_postgres
    except ImportError:
        terminal_output.exit_with_error("This needs an extra: pip install 'mcp-server-claude[postgres]'.")
    from mcp_server_claude.store import StoreError

    directory = terminal_output.load_settings().data_dir
    try:
        rows = copy_to_postgres(directory, to)
    except FileNotFoundError:
        terminal_output.exit_with_error(f"There is no database in {directory}.")
    except (OSError, StoreError) as error:
        terminal_output.exit_with_error(error)
    terminal_output.print_table(("table", "rows"), [(name, str(count)) for name, count in rows.items()])
    typer.echo(
        "Every row was read back and compared. Set MCP_CLAUDE_DATABASE_URL to use the database from now on; "
        f"the file in {directory} was not changed."
    )
