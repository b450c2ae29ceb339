"""`mcp-server-claude move`: copy the store into a PostgreSQL database that several servers can share."""

from __future__ import annotations

from typing import Annotated

import typer

from mcp_server_claude.cli import terminal_output
from mcp_server_claude.errors import ConfigurationError
from mcp_server_claude.store import store_errors_as


def move_to_postgres(
    to: Annotated[str, typer.Option("--to", help="URL of an empty database: postgresql://…", metavar="URL")],
) -> None:
    """Copy ledger, threads, users and jobs into a PostgreSQL database, checked row by row. The file stays as it is."""
    try:
        from mcp_server_claude.store.postgres_copy import copy_to_postgres
    except ImportError:
        raise ConfigurationError(
            "This needs an extra: pip install 'mcp-server-claude[postgres]'.", kind="missing_extra"
        ) from None
    directory = terminal_output.load_settings().data_dir
    try:
        with store_errors_as("The database could not be moved"):
            rows = copy_to_postgres(directory, to)
    except FileNotFoundError:
        raise ConfigurationError(f"There is no database in {directory}.", kind="store") from None
    except OSError as error:
        raise terminal_output.file_error(
            f"The database in {directory} cannot be read", error, ConfigurationError
        ) from None
    terminal_output.print_table(("table", "rows"), [(name, str(count)) for name, count in rows.items()])
    typer.echo(
        "Every row was read back and compared. Set MCP_CLAUDE_DATABASE_URL to use the database from now on; "
        f"the file in {directory} was not changed."
    )
